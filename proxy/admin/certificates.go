package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"cutover/rules/store"
)

// Certificates is what the API has to do with them. An error that is an *Error is answered as it is.
type Certificates interface {
	List(ctx context.Context) ([]Certificate, error)
	// Show is false where nothing is known of a name.
	Show(ctx context.Context, name string) (CertificateDetail, bool, error)
	// Retry forgets that a name failed, asks for its certificate and waits for it.
	Retry(ctx context.Context, name string) (CertificateDetail, error)
	// Revoke returns the names whose certificate is gone.
	Revoke(ctx context.Context, name string, reason int) ([]string, error)
	Import(ctx context.Context, request CertificateImport) (CertificateImported, error)
}

// CertificateState says how a certificate is.
type CertificateState string

// The states there are.
const (
	CertificateOK         CertificateState = "ok"
	CertificateExpiring   CertificateState = "expiring" // within 7 days, or in the last quarter of a short life
	CertificateExpired    CertificateState = "expired"
	CertificateHeldBack   CertificateState = "held back" // there is none, and it is not asked for again before a time
	CertificateUnruled    CertificateState = "not in the rules"
	CertificateUnreadable CertificateState = "unreadable"
)

// Certificate is a certificate that can be served, or a name that waits for one.
type Certificate struct {
	Name      string           `json:"name"` // a host, *.parent, or the name of a pair of files
	Names     []string         `json:"names,omitempty"`
	Issuer    string           `json:"issuer,omitempty"`
	Serial    string           `json:"serial,omitempty"`
	NotBefore time.Time        `json:"not_before,omitzero"`
	Expires   time.Time        `json:"expires,omitzero"`
	Source    string           `json:"source,omitempty"` // acme, local, file or imported
	From      string           `json:"from,omitempty"`   // what it was imported from
	State     CertificateState `json:"state"`
	Until     time.Time        `json:"held_back_until,omitzero"`
	Problem   string           `json:"problem,omitempty"` // why it, or a newer version of it, cannot be read
}

// CertificateList is the answer to GET /v1/certificates, sorted by name.
type CertificateList struct {
	Certificates []Certificate `json:"certificates"`
}

// CertificateDetail is the answer to GET /v1/certificates/{name}.
type CertificateDetail struct {
	Certificate
	Files []string          `json:"files,omitempty"`
	Chain []CertificateLink `json:"chain,omitempty"`
	// RenewFrom and RenewUntil are the window in which the CA wants it to be renewed, if it named one.
	RenewFrom  time.Time        `json:"renew_from,omitzero"`
	RenewUntil time.Time        `json:"renew_until,omitzero"`
	Failure    *BackedOffStatus `json:"failure,omitempty"` // the last one, if no certificate was had since
}

// CertificateLink is a certificate of a chain.
type CertificateLink struct {
	Subject string    `json:"subject"`
	Issuer  string    `json:"issuer"`
	Expires time.Time `json:"expires"`
}

// RevokeRequest is the body of POST /v1/certificates/{name}/revoke.
type RevokeRequest struct {
	Reason int `json:"reason"` // RFC 5280 §5.3.1
}

// CertificateRevoked is the answer.
type CertificateRevoked struct {
	Names []string `json:"names"` // that have no certificate any more
}

// CertificateImport is the body of POST /v1/certificates.
type CertificateImport struct {
	Pairs    []CertificatePair `json:"pairs"`
	Accounts []CAAccount       `json:"accounts,omitempty"`
	DryRun   bool              `json:"dry_run,omitempty"`
}

// CertificatePair is a certificate with its chain, and its key, as PEM.
type CertificatePair struct {
	Where       string `json:"where"` // it was found
	From        string `json:"from"`  // the program it was obtained by
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// CAAccount is an account at a CA.
type CAAccount struct {
	Where    string `json:"where"`
	Location string `json:"location"` // URL at the CA
	Key      string `json:"key"`      // PEM
}

// CertificateImported is the answer: a line for each name of each pair, in order, and for each account.
type CertificateImported struct {
	Placed []CertificatePlaced `json:"placed"`
}

// CertificatePlaced says what became of a name, or would have.
type CertificatePlaced struct {
	Where   string    `json:"where"`
	Name    string    `json:"name,omitempty"` // empty where the pair is of no use at all
	Expires time.Time `json:"expires,omitzero"`
	Stored  bool      `json:"stored"`
	Reason  string    `json:"reason,omitempty"`
}

// certificates returns who to ask. What changes them is for the process that will serve them longest: the writer of the rules.
func (s *Server) certificates(changes bool) (Certificates, error) {
	if s.Certificates == nil {
		return nil, refuse(http.StatusNotFound, "start the daemon: systemctl start cutover", "there are no certificates here")
	}
	if changes && s.Elsewhere != nil && !s.Store.IsWriter() {
		return nil, store.ErrNotWriter
	}
	return s.Certificates, nil
}

func (s *Server) listCertificates(w http.ResponseWriter, r *http.Request) error {
	certificates, err := s.certificates(false)
	if err != nil {
		return err
	}
	list, err := certificates.List(r.Context())
	if err != nil {
		return err
	}
	if list == nil {
		list = []Certificate{}
	}
	writeJSON(w, http.StatusOK, CertificateList{list})
	return nil
}

func (s *Server) showCertificate(w http.ResponseWriter, r *http.Request) error {
	certificates, err := s.certificates(false)
	if err != nil {
		return err
	}
	name := nameAsked(r)
	detail, known, err := certificates.Show(r.Context(), name)
	if err != nil {
		return err
	}
	if !known {
		return refuse(http.StatusNotFound, "cutover certs ls shows all there are", "there is no certificate for %s", name)
	}
	writeJSON(w, http.StatusOK, detail)
	return nil
}

// nameAsked returns the name that a request is about in the form that certificates are filed under. A name without a dot, or what
// cannot be a host, is that of a pair of files, and stays as it is.
func nameAsked(r *http.Request) string {
	name := r.PathValue("name")
	if normal, err := NormalizePattern(name); err == nil && strings.Contains(normal, ".") {
		return normal
	}
	return name
}

// retryCertificate answers when there is a certificate or a failure.
func (s *Server) retryCertificate(w http.ResponseWriter, r *http.Request) error {
	certificates, err := s.certificates(true)
	if err != nil {
		return err
	}
	takeTime(w)
	detail, err := certificates.Retry(r.Context(), nameAsked(r))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, detail)
	return nil
}

func (s *Server) revokeCertificate(w http.ResponseWriter, r *http.Request) error {
	certificates, err := s.certificates(true)
	if err != nil {
		return err
	}
	var request RevokeRequest
	if err := readJSON(w, r, &request); err != nil {
		return err
	}
	takeTime(w)
	names, err := certificates.Revoke(r.Context(), nameAsked(r), request.Reason)
	if err != nil {
		return err
	}
	s.log().Warn("certificate revoked", slog.String("author", authorOf(r.Context()).String()), slog.Any("names", names), slog.Int("reason", request.Reason))
	writeJSON(w, http.StatusOK, CertificateRevoked{names})
	return nil
}

func (s *Server) importCertificates(w http.ResponseWriter, r *http.Request) error {
	certificates, err := s.certificates(true)
	if err != nil {
		return err
	}
	var request CertificateImport
	if err := readJSON(w, r, &request); err != nil {
		return err
	}
	takeTime(w)
	result, err := certificates.Import(r.Context(), request)
	if err != nil {
		return err
	}
	if !request.DryRun {
		s.log().Info("certificates imported", slog.String("author", authorOf(r.Context()).String()), slog.Int("names", result.Stored()))
	}
	writeJSON(w, http.StatusOK, result)
	return nil
}

// Stored counts the names whose certificate was stored, or would be.
func (i *CertificateImported) Stored() (count int) {
	for _, placed := range i.Placed {
		if placed.Stored {
			count++
		}
	}
	return count
}

// Certificates lists the certificates, and the names that wait for one.
func (c *Client) Certificates(ctx context.Context) (CertificateList, error) {
	return get[CertificateList](ctx, c, "/v1/certificates", "")
}

// Certificate says what is known of a name's certificate.
func (c *Client) Certificate(ctx context.Context, name string) (CertificateDetail, error) {
	return get[CertificateDetail](ctx, c, "/v1/certificates/"+url.PathEscape(name), "")
}

// RetryCertificate asks for a name's certificate now, and waits for it.
func (c *Client) RetryCertificate(ctx context.Context, name string) (CertificateDetail, error) {
	return call[CertificateDetail](ctx, c.patient(), http.MethodPost, "/v1/certificates/"+url.PathEscape(name)+"/retry", nil)
}

// RevokeCertificate has the CA revoke a name's certificate, and removes it.
func (c *Client) RevokeCertificate(ctx context.Context, name string, reason int) (CertificateRevoked, error) {
	return call[CertificateRevoked](ctx, c.patient(), http.MethodPost, "/v1/certificates/"+url.PathEscape(name)+"/revoke", RevokeRequest{reason})
}

// ImportCertificates stores certificates, in as many requests as it takes.
func (c *Client) ImportCertificates(ctx context.Context, request CertificateImport) (CertificateImported, error) {
	all := CertificateImported{Placed: []CertificatePlaced{}}
	for len(request.Pairs)+len(request.Accounts) > 0 {
		part := CertificateImport{DryRun: request.DryRun, Accounts: request.Accounts}
		part.Pairs, request.Pairs = firstPairs(request.Pairs)
		request.Accounts = nil
		result, err := call[CertificateImported](ctx, c.patient(), http.MethodPost, "/v1/certificates", part)
		if err != nil {
			return all, err
		}
		all.Placed = append(all.Placed, result.Placed...)
	}
	return all, nil
}

// firstPairs splits off as many pairs as a request may have, at least one.
func firstPairs(pairs []CertificatePair) (part, rest []CertificatePair) {
	size := 0
	for i, pair := range pairs {
		size += len(pair.Certificate) + len(pair.Key) + len(pair.Where)
		if i > 0 && size > maxBody/4 { // escaping the line ends makes it longer
			return pairs[:i], pairs[i:]
		}
	}
	return pairs, nil
}
