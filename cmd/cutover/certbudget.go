package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"cutover/proxy/admin"
	"cutover/rules/store"
	"cutover/rules/store/observed"
	"cutover/tlsbridge"
)

// budgets lets the certificates keep their budgets in observed.db.
type budgets struct{ db *observed.DB }

func (b budgets) Spend(ctx context.Context, at time.Time, uses []tlsbridge.BudgetUse) (tlsbridge.BudgetHold, bool, error) {
	rows := make([]observed.Use, len(uses))
	for i, use := range uses {
		rows[i] = observed.Use(use)
	}
	hold, held, err := b.db.Spend(ctx, at, rows)
	return tlsbridge.BudgetHold(hold), held, err
}

func (b budgets) Used(ctx context.Context, key string, since time.Time) (int, error) {
	return b.db.Used(ctx, key, since)
}

func (b budgets) Hold(ctx context.Context, h tlsbridge.BudgetHold) error {
	return b.db.Hold(ctx, observed.Hold(h))
}

func (b budgets) Holds(ctx context.Context, after time.Time) ([]tlsbridge.BudgetHold, error) {
	rows, err := b.db.Holds(ctx, after)
	list := make([]tlsbridge.BudgetHold, len(rows))
	for i, row := range rows {
		list[i] = tlsbridge.BudgetHold(row)
	}
	return list, err
}

func preflight(c ACMEConfig) *tlsbridge.Preflight {
	if c.Preflight != "on" {
		return nil
	}
	return &tlsbridge.Preflight{Addresses: c.Addresses}
}

// dnsUpdate returns how names are proved by the DNS; nil if they are not.
func dnsUpdate(c DNSConfig) (*tlsbridge.DNSUpdate, error) {
	if c.Server == "" {
		return nil, nil
	}
	if c.Key == "" || c.Secret == "" {
		return nil, withHint(errors.New("acme.dns.server needs acme.dns.key and acme.dns.secret"), "tsig-keygen makes a key; the secret goes into a file of its own")
	}
	secret, err := os.ReadFile(c.Secret)
	if err != nil {
		return nil, fmt.Errorf("acme.dns.secret: %w", err)
	}
	text := strings.TrimSpace(string(secret))
	if _, err := base64.StdEncoding.DecodeString(text); err != nil || text == "" {
		return nil, withHint(fmt.Errorf("acme.dns.secret: %s does not hold base64", c.Secret), "the file holds what stands after 'secret' in a key file of BIND, without quotes")
	}
	return &tlsbridge.DNSUpdate{Server: c.Server, Key: c.Key, Algorithm: c.Algorithm, Secret: text}, nil
}

const (
	retryLook  = 2 * time.Second
	maxToRetry = 1000 // names that one look asks the journal for
)

// retryEdited lets a name be tried again at once when somebody has edited its rows since it failed.
func (d *daemon) retryEdited(ctx context.Context) error {
	ticker := time.NewTicker(retryLook)
	defer ticker.Stop()
	last := d.store.Snapshot().Seq
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !d.store.IsWriter() {
			continue // the failures are another worker's, too
		}
		if seq := d.store.Snapshot().Seq; seq != last {
			last = seq
			d.retryEditedSince(ctx)
		}
	}
}

func (d *daemon) retryEditedSince(ctx context.Context) {
	waiting := d.certificates.Status().BackedOff
	for _, attempt := range waiting[:min(len(waiting), maxToRetry)] {
		changes, err := d.store.History(ctx, store.Filter{Host: attempt.Name, Since: attempt.At, Limit: 1})
		if err != nil {
			d.log.Debug("whether a failed certificate's rows were edited is not known", slog.Any("error", err))
			return
		}
		if len(changes) == 0 {
			continue
		}
		if err := d.certificates.Retry(ctx, attempt.Name); err != nil {
			d.log.Warn("a failed attempt from before is still kept", slog.String("name", attempt.Name), slog.Any("error", err))
		}
	}
}

// prefetcher is the certificates' queue as the admin API sees it.
type prefetcher struct{ certificates *tlsbridge.Certificates }

func (p prefetcher) Prefetch(ctx context.Context, batch int64, names []string) (int64, error) {
	return p.certificates.Prefetch(ctx, batch, names)
}

func (p prefetcher) Prefetched(ctx context.Context, batch int64) (admin.Prefetch, error) {
	status, err := p.certificates.Prefetched(ctx, batch)
	return admin.Prefetch{
		Batch: batch, Done: status.Done, Queued: status.Queued, Failed: status.Failed,
		WaitingTotal: status.Late, Waiting: backedOff(status.Waiting), Until: status.Until, Reason: status.Reason,
	}, err
}

// budgetParts is what the status shows of the certificates' budget.
func budgetParts(b tlsbridge.BudgetStatus) *admin.BudgetStatus {
	if b.Limit == 0 {
		return nil
	}
	status := &admin.BudgetStatus{Orders: b.Orders, Limit: b.Limit, WindowSeconds: int64(b.Window / time.Second), HoldsTotal: len(b.Holds)}
	for _, h := range b.Holds {
		status.Holds = append(status.Holds, admin.BudgetHold{Budget: h.Key, Until: h.Until, Reason: h.Reason})
	}
	return status
}
