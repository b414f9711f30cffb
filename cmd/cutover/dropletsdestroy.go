package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/discovery/digitalocean"
)

func newDropletsDestroyCommand(env *environment) *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:     "destroy ID|NAME",
		Aliases: []string{"rm", "delete"},
		Short:   "Destroy a droplet and what is on its disk, for good",
		Long: `Destroy a droplet and what is on its disk, for good. Its exact name is asked for, unless --yes is given.

Where a tag of it finds targets, requests go on to it until the tag is looked up again, up to 33 seconds: take the tag off
first, or let the others answer for it.`,
		Example: "  cutover droplets destroy web-3\n  cutover droplets destroy 3164444 --yes",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAccount(env, func(a *digitalocean.Account) error {
				d, err := findDroplet(cmd.Context(), a, args[0])
				if err != nil {
					return err
				}
				if err := confirmDestroy(env, &d, yes); err != nil {
					return err
				}
				if err := a.Destroy(cmd.Context(), d.ID); err != nil {
					return err
				}
				return say(env.stdout, "destroyed %s (%d)", d.Name, d.ID)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for its name")
	return cmd
}

// findDroplet finds a droplet by its name or its id. What may mean two is refused.
func findDroplet(ctx context.Context, a *digitalocean.Account, idOrName string) (digitalocean.Droplet, error) {
	list, err := a.List(ctx, "")
	if err != nil {
		return digitalocean.Droplet{}, err
	}
	var named []digitalocean.Droplet
	var ids []string
	for _, d := range list {
		if d.Name == idOrName || strconv.Itoa(d.ID) == idOrName {
			named, ids = append(named, d), append(ids, strconv.Itoa(d.ID))
		}
	}
	switch {
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return digitalocean.Droplet{}, withHint(fmt.Errorf("there are %d droplets named %s", len(named), idOrName), severalHint(named, ids, idOrName))
	}
	return digitalocean.Droplet{}, withHint(fmt.Errorf("there is no droplet %q", idOrName), "see 'cutover droplets ls' for those there are")
}

// severalHint says how to name one of several droplets: by its id, unless that is the name of another.
func severalHint(named []digitalocean.Droplet, ids []string, asked string) string {
	if slices.Contains(ids, asked) {
		other := named[slices.IndexFunc(named, func(d digitalocean.Droplet) bool { return d.Name == asked })]
		return fmt.Sprintf("%s is the id of one and the name of another, %d: rename that at DigitalOcean first", asked, other.ID)
	}
	return "name one by its id: " + strings.Join(ids, " or ")
}

// confirmDestroy asks for the exact name.
func confirmDestroy(env *environment, d *digitalocean.Droplet, yes bool) error {
	if yes {
		return nil
	}
	_, _ = fmt.Fprintf(env.stderr, "%s (%d, %s, %s) is destroyed with all that is on its disk.\nType its name to go on: ", oneLine(d.Name), d.ID, d.Status, d.PublicIPv4)
	typed, err := bufio.NewReader(io.LimitReader(env.stdin, 1<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(typed) != d.Name {
		return withHint(errors.New("that is not its name: nothing was destroyed"), "type it exactly, or give --yes")
	}
	return nil
}
