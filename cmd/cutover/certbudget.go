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

// editedRules are the rules of which it matters whether they were edited.
type editedRules interface {
	IsWriter() bool
	Snapshot() store.Snapshot
	History(ctx context.Context, f store.Filter) ([]store.Change, error)
}

// retryEdited lets a name be tried again at once when somebody has edited its rows since it failed.
func (d *daemon) retryEdited(ctx context.Context, rules editedRules) error {
	ticker := time.NewTicker(retryLook)
	defer ticker.Stop()
	last := rules.Snapshot().Seq
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		seq := rules.Snapshot().Seq
		if seq == last || !rules.IsWriter() { // else the failures are another worker's, too
			continue
		}
		if err := d.retryEditedSince(ctx, rules); err != nil {
			d.log.Debug("whether a failed certificate's rows were edited is not known yet", slog.Any("error", err))
			continue
		}
		last = seq
	}
}

func (d *daemon) retryEditedSince(ctx context.Context, rules editedRules) error {
	waiting := d.certificates.Status().BackedOff
	wildcards := map[string]time.Time{}
	for _, attempt := range waiting[:min(len(waiting), maxToRetry)] {
		edited, err := editedSince(ctx, rules, attempt, wildcards)
		if err != nil {
			return err
		}
		if !edited {
			continue
		}
		if err := d.certificates.Retry(ctx, attempt.Name); err != nil {
			d.log.Warn("a failed attempt from before is still kept", slog.String("name", attempt.Name), slog.Any("error", err))
		}
	}
	return nil
}

// editedSince reports whether a row of a name's own was edited since it failed, or one of the table hosts that holds for it:
// only that table says of *.parent and * who may have a certificate. wildcards is what was found of those before.
func editedSince(ctx context.Context, rules editedRules, a tlsbridge.Attempt, wildcards map[string]time.Time) (bool, error) {
	own, err := rules.History(ctx, store.Filter{Host: a.Name, Since: a.At, Limit: 1})
	if err != nil || len(own) > 0 {
		return len(own) > 0, err
	}
	_, parent, _ := strings.Cut(a.Name, ".")
	for _, host := range []string{"*." + parent, "*"} {
		if _, known := wildcards[host]; !known {
			newest, err := rules.History(ctx, store.Filter{Host: host, Table: store.TableHosts, Limit: 1})
			if err != nil {
				return false, err
			}
			wildcards[host] = time.Time{}
			if len(newest) > 0 {
				wildcards[host] = newest[0].At
			}
		}
		if !wildcards[host].Before(a.At.Truncate(time.Millisecond)) { // as precise as the journal
			return true, nil
		}
	}
	return false, nil
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
		WaitingTotal: status.Late, Waiting: backedOff(status.Waiting), Next: status.Next, Until: status.Until, Reason: status.Reason,
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
