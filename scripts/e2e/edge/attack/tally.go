package attack

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Result is how an attack went.
type Result struct {
	Opened   int            `json:"opened"`   // connections
	Refused  int            `json:"refused"`  // connections that could not be made
	Cut      int            `json:"cut"`      // ended by the server
	Outlived int            `json:"outlived"` // lived longer than the bound, whoever ended them
	Spared   int            `json:"spared"`   // the server was to end them, and has not
	Half     time.Duration  `json:"half"`     // half of those that the server ended had lived no longer
	Longest  time.Duration  `json:"longest"`  // life of one that the server ended
	Most     int            `json:"most"`     // open at once
	Sent     int            `json:"sent"`     // of what the attack is made of: handshakes, lines, bytes, frames
	Answers  map[string]int `json:"answers"`  // what the server said: statuses, alerts, codes of GOAWAY
	Lasted   time.Duration  `json:"lasted"`
	CPU      time.Duration  `json:"cpu"` // of the attackers; whoever starts them adds it
}

// tally counts what becomes of connections.
type tally struct {
	bound time.Duration
	began time.Time

	mu     sync.Mutex
	open   int
	lives  []time.Duration // of connections that the server ended
	result Result
}

func newTally(bound time.Duration) *tally {
	return &tally{bound: bound, began: time.Now(), result: Result{Answers: map[string]int{}}}
}

// life is a connection's.
type life struct {
	tally *tally
	since time.Time
	once  sync.Once
}

func (t *tally) begin() *life {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Opened++
	t.open++
	t.result.Most = max(t.result.Most, t.open)
	return &life{tally: t, since: time.Now()}
}

// cut: the server has ended it.
func (l *life) cut() { l.end(true) }

// left: we have.
func (l *life) left() { l.end(false) }

// end counts a connection once.
func (l *life) end(cut bool) {
	l.once.Do(func() {
		age := time.Since(l.since)
		t := l.tally
		t.mu.Lock()
		defer t.mu.Unlock()
		t.open--
		if t.bound > 0 && age > t.bound {
			t.result.Outlived++
		}
		if cut {
			t.result.Cut++
			t.lives = append(t.lives, age)
		}
	})
}

func (t *tally) spared() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Spared++
}

func (t *tally) refused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Refused++
}

func (t *tally) sent(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.result.Sent += n
}

// answersKept bounds how many different answers are told apart.
const answersKept = 40

func (t *tally) answer(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.result.Answers[text]; !known && len(t.result.Answers) >= answersKept {
		text = "others"
	}
	t.result.Answers[text]++
}

func (t *tally) report() Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.result
	r.Lasted, r.Answers = time.Since(t.began), maps.Clone(t.result.Answers)
	if len(t.lives) > 0 {
		slices.Sort(t.lives)
		r.Half, r.Longest = t.lives[len(t.lives)/2], t.lives[len(t.lives)-1]
	}
	return r
}

// pacer lets so many things happen in a second, evenly, for all who wait for it.
type pacer struct {
	gap time.Duration

	mu   sync.Mutex
	next time.Time
}

func newPacer(perSecond int) *pacer {
	return &pacer{gap: time.Second / time.Duration(max(1, perSecond))}
}

// catchUp is how much may be made good after a moment in which the machine was busy.
const catchUp = 100 * time.Millisecond

// wait returns when it is the caller's turn for so many things; false if ctx has ended.
func (p *pacer) wait(ctx context.Context, things int) bool {
	p.mu.Lock()
	if least := time.Now().Add(-catchUp); p.next.Before(least) {
		p.next = least
	}
	turn := p.next
	p.next = p.next.Add(time.Duration(things) * p.gap)
	p.mu.Unlock()
	return wait(ctx, time.Until(turn))
}

func wait(ctx context.Context, long time.Duration) bool {
	if long <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
