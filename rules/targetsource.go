package rules

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// SourceKind says where it is written which addresses a target stands for.
type SourceKind string

// The values of SourceKind.
const (
	SourceAddress  SourceKind = ""         // in its URL: there is one
	SourceDNS      SourceKind = "dns"      // in the addresses of a name: dns+http://app.internal:8080
	SourceSRV      SourceKind = "srv"      // in the SRV records of a name: srv+http://_web._tcp.app.internal
	SourceFile     SourceKind = "file"     // in a file that root owns, a URL on each line: file:NAME
	SourceDroplets SourceKind = "droplets" // in the droplets of an account that have a tag: droplets+http://TAG:8080
	SourceApp      SourceKind = "app"      // in what root has said of a managed program: app:NAME
	SourceCGI      SourceKind = "cgi"      // likewise, of one that is started for each request: cgi:NAME
)

// TargetSource is what the URL of a target says.
type TargetSource struct {
	Kind SourceKind
	// Name is that of the records, the file, the tag or the program; empty for SourceAddress.
	Name string
	// Address is the place itself for SourceAddress. For records and droplets it says what is spoken, and on which port; Dial and
	// Host are empty.
	Address Address
	Port    string
}

// URL returns the URL of a place that was found, at host:port: the beginning is that of the source.
func (s TargetSource) URL(hostPort string) string { return s.Address.scheme() + "://" + hostPort }

// Host returns the name by which targets that were found are known over TLS; empty for that of their own URLs. It is the one
// that the row names, not one that the DNS led to: records are not to be trusted for it (RFC 6125 §6.2.1).
func (s TargetSource) Host() string {
	switch s.Kind {
	case SourceDNS:
		return s.Name
	case SourceSRV: // after _service._proto
		name := s.Name
		for range 2 {
			if label, rest, ok := strings.Cut(name, "."); ok && strings.HasPrefix(label, "_") {
				name = rest
			}
		}
		return name
	}
	return ""
}

// ParseTarget reads the URL of a target.
func ParseTarget(text string) (TargetSource, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	switch kind := SourceKind(scheme); kind {
	case SourceFile, SourceApp, SourceCGI:
		return namedSource(kind, rest)
	}
	outer, inner, found := strings.Cut(scheme, "+")
	switch kind := SourceKind(outer); {
	case found && (kind == SourceDNS || kind == SourceSRV || kind == SourceDroplets):
		return foundSource(kind, inner+":"+rest)
	}
	address, err := ParseAddress(text)
	return TargetSource{Address: address}, err
}

// namedSource reads what stands in a file of root's. Its name cannot leave the folder.
func namedSource(kind SourceKind, name string) (TargetSource, error) {
	if err := ValidateFileName(name); err != nil {
		return TargetSource{}, fmt.Errorf("%s: %w", kind, err)
	}
	return TargetSource{Kind: kind, Name: name}, nil
}

// ValidateFileName returns why a text is no name of a file in a folder of root's.
func ValidateFileName(name string) error {
	if name == "" || len(name) > 63 || name[0] == '.' || name[0] == '-' || !isName(name) {
		return errors.New("the name must be of letters, digits, . _ and -, at most 63, and begin with a letter, a digit or _")
	}
	return nil
}

func foundSource(kind SourceKind, text string) (TargetSource, error) {
	address, err := ParseAddress(text)
	switch {
	case err != nil:
		return TargetSource{}, err
	case address.Network != "tcp":
		return TargetSource{}, fmt.Errorf("%s+ needs a kind with a host: %s+http://name:8080", kind, kind)
	case net.ParseIP(address.Host) != nil:
		return TargetSource{}, fmt.Errorf("%s+ needs a name, not an address", kind)
	}
	_, port, _ := net.SplitHostPort(address.Dial) // ParseAddress made it so
	source := TargetSource{Kind: kind, Name: address.Host, Address: address, Port: port}
	source.Address.Dial, source.Address.Host = "", ""
	return source, nil
}
