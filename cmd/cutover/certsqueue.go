package main

import (
	"context"
	"errors"
	"slices"

	"cutover/proxy/admin"
)

// ProvesWildcards implements admin.Prefetcher.
func (p prefetcher) ProvesWildcards() bool { return p.certificates.ProvesWildcards() }

// CancelPrefetch implements admin.Prefetcher.
func (p prefetcher) CancelPrefetch(ctx context.Context, names []string) (missing []string, err error) {
	return p.certificates.CancelPrefetch(ctx, names)
}

// CancelAllPrefetch implements admin.Prefetcher.
func (p prefetcher) CancelAllPrefetch(ctx context.Context) (int, error) {
	return p.certificates.CancelAllPrefetch(ctx)
}

// cancelPrefetch takes hosts out of the queue.
func cancelPrefetch(ctx context.Context, env *environment, s *session, hosts []string, all bool) error {
	sum := admin.PrefetchCancelled{Missing: []string{}}
	requests := []admin.PrefetchRequest{{All: true}}
	if !all {
		requests = nil
		for part := range slices.Chunk(hosts, prefetchChunk) {
			requests = append(requests, admin.PrefetchRequest{Hosts: part})
		}
	}
	for _, request := range requests {
		answer, err := s.CancelPrefetch(ctx, request)
		if err != nil {
			return err
		}
		sum = admin.PrefetchCancelled{Cancelled: sum.Cancelled + answer.Cancelled, Missing: append(sum.Missing, answer.Missing...)}
	}
	return printCancelled(env, sum)
}

func printCancelled(env *environment, sum admin.PrefetchCancelled) error {
	if env.output == "json" {
		return printJSON(env, sum)
	}
	if err := say(env.stdout, "%s taken out of the queue; what is being ordered goes on", count(sum.Cancelled, "host")); err != nil {
		return err
	}
	for _, host := range sum.Missing[:min(len(sum.Missing), maxRefused)] {
		if err := say(env.stdout, "not in the queue: %s", oneLine(host)); err != nil {
			return err
		}
	}
	if more := len(sum.Missing) - maxRefused; more > 0 {
		return say(env.stdout, "not in the queue: and %d more", more)
	}
	return nil
}

// printQueue shows the hosts that go next.
func printQueue(env *environment, status admin.Prefetch) error {
	shown := status.Next[:min(len(status.Next), maxRefused)]
	for _, host := range shown {
		if err := say(env.stdout, "  %s: queued", host); err != nil {
			return err
		}
	}
	if more := status.Queued - status.WaitingTotal - len(shown); more > 0 {
		return say(env.stdout, "  and %d more queued", more)
	}
	return nil
}

// checkCancel says why --cancel cannot be what was meant.
func checkCancel(args []string, f prefetchFlags) error {
	switch {
	case f.wait:
		return &usageError{errors.New("--cancel does not wait")}
	case len(args) == 0 && !f.all:
		return withHint(&usageError{errors.New("say which hosts to take out of the queue")}, "name them, or say --cancel --all")
	}
	return nil
}
