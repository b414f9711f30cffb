package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules/store"
)

// guardFlags are the columns of a guard as flags, and which one is meant.
type guardFlags struct {
	id                             int64
	allow, deny, rate, realm, note string
	burst                          int64
	users, removeUsers             []string
	enabled, dryRun                bool
}

func newGuardsSetCommand(env *environment) *cobra.Command {
	var f guardFlags
	cmd := &cobra.Command{
		Use:   "set HOST[/PATH] | --id N",
		Short: "Make a guard, or change one",
		Long: `Make a guard, or change the one that is there for this host and path. Only what is given changes.

Addresses and ranges are separated by commas or spaces; deny goes before allow, and an allow list excludes all others. A rate
counts for each client: an address, of IPv6 its /64 network. Where --user names somebody, a name and a password are asked for;
what goes on to the target has them no more.`,
		Example: `  cutover guards set shop.example.com/admin --allow '192.0.2.0/24 2001:db8::/32'
  cutover guards set shop.example.com --deny 198.51.100.7
  cutover guards set shop.example.com/login --rate 1 --burst 5
  cutover guards set staging.example.com --user "$(cutover guards password anna)"
  cutover guards set staging.example.com --remove-user anna
  cutover guards set --id 4 --enabled=false`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			row, err := f.row(cmd, args)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error { return f.set(cmd.Context(), env, s, row) })
		},
	}
	f.addKey(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.allow, "allow", "", "let only these addresses and ranges in; '' for all")
	flags.StringVar(&f.deny, "deny", "", "refuse these addresses and ranges; '' for none")
	flags.StringVar(&f.rate, "rate", "", "requests a second for one client; 0 for no limit")
	flags.Int64Var(&f.burst, "burst", 0, "how many of them at once; 0 for as many as --rate")
	flags.StringArrayVar(&f.users, "user", nil, "let this one in, or change the password: NAME:HASH, as 'cutover guards password NAME' prints it")
	flags.StringArrayVar(&f.removeUsers, "remove-user", nil, "let this one in no more: NAME")
	flags.StringVar(&f.realm, "realm", "", "what browsers say that the password is for; '' for the host")
	flags.BoolVar(&f.enabled, "enabled", true, "whether the guard counts at all")
	flags.StringVar(&f.note, "note", "", "a note for other operators")
	return cmd
}

func (f *guardFlags) addKey(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.id, "id", 0, "the guard with this id")
	addDryRun(cmd, &f.dryRun)
}

// key returns the columns that say which guard is meant.
func (f *guardFlags) key(cmd *cobra.Command, args []string) (map[string]any, error) {
	if err := oneName(cmd, args); err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("id") {
		return map[string]any{"id": f.id}, nil
	}
	if len(args) == 0 {
		return nil, withHint(&usageError{errors.New("which guard? neither HOST nor --id was given")}, "run '"+cmd.CommandPath()+" --help'")
	}
	p, err := parsePlace(args[0])
	return map[string]any{"host": p.host, "path": p.path}, err
}

func (f *guardFlags) row(cmd *cobra.Command, args []string) (map[string]any, error) {
	row, err := f.key(cmd, args)
	if err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("rate") {
		if row["rate"], err = parseNumber("--rate", strings.TrimSuffix(f.rate, "/s")); err != nil {
			return nil, err
		}
	}
	given(cmd, row, "allow", "allow", f.allow)
	given(cmd, row, "deny", "deny", f.deny)
	given(cmd, row, "burst", "burst", f.burst)
	given(cmd, row, "realm", "realm", f.realm)
	given(cmd, row, "enabled", "enabled", f.enabled)
	given(cmd, row, "note", "note", f.note)
	return row, nil
}

// set makes the row what was asked for and shows it.
func (f *guardFlags) set(ctx context.Context, env *environment, s *session, row map[string]any) error {
	if err := f.putUsers(ctx, s, row); err != nil {
		return err
	}
	edits := []store.Edit{{Table: store.TableGuards, Row: row}}
	result, err := s.Edit(ctx, admin.EditRequest{Edits: edits, DryRun: f.dryRun})
	if err != nil {
		return err
	}
	if f.dryRun {
		return printDryRun(env, result)
	}
	return showGuard(ctx, env, s, result)
}

// putUsers changes the users of the row as it is by those that were given.
func (f *guardFlags) putUsers(ctx context.Context, s *session, row map[string]any) error {
	if len(f.users)+len(f.removeUsers) == 0 {
		return nil
	}
	users, err := usersOf(ctx, s, row)
	if err != nil {
		return err
	}
	for _, name := range f.removeUsers {
		if users[name] == "" {
			return withHint(fmt.Errorf("the guard lets no %q in", name), "see 'cutover guards ls'")
		}
		delete(users, name)
	}
	for _, pair := range f.users {
		name, hash, ok := strings.Cut(strings.TrimSpace(pair), ":")
		if !ok || name == "" || hash == "" {
			return withHint(&usageError{fmt.Errorf("--user %q is no NAME:HASH", name)}, "run 'cutover guards password NAME', it prints one")
		}
		users[name] = name + ":" + hash
	}
	row["users"] = strings.Join(slices.Sorted(maps.Values(users)), " ")
	return nil
}

// usersOf returns the users of the guard that the columns of a key name, as it is.
func usersOf(ctx context.Context, s *session, key map[string]any) (map[string]string, error) {
	var list admin.GuardList
	var err error
	if id, ok := key["id"]; ok {
		list, err = s.Guard(ctx, fmt.Sprint(id))
	} else {
		list, err = s.Guards(ctx, fmt.Sprint(key["host"]))
	}
	for _, g := range list.Guards {
		if path, ok := key["path"]; !ok || path == g.Path {
			return parseUsers(g.Users), err
		}
	}
	return map[string]string{}, err
}

func showGuard(ctx context.Context, env *environment, s *session, result store.Result) error {
	id := changedID(result)
	list, err := s.Guard(ctx, id)
	if err != nil {
		return err
	}
	if err := confirm("guards", id, len(list.Guards) > 0, list.Problems); err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, result)
	}
	return printTable(env.stdout, guardHeading(), guardLines(list.Guards, list.Problems))
}
