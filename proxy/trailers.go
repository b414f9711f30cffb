package proxy

import "net/http"

// makeRoomForTrailers takes the length from an answer that announces trailers: HTTP/2 can have both, HTTP/1.1 has trailers only behind
// chunks (RFC 9112 §7.1.2).
func (e *exchange) makeRoomForTrailers(r *http.Response) {
	if len(r.Trailer) > 0 && e.in.ProtoMajor == 1 && e.in.ProtoMinor > 0 && e.in.Method != http.MethodHead {
		r.Header.Del("Content-Length")
	}
}
