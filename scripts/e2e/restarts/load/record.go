// Package load asks a server in all the ways that visitors do, over connections of its own making, and records what fails
// and what is late. It never asks twice: each request is written once, and each loss is counted.
package load

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Failure is a request, or a stream, that went wrong.
type Failure struct {
	Kind   string        `json:"kind"`   // of client
	Reason string        `json:"reason"` // the same for failures of the same sort
	Detail string        `json:"detail"`
	At     time.Duration `json:"at"`    // since the load began
	Mark   int           `json:"mark"`  // the last one before: the restart's number, from 1; 0 before the first
	After  time.Duration `json:"after"` // the mark
	Seen   int64         `json:"seen"`  // bytes of the answer that had come
}

// Kind is what all clients of a kind have met.
type Kind struct {
	Requests int           `json:"requests"`
	Failures int           `json:"failures"`
	Slowest  time.Duration `json:"slowest"` // beyond what the service took, since the request was due
	Median   time.Duration `json:"median"`
	P99      time.Duration `json:"p99"`
}

// Report is what a load has met.
type Report struct {
	Lasted         time.Duration    `json:"lasted"`
	Kinds          map[string]*Kind `json:"kinds"`
	All            Kind             `json:"all"`             // of every kind together
	Reasons        map[string]int   `json:"reasons"`         // failures by kind and reason
	Failed         []Failure        `json:"failed"`          // the first of them
	Worst          []time.Duration  `json:"worst"`           // the slowest request that ended after each mark, before the next
	FullHandshakes int              `json:"full_handshakes"` // by clients that could have resumed
	Resumed        int              `json:"resumed"`
	IdleCloses     int              `json:"idle_closes"`  // connections that ended in order while nothing was asked
	LastAnswers    int              `json:"last_answers"` // HTTP/1.1 answers that announced the end of their connection
	GoAways        int              `json:"go_aways"`     // HTTP/2 connections that were told to go
}

// failuresKept is how many failures a report tells one by one.
const failuresKept = 20

// sample is a request that was answered.
type sample struct {
	ended, late time.Duration
}

// Recorder collects what clients meet. All may use it at once.
type Recorder struct {
	began time.Time

	mu      sync.Mutex
	report  Report
	samples map[string][]sample
	marks   []time.Duration
}

// NewRecorder begins a record.
func NewRecorder() *Recorder {
	return &Recorder{
		began: time.Now(), samples: map[string][]sample{},
		report: Report{Kinds: map[string]*Kind{}, Reasons: map[string]int{}},
	}
}

// Mark begins another span of Report.Worst: a restart begins. What was late before the first mark is not told.
func (r *Recorder) Mark() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.marks = append(r.marks, time.Since(r.began))
}

// answered notes a request that was due at a time and took as long as the service was meant to, and some more.
func (r *Recorder) answered(kind string, due time.Time, meant time.Duration) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kind(kind).Requests++
	r.samples[kind] = append(r.samples[kind], sample{now.Sub(r.began), max(0, now.Sub(due)-meant)})
}

// late notes that a part of an answer came so much too late, without counting a request.
func (r *Recorder) late(kind string, by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples[kind] = append(r.samples[kind], sample{time.Since(r.began), max(0, by)})
}

// failed notes a request that went wrong.
func (r *Recorder) failed(kind string, err error) {
	f := Failure{Kind: kind, Reason: reasonOf(err), Detail: err.Error(), At: time.Since(r.began), Seen: seenOf(err)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.span(f.At); i >= 0 {
		f.Mark, f.After = i+1, f.At-r.marks[i]
	}
	k := r.kind(kind)
	k.Requests++
	k.Failures++
	r.report.Reasons[kind+": "+f.Reason]++
	if len(r.report.Failed) < failuresKept {
		r.report.Failed = append(r.report.Failed, f)
	}
}

// note is answered or failed.
func (r *Recorder) note(kind string, due time.Time, meant time.Duration, err error) {
	if err != nil {
		r.failed(kind, err)
		return
	}
	r.answered(kind, due, meant)
}

// count adds to one of the report's counters.
func (r *Recorder) count(counter func(*Report) *int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*counter(&r.report)++
}

func (r *Recorder) kind(name string) *Kind {
	if r.report.Kinds[name] == nil {
		r.report.Kinds[name] = &Kind{}
	}
	return r.report.Kinds[name]
}

// Report sums up what was met until now.
func (r *Recorder) Report() Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := r.report
	report.Lasted = time.Since(r.began)
	report.Kinds, report.Reasons, report.Failed = map[string]*Kind{}, maps.Clone(r.report.Reasons), slices.Clone(r.report.Failed)
	report.Worst = make([]time.Duration, len(r.marks))
	var all []sample
	for name, k := range r.report.Kinds {
		copied, samples := *k, r.afterStart(r.samples[name])
		copied.sum(samples)
		report.Kinds[name] = &copied
		report.All.Requests, report.All.Failures = report.All.Requests+k.Requests, report.All.Failures+k.Failures
		all = append(all, samples...)
	}
	report.All.sum(all)
	for _, samples := range r.samples {
		for _, s := range samples {
			if i := r.span(s.ended); i >= 0 {
				report.Worst[i] = max(report.Worst[i], s.late)
			}
		}
	}
	return report
}

// afterStart leaves out what ended before the first mark, when all clients connect at once.
func (r *Recorder) afterStart(samples []sample) []sample {
	if len(r.marks) == 0 {
		return samples
	}
	return slices.DeleteFunc(slices.Clone(samples), func(s sample) bool { return s.ended <= r.marks[0] })
}

// span is the last mark before a moment; -1 if there is none.
func (r *Recorder) span(moment time.Duration) int {
	i, _ := slices.BinarySearch(r.marks, moment)
	return i - 1
}

func (k *Kind) sum(samples []sample) {
	late := make([]time.Duration, len(samples))
	for i, s := range samples {
		late[i] = s.late
	}
	if len(late) == 0 {
		return
	}
	slices.Sort(late)
	k.Slowest, k.Median, k.P99 = late[len(late)-1], late[len(late)/2], late[len(late)*99/100]
}
