package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
)

// upstreamFlags are the columns of an upstream as flags, and what is to happen to its targets.
type upstreamFlags struct {
	add, remove, state []string
	note               string
	dryRun             bool
}

func newUpstreamsSetCommand(env *environment) *cobra.Command {
	var f upstreamFlags
	cmd := &cobra.Command{
		Use:   "set NAME [URL[,weight=N][,state=S]]...",
		Short: "Set the targets of an upstream, all or one by one",
		Long: `Set the targets of an upstream, and make the upstream if it is new.

A target is http://, https://, h2c:// or h2:// (HTTP/2), or fcgi:// with host:port; unix:, h2c+unix: or fcgi+unix: with the
path of a socket; app:NAME or cgi:NAME for a program that 'cutover app' manages; dns+http://NAME:PORT or srv+http://NAME for
all addresses of a name; file:NAME for a list in /etc/cutover/targets; droplets+http://TAG:PORT. See docs/upstreams.md.

URLs after the name are the whole list: other targets are taken away. --add, --remove and --state change single targets
and leave the others alone. A weight or state that is not given stays as it is; new targets have weight 1 and are ready.`,
		Example: `  cutover upstreams set v1 http://127.0.0.1:9001
  cutover upstreams set v2 http://10.0.0.5:8080,weight=3 http://10.0.0.6:8080
  cutover upstreams set v2 unix:/run/app/app.sock                HTTP on a socket
  cutover upstreams set v1 fcgi+unix:/run/php/php-fpm.sock --fcgi-root /srv/shop/public --fcgi-front /index.php
  cutover upstreams set v2 --add http://10.0.0.7:8080
  cutover upstreams set v2 --state http://10.0.0.5:8080=drain    no new requests
  cutover upstreams set v2 --remove http://10.0.0.5:8080
  cutover upstreams set v2 --response-timeout 30
  cutover upstreams set v2 --check-path /up                      leave out what does not answer it well
  cutover upstreams set v2 --check-path ''                       no checks
  cutover upstreams set v1 --proxy-protocol v2`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wish, err := f.wish(cmd, args)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error { return setUpstream(cmd.Context(), env, s, wish) })
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.add, "add", nil, "add this target, or change its weight or state: URL[,weight=N][,state=S]")
	flags.StringArrayVar(&f.remove, "remove", nil, "take this target away: URL")
	flags.StringArrayVar(&f.state, "state", nil, "set the state of a target: URL=ready, URL=drain or URL=maint")
	flags.StringVar(&f.note, "note", "", "a note for other operators")
	addUpstreamSettings(flags)
	flags.SortFlags = false
	addDryRun(cmd, &f.dryRun)
	return cmd
}

// upstreamWish is what a command asks of an upstream.
type upstreamWish struct {
	name    string
	row     map[string]any
	whole   bool             // targets are the whole list
	targets []map[string]any // rows of targets, with their url
	change  []string         // URLs of targets that must be there already
	remove  []string         // URLs
	dryRun  bool
}

func (f *upstreamFlags) wish(cmd *cobra.Command, args []string) (upstreamWish, error) {
	w := upstreamWish{name: args[0], row: map[string]any{"name": args[0]}, dryRun: f.dryRun, whole: len(args) > 1}
	if w.whole && len(f.add)+len(f.remove)+len(f.state) > 0 {
		return w, withHint(&usageError{errors.New("a whole list of targets and single ones were given")}, "give either URLs after the name, or --add, --remove and --state")
	}
	given(cmd, w.row, "note", "note", f.note)
	if err := putUpstreamSettings(cmd, w.row); err != nil {
		return w, err
	}
	return w, f.putTargets(&w, args[1:])
}

// putTargets reads the targets that a command names.
func (f *upstreamFlags) putTargets(w *upstreamWish, list []string) error {
	for _, text := range slices.Concat(list, f.add) {
		target, err := parseTarget(text)
		if err != nil {
			return err
		}
		w.targets = append(w.targets, target)
	}
	for _, text := range f.remove {
		w.remove = append(w.remove, trimTarget(text))
	}
	for _, text := range f.state {
		i := strings.LastIndexByte(text, '=')
		if i < 0 {
			return badTarget(text, "--state needs URL=ready, URL=drain or URL=maint")
		}
		url := trimTarget(text[:i])
		w.change = append(w.change, url)
		w.targets = append(w.targets, map[string]any{"url": url, "state": text[i+1:]})
	}
	return nil
}

// parseTarget reads URL[,weight=N][,state=S] into a row.
func parseTarget(text string) (map[string]any, error) {
	parts := strings.Split(text, ",")
	row := map[string]any{"url": trimTarget(parts[0])}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "weight":
			weight, err := strconv.Atoi(value)
			if err != nil {
				return nil, badTarget(text, "the weight must be a whole number")
			}
			row["weight"] = weight
		case "state":
			row["state"] = value
		default:
			return nil, badTarget(text, fmt.Sprintf("%q is neither weight=N nor state=S", part))
		}
	}
	return row, nil
}

func badTarget(text, problem string) error {
	return withHint(&usageError{fmt.Errorf("%q: %s", text, problem)}, "write a target as http://10.0.0.5:8080, fcgi://10.0.0.5:9000 or unix:/run/app/app.sock, and options behind it: ,weight=3,state=drain")
}

// trimTarget takes off the slash that people paste with a URL.
func trimTarget(text string) string { return strings.TrimSuffix(strings.TrimSpace(text), "/") }

// setUpstream makes a wish true, in one transaction, and shows what is there afterwards.
func setUpstream(ctx context.Context, env *environment, s *session, w upstreamWish) error {
	list, err := s.Upstreams(ctx)
	if err != nil {
		return err
	}
	edits, err := w.edits(findUpstream(list, w.name))
	if err != nil {
		return err
	}
	result, err := s.Edit(ctx, admin.EditRequest{Edits: edits, DryRun: w.dryRun})
	if err != nil {
		return err
	}
	if w.dryRun {
		return printDryRun(env, result)
	}
	return showUpstream(ctx, env, s, w, result)
}

// findUpstream returns the upstream of a name, or one without a name if there is none.
func findUpstream(list admin.UpstreamList, name string) rules.Upstream {
	i := slices.IndexFunc(list.Upstreams, func(u rules.Upstream) bool { return u.Name == name })
	if i < 0 {
		return rules.Upstream{}
	}
	return list.Upstreams[i]
}

// edits returns what leads from the upstream as it is to the one that is wished for.
func (w *upstreamWish) edits(now rules.Upstream) ([]store.Edit, error) {
	var edits []store.Edit
	if isNew := now.Name == ""; isNew || len(w.row) > 1 || len(w.targets)+len(w.remove) == 0 {
		edits = append(edits, store.Edit{Table: store.TableUpstreams, Row: w.row})
	}
	for _, url := range w.change {
		if !hasTarget(now, url) {
			return nil, withHint(fmt.Errorf("upstream %s has no target %s", w.name, url), "see 'cutover upstreams ls', or add it with --add")
		}
	}
	remove := w.remove
	if w.whole {
		for _, target := range now.Targets {
			if !w.lists(target.URL) {
				remove = append(remove, target.URL)
			}
		}
	}
	for _, url := range remove {
		edits = append(edits, store.Edit{Table: store.TableTargets, Remove: true, Row: map[string]any{"upstream": w.name, "url": url}})
	}
	for _, target := range w.targets {
		target["upstream"] = w.name
		edits = append(edits, store.Edit{Table: store.TableTargets, Row: target})
	}
	return edits, nil
}

func hasTarget(u rules.Upstream, url string) bool {
	return slices.ContainsFunc(u.Targets, func(t rules.Target) bool { return t.URL == url })
}

func (w *upstreamWish) lists(url string) bool {
	return slices.ContainsFunc(w.targets, func(row map[string]any) bool { return row["url"] == url })
}

// showUpstream prints the upstream, after a look whether it has become what was wished for.
func showUpstream(ctx context.Context, env *environment, s *session, w upstreamWish, result store.Result) error {
	list, err := s.Upstreams(ctx)
	if err != nil {
		return err
	}
	now := findUpstream(list, w.name)
	if err := confirm("upstreams", w.name, true, list.Problems); err != nil {
		return err
	}
	if !w.isTrue(now) {
		return withHint(fmt.Errorf("the targets of %s are others than asked for: somebody else changed them at the same moment", w.name), "see 'cutover upstreams ls', and run the command again")
	}
	if env.output == "json" {
		return printJSON(env, result)
	}
	return printTable(env.stdout, upstreamHeading(), upstreamLines([]rules.Upstream{now}))
}

func (w *upstreamWish) isTrue(now rules.Upstream) bool {
	for _, target := range w.targets {
		if !hasTarget(now, fmt.Sprint(target["url"])) {
			return false
		}
	}
	for _, url := range w.remove {
		if hasTarget(now, url) && !w.lists(url) {
			return false
		}
	}
	return !w.whole || len(now.Targets) == len(w.targets)
}
