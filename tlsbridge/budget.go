package tlsbridge

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"
)

// Limits bound how many certificates are ordered within a sliding time. Renewals do not count. A field that is 0 has its
// default, which is a little below what Let's Encrypt allows.
type Limits struct {
	Orders       int           // of the account within OrdersWindow; 250
	OrdersWindow time.Duration // 3 hours
	PerDomain    int           // for a registered domain within NamesWindow; 40
	PerName      int           // for an exact name within NamesWindow; 4
	AnyPerDomain int           // for a registered domain within NamesWindow, of names that no row names exactly; 10
	NamesWindow  time.Duration // 7 days
	PerClient    int           // names without a certificate that one client may ask for within a minute; 5
}

func (l Limits) orDefaults() Limits {
	return Limits{
		Orders: cmp.Or(l.Orders, 250), OrdersWindow: cmp.Or(l.OrdersWindow, 3*time.Hour),
		PerDomain: cmp.Or(l.PerDomain, 40), PerName: cmp.Or(l.PerName, 4), AnyPerDomain: cmp.Or(l.AnyPerDomain, 10),
		NamesWindow: cmp.Or(l.NamesWindow, 7*24*time.Hour), PerClient: cmp.Or(l.PerClient, 5),
	}
}

// BudgetUse is what an order takes of one budget.
type BudgetUse struct {
	Key    string // says which budget
	Limit  int    // uses
	Window time.Duration
}

// BudgetHold says that a budget must not be used for a while.
type BudgetHold struct {
	Key    string
	Until  time.Time
	Reason string // the CA's own words; empty where the budget is used up
}

// BudgetStore keeps what was ordered, for all processes on the same storage.
type BudgetStore interface {
	// Spend notes a use of every budget, or of none: if one is held, or has been used Limit times within its Window, it says
	// so. It is a single step for all processes.
	Spend(ctx context.Context, at time.Time, uses []BudgetUse) (hold BudgetHold, held bool, err error)
	// Used counts the uses since a time.
	Used(ctx context.Context, key string, since time.Time) (int, error)
	// Hold holds a budget, instead of what held it before.
	Hold(ctx context.Context, h BudgetHold) error
	// Holds lists what is held beyond a time.
	Holds(ctx context.Context, after time.Time) ([]BudgetHold, error)
}

// BudgetStatus says how much of the budgets is left.
type BudgetStatus struct {
	Orders, Limit int // of the account, within Window
	Window        time.Duration
	Holds         []BudgetHold // what new certificates wait for, sorted by Key
}

// budgetError says that a name must wait until a budget has room.
type budgetError struct{ hold BudgetHold }

func (e *budgetError) Error() string {
	return e.hold.Reason + "; the next is after " + e.hold.Until.UTC().Format(time.RFC3339)
}

// budget keeps orders within the limits. It notes each before it is made: one that fails counts at the CA, too. A nil budget
// has no limits.
type budget struct {
	limits Limits
	issuer string                 // whose budgets these are
	any    func(name string) bool // no row names the name exactly; may be nil
	store  BudgetStore            // may be nil
	memory *memoryBudget          // what this process ordered, should the store fail
	log    *slog.Logger

	mu   sync.Mutex
	held map[string]BudgetHold // by key: what is known to have no room, so that handshakes need not ask the store
}

// The kinds of keys. They are kept, so they must not change.
const (
	keyAccount = "account"
	keyDomain  = "domain"
	keyName    = "name"
	keyAny     = "any"
)

const (
	// reserved is the part of the account's orders that a prefetch leaves to visitors: one in so many.
	reserved = 5
	maxHeld  = 10_000
)

func newBudget(o CertificateOptions, issuer string) *budget {
	b := &budget{
		limits: o.Limits.orDefaults(), issuer: issuer, any: o.Any, store: o.Budget,
		memory: newMemoryBudget(), log: o.Log, held: map[string]BudgetHold{},
	}
	if b.store == nil {
		return b
	}
	holds, err := b.store.Holds(context.Background(), time.Now())
	if err != nil {
		b.log.Warn("what the CA said of its limits is not known any more", slog.Any("error", err))
	}
	for _, h := range holds {
		b.held[h.Key] = h
	}
	return b
}

func (b *budget) key(kind, subject string) string {
	return strings.Join(slices.DeleteFunc([]string{kind, subject, b.issuer}, func(s string) bool { return s == "" }), " ")
}

// registeredDomain is what CAs count by: example.co.uk of www.example.co.uk.
func registeredDomain(name string) string {
	domain, err := publicsuffix.EffectiveTLDPlusOne(strings.TrimPrefix(name, "*."))
	if err != nil {
		return name // a public suffix itself
	}
	return domain
}

// uses lists what an order for a name takes. With spare it must leave some of the account's orders to others.
func (b *budget) uses(name string, spare bool) []BudgetUse {
	l, domain := b.limits, registeredDomain(name)
	account := l.Orders
	if spare {
		account = max(1, account-account/reserved)
	}
	uses := []BudgetUse{
		{b.key(keyAccount, ""), account, l.OrdersWindow},
		{b.key(keyDomain, domain), l.PerDomain, l.NamesWindow},
		{b.key(keyName, name), l.PerName, l.NamesWindow},
	}
	if b.any != nil && b.any(name) {
		uses = append(uses, BudgetUse{b.key(keyAny, domain), l.AnyPerDomain, l.NamesWindow})
	}
	return uses
}

// spend takes an order for a name out of the budgets. The error is a *budgetError.
func (b *budget) spend(ctx context.Context, name string, spare bool) error {
	if b == nil {
		return nil
	}
	uses, now := b.uses(name, spare), time.Now()
	hold, held := b.spendAnywhere(context.WithoutCancel(ctx), now, uses)
	if !held {
		return nil
	}
	if hold.Reason == "" {
		hold.Reason = describeFull(hold.Key, uses)
	}
	if !spare || hold.Key != uses[0].Key { // else it is only the prefetch that has to wait
		b.remember(hold)
	}
	return &budgetError{hold}
}

// Is tells those outside that it is a matter of time.
func (e *budgetError) Is(target error) bool { return target == ErrLater }

// count takes an order out of the budgets though they are used up. The error says what the CA itself limits.
func (b *budget) count(ctx context.Context, name string) error {
	if b == nil {
		return nil
	}
	uses := b.uses(name, false)
	for i := range uses {
		uses[i].Limit = math.MaxInt32
	}
	if hold, held := b.spendAnywhere(context.WithoutCancel(ctx), time.Now(), uses); held {
		return &budgetError{hold}
	}
	return nil
}

// spendAnywhere spends in the store, and where that fails within what this process knows.
func (b *budget) spendAnywhere(ctx context.Context, now time.Time, uses []BudgetUse) (BudgetHold, bool) {
	if b.store != nil {
		hold, held, err := b.store.Spend(ctx, now, uses)
		if err == nil {
			if !held {
				b.memory.note(now, uses)
			}
			return hold, held
		}
		b.log.Warn("the budget of certificates cannot be kept on disk; it counts in memory", slog.Any("error", err))
	}
	hold, held, _ := b.memory.Spend(ctx, now, uses) // never fails
	return hold, held
}

// describeFull says which budget is used up.
func describeFull(key string, uses []BudgetUse) string {
	use := uses[slices.IndexFunc(uses, func(u BudgetUse) bool { return u.Key == key })]
	kind, rest, _ := strings.Cut(key, " ")
	subject, _, _ := strings.Cut(rest, " ")
	switch kind {
	case keyAccount:
		subject = "the account"
	case keyAny:
		subject = "any host below " + subject
	}
	return fmt.Sprintf("the %d orders of %s within %s are used up", use.Limit, subject, windowText(use.Window))
}

// windowText prints 3h0m0s as 3h.
func windowText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// remember lets handshakes know that a budget has no room.
func (b *budget) remember(h BudgetHold) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last, ok := b.held[h.Key]; !ok || last.Until.Before(time.Now()) {
		b.log.Warn("new certificates wait", slog.String("for", h.Reason), slog.Time("until", h.Until))
	}
	if len(b.held) >= maxHeld {
		now := time.Now()
		maps.DeleteFunc(b.held, func(_ string, h BudgetHold) bool { return !now.Before(h.Until) })
	}
	if len(b.held) < maxHeld { // else the store is asked again, which costs time alone
		b.held[h.Key] = h
	}
}

// hold keeps to what the CA said.
func (b *budget) hold(ctx context.Context, h BudgetHold) {
	b.remember(h)
	_ = b.memory.Hold(ctx, h) // never fails
	if b.store == nil {
		return
	}
	if err := b.store.Hold(context.WithoutCancel(ctx), h); err != nil {
		b.log.Warn("what the CA said of its limits is not kept on disk", slog.Any("error", err))
	}
}

// holds returns what a name is known to wait for. It may be asked at each handshake.
func (b *budget) holds(name string) error {
	if b == nil {
		return nil
	}
	uses, now := b.uses(name, false), time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, use := range uses {
		if h, ok := b.held[use.Key]; ok && now.Before(h.Until) {
			return &budgetError{h}
		}
	}
	return nil
}

func (b *budget) status() BudgetStatus {
	if b == nil {
		return BudgetStatus{}
	}
	status := BudgetStatus{Limit: b.limits.Orders, Window: b.limits.OrdersWindow}
	now := time.Now()
	status.Orders = b.used(b.key(keyAccount, ""), now.Add(-b.limits.OrdersWindow))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(b.held)) {
		if h := b.held[key]; now.Before(h.Until) {
			h.Key = strings.TrimSuffix(key, " "+b.issuer)
			status.Holds = append(status.Holds, h)
		}
	}
	return status
}

func (b *budget) used(key string, since time.Time) int {
	if b.store != nil {
		if n, err := b.store.Used(context.Background(), key, since); err == nil {
			return n
		}
	}
	n, _ := b.memory.Used(context.Background(), key, since) // never fails
	return n
}
