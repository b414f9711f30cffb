package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store/observed"
	"cutover/tlsbridge"
)

// certificateDesk answers the admin API about the certificates.
type certificateDesk struct {
	certificates *tlsbridge.Certificates
	allowed      func(name string) bool // by the rules
	serving      bool                   // certificates can be issued: a daemon runs

	mu      sync.Mutex
	summary certificateSummary
	until   time.Time // the summary is good
}

// A summary is made anew after so long at least, and not before it has cost less than one part in summaryShare of the time: to look
// at the files of 20,000 certificates takes a third of a second, and on a busy machine many times that.
const (
	summaryAge   = 15 * time.Second
	summaryShare = 200
	summaryMost  = 5 * time.Minute
)

// summaryLife is how long a summary is good that took so long to make.
func summaryLife(took time.Duration) time.Duration {
	return min(max(summaryAge, took*summaryShare), summaryMost)
}

// certificateSummary is what the metrics and the status say of all certificates.
type certificateSummary struct {
	states map[admin.CertificateState]int
	used   []admin.Certificate // in the rules, the first to end first
	broken []admin.FileStatus
}

// List implements admin.Certificates.
func (d *certificateDesk) List(context.Context) ([]admin.Certificate, error) {
	now := time.Now()
	held := map[string]tlsbridge.Attempt{}
	for _, attempt := range d.certificates.Status().BackedOff {
		held[attempt.Name] = attempt
	}
	var list []admin.Certificate
	for _, stored := range d.certificates.List() {
		certificate := d.describe(&stored, now)
		if attempt, waits := held[stored.Name]; waits && stored.Source != tlsbridge.SourceFile {
			certificate.Until = attempt.Next
			delete(held, stored.Name)
		}
		list = append(list, certificate)
	}
	for _, attempt := range held {
		list = append(list, admin.Certificate{Name: attempt.Name, State: admin.CertificateHeldBack, Until: attempt.Next})
	}
	slices.SortStableFunc(list, func(a, b admin.Certificate) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (d *certificateDesk) describe(s *tlsbridge.Stored, now time.Time) admin.Certificate {
	c := admin.Certificate{
		Name: s.Name, Names: s.Names, Issuer: s.Issuer, Serial: s.Serial, NotBefore: s.NotBefore, Expires: s.NotAfter, Source: s.Source, From: s.From, Problem: s.Problem,
	}
	switch {
	case s.NotAfter.IsZero():
		c.State = admin.CertificateUnreadable
	case s.Source != tlsbridge.SourceFile && !strings.HasPrefix(s.Name, "*.") && !d.allowed(s.Name):
		c.State = admin.CertificateUnruled
	case now.After(s.NotAfter):
		c.State = admin.CertificateExpired
	case s.Expiring(now):
		c.State = admin.CertificateExpiring
	default:
		c.State = admin.CertificateOK
	}
	return c
}

// Show implements admin.Certificates.
func (d *certificateDesk) Show(_ context.Context, name string) (admin.CertificateDetail, bool, error) {
	found, known := d.certificates.Find(name)
	detail := admin.CertificateDetail{Certificate: d.describe(&found.Stored, time.Now()), Files: found.Files, RenewFrom: found.RenewFrom, RenewUntil: found.RenewUntil}
	for _, link := range found.Held {
		detail.Chain = append(detail.Chain, admin.CertificateLink{Subject: link.Subject, Issuer: link.Issuer, Expires: link.NotAfter})
	}
	if f := found.Failure; f != nil {
		detail.Failure = &admin.BackedOffStatus{Name: f.Name, Failures: f.Failures, Next: f.Next, Error: f.Error}
		if found.Source == "" {
			detail.State = admin.CertificateHeldBack
		}
		if f.Next.After(time.Now()) {
			detail.Until = f.Next
		}
	}
	return detail, known, nil
}

// Retry implements admin.Certificates.
func (d *certificateDesk) Retry(ctx context.Context, name string) (admin.CertificateDetail, error) {
	defer d.outdate()
	if !d.serving {
		return admin.CertificateDetail{Certificate: admin.Certificate{Name: name}}, d.certificates.Retry(ctx, name)
	}
	if err := d.certificates.Obtain(ctx, name); err != nil {
		return admin.CertificateDetail{}, retryError(name, err)
	}
	detail, _, err := d.Show(ctx, name)
	return detail, err
}

func retryError(name string, err error) error {
	answer := &admin.Error{
		Status: http.StatusBadGateway, Message: "no certificate for " + name + ": " + err.Error(),
		Hint: name + " must lead to this machine, on port 80 or 443; 'cutover certs show " + name + "' says when it is tried again",
	}
	switch {
	case errors.Is(err, tlsbridge.ErrUnderWay):
		answer.Status, answer.Hint = http.StatusConflict, "try again in a minute; 'cutover status' shows how many are being issued"
	case errors.Is(err, tlsbridge.ErrNoDNS):
		answer.Status, answer.Hint = http.StatusConflict, "name a DNS server or a command below [acme.dns] in cutover.toml, then: systemctl restart cutover"
	case errors.Is(err, tlsbridge.ErrNotAllowed) && strings.HasPrefix(name, "*."):
		answer.Status, answer.Hint = http.StatusConflict, "it needs a row of its own: cutover hosts set '"+name+"'"
	case errors.Is(err, tlsbridge.ErrNotAllowed):
		answer.Status, answer.Hint = http.StatusConflict, "name it in the rules first: cutover rules set "+name+" --percent 0"
	case errors.Is(err, tlsbridge.ErrOff):
		answer.Status, answer.Hint = http.StatusConflict, "set acme.issuer to acme, then: systemctl restart cutover"
	case errors.Is(err, tlsbridge.ErrLater):
		answer.Status, answer.Hint = http.StatusConflict, "to have it as soon as may be: cutover certs prefetch "+name
	case errors.As(err, new(*tlsbridge.ProfileError)):
		answer.Status, answer.Hint = http.StatusConflict, "correct acme.profile, then: systemctl restart cutover"
	}
	return answer
}

// Revoke implements admin.Certificates.
func (d *certificateDesk) Revoke(ctx context.Context, name string, reason int) ([]string, error) {
	defer d.outdate()
	names, err := d.certificates.Revoke(ctx, name, reason)
	switch {
	case err == nil:
		return names, nil
	case errors.Is(err, tlsbridge.ErrNoCertificate):
		return nil, &admin.Error{Status: http.StatusNotFound, Message: name + ": " + err.Error(), Hint: "cutover certs ls shows all there are"}
	case errors.Is(err, tlsbridge.ErrFile):
		return nil, &admin.Error{Status: http.StatusConflict, Message: name + ": " + err.Error(), Hint: "have its CA revoke it, and replace the files"}
	default:
		return names, &admin.Error{Status: http.StatusBadGateway, Message: fmt.Sprintf("%s: %v", name, err), Hint: "a certificate is revoked at the CA that issued it; see 'cutover certs show " + name + "'"}
	}
}

// Import implements admin.Certificates.
func (d *certificateDesk) Import(ctx context.Context, request admin.CertificateImport) (admin.CertificateImported, error) {
	defer d.outdate()
	result := admin.CertificateImported{Placed: []admin.CertificatePlaced{}}
	for _, pair := range request.Pairs {
		list, err := d.certificates.Import(ctx, tlsbridge.Pair{Certificate: []byte(pair.Certificate), Key: []byte(pair.Key), From: pair.From}, request.DryRun)
		if err != nil {
			result.Placed = append(result.Placed, admin.CertificatePlaced{Where: pair.Where, Reason: err.Error()})
		}
		for _, placed := range list {
			result.Placed = append(result.Placed, admin.CertificatePlaced{Where: pair.Where, Name: placed.Name, Expires: placed.NotAfter, Stored: placed.Stored, Reason: placed.Reason})
		}
	}
	for _, account := range request.Accounts {
		reason := "the account is ours now"
		if request.DryRun {
			reason = "the account would be ours"
		}
		if err := d.certificates.ImportAccount(ctx, account.Location, []byte(account.Key), request.DryRun); err != nil {
			reason = "the account was left out: " + err.Error()
		}
		result.Placed = append(result.Placed, admin.CertificatePlaced{Where: account.Where, Reason: reason})
	}
	return result, nil
}

func (d *certificateDesk) outdate() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Time{}
}

// summarise returns what there is to say of all certificates, some seconds old; of very many up to some minutes.
func (d *certificateDesk) summarise(ctx context.Context) certificateSummary {
	d.mu.Lock()
	defer d.mu.Unlock()
	began := time.Now()
	if began.Before(d.until) {
		return d.summary
	}
	list, _ := d.List(ctx) // it never fails here
	s := certificateSummary{states: map[admin.CertificateState]int{
		admin.CertificateOK: 0, admin.CertificateExpiring: 0, admin.CertificateExpired: 0, admin.CertificateHeldBack: 0, admin.CertificateUnruled: 0, admin.CertificateUnreadable: 0,
	}}
	for _, c := range list {
		s.states[c.State]++
		if slices.Contains([]admin.CertificateState{admin.CertificateOK, admin.CertificateExpiring, admin.CertificateExpired}, c.State) {
			s.used = append(s.used, c)
		}
		if c.Problem != "" {
			s.broken = append(s.broken, admin.FileStatus{Name: c.Name, Problem: c.Problem, Serving: !c.Expires.IsZero()})
		}
	}
	slices.SortStableFunc(s.used, func(a, b admin.Certificate) int { return a.Expires.Compare(b.Expires) })
	d.summary, d.until = s, time.Now().Add(summaryLife(time.Since(began)))
	return s
}

// ending lists the certificates in the rules that need somebody's attention.
func (s *certificateSummary) ending() []admin.EndingStatus {
	var list []admin.EndingStatus
	for _, c := range s.used {
		if c.State != admin.CertificateOK {
			list = append(list, admin.EndingStatus{Name: c.Name, Expires: c.Expires})
		}
	}
	return list
}

// soonest returns in how many seconds the next certificates end, at most 20 of them, so that the labels stay few.
func (s *certificateSummary) soonest(now time.Time) map[string]float64 {
	values := map[string]float64{}
	for _, c := range s.used[:min(len(s.used), 20)] {
		values[c.Name] = c.Expires.Sub(now).Seconds()
	}
	return values
}

// offlineCertificates is the desk of a command that works without a daemon: it opens the certificates when they are asked for.
type offlineCertificates struct {
	config Config
	view   func() *rules.View

	desk     *certificateDesk
	observed *observed.DB
}

func (o *offlineCertificates) open(ctx context.Context) (*certificateDesk, error) {
	if o.desk != nil {
		return o.desk, nil
	}
	db, err := observed.Open(ctx, o.config.StateDir)
	if err != nil {
		return nil, err
	}
	o.observed = db
	options, err := certificateOptions(o.config, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	options.Allowed = func(name string) bool { return o.view().Allows(name) }
	options.AllowedWildcard = func(name string) bool { return o.view().AllowsWildcard(name) }
	options.Attempts = attempts{db}
	certificates, err := tlsbridge.NewCertificates(options)
	if err != nil {
		return nil, err
	}
	o.desk = &certificateDesk{certificates: certificates, allowed: options.Allowed}
	return o.desk, nil
}

func (o *offlineCertificates) close() error {
	if o.desk != nil {
		o.desk.certificates.Close()
	}
	if o.observed != nil {
		return o.observed.Close()
	}
	return nil
}

// List implements admin.Certificates.
func (o *offlineCertificates) List(ctx context.Context) ([]admin.Certificate, error) {
	desk, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	return desk.List(ctx)
}

// Show implements admin.Certificates.
func (o *offlineCertificates) Show(ctx context.Context, name string) (admin.CertificateDetail, bool, error) {
	desk, err := o.open(ctx)
	if err != nil {
		return admin.CertificateDetail{}, false, err
	}
	return desk.Show(ctx, name)
}

// Retry implements admin.Certificates.
func (o *offlineCertificates) Retry(ctx context.Context, name string) (admin.CertificateDetail, error) {
	desk, err := o.open(ctx)
	if err != nil {
		return admin.CertificateDetail{}, err
	}
	return desk.Retry(ctx, name)
}

// Revoke implements admin.Certificates.
func (o *offlineCertificates) Revoke(ctx context.Context, name string, reason int) ([]string, error) {
	desk, err := o.open(ctx)
	if err != nil {
		return nil, err
	}
	return desk.Revoke(ctx, name, reason)
}

// Import implements admin.Certificates.
func (o *offlineCertificates) Import(ctx context.Context, request admin.CertificateImport) (admin.CertificateImported, error) {
	desk, err := o.open(ctx)
	if err != nil {
		return admin.CertificateImported{}, err
	}
	return desk.Import(ctx, request)
}
