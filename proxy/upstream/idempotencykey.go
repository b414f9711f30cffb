package upstream

import (
	"maps"
	"net/http"
	"strings"
)

// keyed returns the header with which a request is sent. One that names a key of idempotency, and has no body, net/http would send
// again when a connection dies, whatever its method: beside the limit for repeats, and though only the target can know what the key
// means. It compares the name letter by letter, for others its case means nothing (RFC 9110 §5.1).
func keyed(r *http.Request) http.Header {
	header := r.Header
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		values, has := header[name]
		if !has || isRepeatable(r) {
			continue
		}
		header = maps.Clone(header) // the visitor's stays as it is, for other targets too
		delete(header, name)
		header[strings.ToLower(name)] = values
	}
	return header
}
