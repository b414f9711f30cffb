package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"cutover/rules"
)

// What is asked for by ALPN.
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

const tlsTimeout = 5 * time.Second // of a handshake, where the row says nothing

// security makes connections to one target secure, as the row of its upstream says. Use newSecurity.
type security struct {
	row   rules.TargetTLS
	files *tlsFiles
	roots *x509.CertPool // where the row names none; nil means the system's
	name  string         // that the target must have
	pins  []rules.Pin
	wrong error // why the row makes no sense
	limit time.Duration

	mu       sync.Mutex
	sessions tls.ClientSessionCache // to resume
	of       *material              // that they were begun with
}

func newSecurity(o Options, host string, m *manner) *security {
	s := &security{row: m.tls, files: o.files, roots: o.Roots, name: host, limit: tlsTimeout}
	if s.row.ServerName != "" {
		s.name = s.row.ServerName
	}
	if m.timeouts.TLS > 0 {
		s.limit = rules.Seconds(m.timeouts.TLS)
	}
	if s.files == nil {
		s.files = newTLSFiles(o.FilesDir, o.log())
	}
	s.pins, s.wrong = s.row.Pins()
	return s
}

// handshake makes a connection secure and sees to it that the target is the right one. protocol is asked for by ALPN, empty for
// none. If it fails the connection is closed, and the error says what can be done.
func (s *security) handshake(ctx context.Context, plain net.Conn, protocol string) (*tls.Conn, error) {
	config, err := s.config(protocol)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	conn := tls.Client(plain, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = plain.Close() // it is of no use
		return nil, s.explain(err, protocol)
	}
	if protocol == alpnHTTP2 && conn.ConnectionState().NegotiatedProtocol != alpnHTTP2 {
		_ = conn.Close()
		return nil, errNoHTTP2
	}
	return conn, nil
}

// config returns how the next handshake is made.
func (s *security) config(protocol string) (*tls.Config, error) {
	if s.wrong != nil {
		return nil, s.wrong
	}
	material, err := s.files.get(tlsNamesOf(&s.row))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: s.name, RootCAs: s.roots, MinVersion: tls.VersionTLS12, ClientSessionCache: s.sessionsOf(material)}
	if protocol != "" {
		config.NextProtos = []string{protocol}
	}
	if material.roots != nil {
		config.RootCAs = material.roots
	}
	if own := material.own; own != nil { // whatever authorities the target names
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	if len(s.pins) > 0 {
		config.VerifyConnection = s.checkPin              // of resumed sessions, too
		config.InsecureSkipVerify = material.roots == nil //nolint:gosec // the pin says who the target is
	}
	return config, nil
}

// sessionsOf returns the sessions that were begun with the same files: a resumed one proves nothing anew, for either side.
func (s *security) sessionsOf(m *material) tls.ClientSessionCache {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of != m || s.sessions == nil {
		s.of, s.sessions = m, tls.NewLRUClientSessionCache(1) // there is one target
	}
	return s.sessions
}

// errNoHTTP2 says that a target which is to speak HTTP/2 does not.
var errNoHTTP2 = errors.New("the target speaks TLS, but no HTTP/2 there (ALPN h2): write its url with https://")

// pinError says which key a target has, and that it is none of those that it may have.
type pinError struct{ has rules.Pin }

func (e *pinError) Error() string {
	return "the key of its certificate is " + e.has.String() + ", which tls_pin does not name: if the target has a new key, add it there; else somebody else answers in its place"
}

// checkPin looks at the target's own certificate alone: others, which it sends along, it need not have the key of.
func (s *security) checkPin(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the target shows no certificate")
	}
	if has := pinOf(state.PeerCertificates[0]); !slices.Contains(s.pins, has) {
		return &pinError{has}
	}
	return nil
}

func pinOf(certificate *x509.Certificate) rules.Pin {
	return sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
}

// explain puts what can be done before an error of a handshake.
func (s *security) explain(err error, protocol string) error {
	var record tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return fmt.Errorf("%s: %w", s.doubt(err), err)
	case errors.As(err, &record):
		return fmt.Errorf("the target speaks no TLS there: write its url with http:// or h2c://: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the TLS handshake took longer than %v: %w", s.limit, err)
	case errors.As(err, &remote) && remote.Op == "remote error":
		return explainAlert(remote, protocol, s.row.Certificate)
	}
	return fmt.Errorf("the TLS handshake failed: %w", err)
}

// doubt says why a certificate is not believed, and what to do.
func (s *security) doubt(err error) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &name):
		return fmt.Sprintf("its certificate is for %s, not for %s: set tls_server_name to a name that it has", namesIn(name.Certificate), s.name)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return outOfTime(invalid.Cert)
	case errors.As(err, &unknown):
		return s.unknownAuthority(unknown.Cert)
	}
	return "its certificate is not good"
}

func outOfTime(certificate *x509.Certificate) string {
	if certificate.NotBefore.After(time.Now()) {
		return "its certificate begins on " + certificate.NotBefore.Format(time.RFC3339) + ": see that the clocks here and there are right"
	}
	return "its certificate ended on " + certificate.NotAfter.Format(time.RFC3339) + ": renew it there"
}

func (s *security) unknownAuthority(certificate *x509.Certificate) string {
	issuer := "an authority"
	if certificate != nil {
		issuer = certificate.Issuer.String()
	}
	if s.row.CA != "" {
		return fmt.Sprintf("its certificate is signed by %s, which %s does not hold: put that authority's certificate there", issuer, s.files.path(s.row.CA, ".pem"))
	}
	return fmt.Sprintf("its certificate is signed by %s, which nobody here trusts: put that authority's certificate into %s and set tls_ca to NAME", issuer, s.files.path("NAME", ".pem"))
}

// namesIn lists what a certificate is for, as far as it fits into a line.
func namesIn(certificate *x509.Certificate) string {
	names := slices.Clone(certificate.DNSNames)
	for _, ip := range certificate.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) > 5 {
		names = append(names[:5], "…")
	}
	if len(names) == 0 {
		return "no name"
	}
	return strings.Join(names, ", ")
}

// explainRefusal does so where a target refuses only after the handshake has ended for us, as it does with TLS 1.3.
func (s *security) explainRefusal(err error) error {
	var remote *net.OpError
	if errors.As(err, &remote) && remote.Op == "remote error" && !errors.As(err, new(*alertError)) {
		return explainAlert(remote, "", s.row.Certificate)
	}
	return err
}

// alertError is a target's refusal, with what can be done about it.
type alertError struct {
	advice string
	err    error
}

func (e *alertError) Error() string { return e.advice + ": " + e.err.Error() }
func (e *alertError) Unwrap() error { return e.err }

// explainAlert says what to do about a target's refusal.
func explainAlert(err *net.OpError, protocol, certificate string) error {
	switch reason := err.Err.Error(); {
	case strings.Contains(reason, "no application protocol") && protocol == alpnHTTP2:
		return &alertError{errNoHTTP2.Error(), err}
	case strings.Contains(reason, "no application protocol"):
		return &alertError{"the target's ALPN allows no HTTP/1.1, which WebSocket and other upgrades need", err}
	case strings.Contains(reason, "certificate") && certificate == "":
		return &alertError{"the target wants a client certificate: set tls_certificate", err}
	case strings.Contains(reason, "certificate"):
		return &alertError{"the target does not take the client certificate " + certificate, err}
	}
	return &alertError{"the target refuses the TLS handshake", err}
}
