package admin

import (
	"context"
	"slices"
	"testing"

	"cutover/rules/store"
)

// notebook is a Prefetcher that notes what it is asked.
type notebook struct {
	hosts     []string
	wildcards bool
}

func (n *notebook) CancelPrefetch(_ context.Context, names []string) (missing []string, _ error) {
	for _, name := range names {
		i := slices.Index(n.hosts, name)
		if i < 0 {
			missing = append(missing, name)
			continue
		}
		n.hosts = slices.Delete(n.hosts, i, i+1)
	}
	return missing, nil
}

func (n *notebook) CancelAllPrefetch(context.Context) (int, error) {
	defer func() { n.hosts = nil }()
	return len(n.hosts), nil
}

func (n *notebook) ProvesWildcards() bool { return n.wildcards }

func (n *notebook) Prefetch(_ context.Context, batch int64, names []string) (int64, error) {
	n.hosts = append(n.hosts, names...)
	return max(batch, 7), nil
}

func (n *notebook) Prefetched(_ context.Context, batch int64) (Prefetch, error) {
	return Prefetch{Batch: batch, Queued: len(n.hosts)}, nil
}

func TestPrefetchQueuesTheHostsThatMayHaveACertificate(t *testing.T) {
	queue := &notebook{}
	client := tester(t, &Server{Prefetcher: queue})
	mustEdit(t, client, rule(map[string]any{"host": "a.test"}), rule(map[string]any{"host": "b.test"}))
	answer, err := client.Prefetch(t.Context(), PrefetchRequest{Hosts: []string{"B.test", "c.test", "no name"}})
	if err != nil || answer.Batch != 7 || answer.Queued != 1 || !slices.Equal(answer.Refused, []string{"c.test", "no name"}) {
		t.Errorf("%+v, %v", answer, err)
	}
	if answer, err = client.Prefetch(t.Context(), PrefetchRequest{All: true, Batch: 9}); err != nil || answer.Batch != 9 || answer.Queued != 2 {
		t.Errorf("all: %+v, %v", answer, err)
	}
	if !slices.Equal(queue.hosts, []string{"b.test", "a.test", "b.test"}) {
		t.Errorf("queued %v", queue.hosts)
	}
	if status, err := client.Prefetched(t.Context(), 9); err != nil || status.Queued != 3 || status.Batch != 9 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestPrefetchSaysWhatIsWrongWithARequest(t *testing.T) {
	client := tester(t, &Server{Prefetcher: &notebook{}})
	for _, request := range []PrefetchRequest{{}, {All: true, Hosts: []string{"a.test"}}} {
		if _, err := client.Prefetch(t.Context(), request); err == nil {
			t.Errorf("%+v was taken", request)
		}
	}
	if _, err := client.Prefetched(t.Context(), -1); err == nil {
		t.Error("batch -1 was taken")
	}
}

func TestPrefetchTakesAWildcardNameWithARowOfHostsWhereItCanBeProved(t *testing.T) {
	queue := &notebook{}
	client := tester(t, &Server{Prefetcher: queue})
	mustEdit(t, client, store.Edit{Table: store.TableHosts, Row: map[string]any{"host": "*.b.test"}}, rule(map[string]any{"host": "*.c.test"}))
	request := PrefetchRequest{Hosts: []string{"*.B.test", "*.c.test"}}
	answer, err := client.Prefetch(t.Context(), request)
	if err != nil || answer.Queued != 0 || !slices.Equal(answer.Unprovable, []string{"*.B.test"}) || !slices.Equal(answer.Refused, []string{"*.c.test"}) {
		t.Errorf("without DNS-01: %+v, %v", answer, err)
	}
	queue.wildcards = true
	answer, err = client.Prefetch(t.Context(), request)
	if err != nil || answer.Queued != 1 || len(answer.Unprovable) != 0 || !slices.Equal(queue.hosts, []string{"*.b.test"}) {
		t.Errorf("with DNS-01: %+v, %v, queued %v", answer, err, queue.hosts)
	}
	if answer, err = client.Prefetch(t.Context(), PrefetchRequest{All: true}); err != nil || answer.Queued != 0 {
		t.Errorf("all stands for names that somebody may ask for: %+v, %v", answer, err)
	}
}

func TestNamesAreTakenOutOfTheQueueWhateverTheRulesSay(t *testing.T) {
	queue := &notebook{hosts: []string{"a.test", "*.b.test", "c.test"}}
	client := tester(t, &Server{Prefetcher: queue})
	answer, err := client.CancelPrefetch(t.Context(), PrefetchRequest{Hosts: []string{"A.test", "*.B.test", "other.test"}})
	if err != nil || answer.Cancelled != 2 || !slices.Equal(answer.Missing, []string{"other.test"}) || !slices.Equal(queue.hosts, []string{"c.test"}) {
		t.Errorf("%+v, %v, left %v", answer, err, queue.hosts)
	}
	if answer, err = client.CancelPrefetch(t.Context(), PrefetchRequest{All: true}); err != nil || answer.Cancelled != 1 || len(answer.Missing) != 0 {
		t.Errorf("all: %+v, %v", answer, err)
	}
	for _, request := range []PrefetchRequest{{}, {All: true, Hosts: []string{"a.test"}}, {Hosts: []string{"no name"}}} {
		if _, err := client.CancelPrefetch(t.Context(), request); err == nil {
			t.Errorf("%+v was taken", request)
		}
	}
}
