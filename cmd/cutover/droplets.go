package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/discovery/digitalocean"
)

func newDropletsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "droplets",
		Short: "List, make and destroy droplets of a DigitalOcean account",
		Long: `List, make and destroy droplets of a DigitalOcean account. Those with a tag are targets where an upstream says so:

  cutover upstreams set v2 droplets+http://web:8080    active droplets with the tag web, at their private addresses

It is off unless a token is given: make one with the scope droplet, and put it where root alone reads it.

  sudo install -m 600 /dev/stdin /etc/cutover/digitalocean.token    then paste the token, Enter, Ctrl-D

  # /etc/cutover/cutover.toml
  [digitalocean]
  token_file = "/etc/cutover/digitalocean.token"

The daemon, which is not root, gets it from systemd:

  # sudo systemctl edit cutover
  [Service]
  LoadCredential=digitalocean.token:/etc/cutover/digitalocean.token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDropletsListCommand(env), newDropletsCreateCommand(env), newDropletsDestroyCommand(env))
	return cmd
}

// withAccount runs a verb's work with the account that the configuration names.
func withAccount(env *environment, work func(*digitalocean.Account) error) error {
	config, err := env.config()
	if err != nil {
		return err
	}
	account, err := openAccount(config.DigitalOcean, env.getenv)
	if err != nil {
		return err
	}
	defer account.Close()
	return explainAPI(work(account))
}

// explainAPI adds the next step to what the API says.
func explainAPI(err error) error {
	var answer *digitalocean.Error
	var token *digitalocean.TokenError
	switch {
	case errors.As(err, &token):
		return withHint(err, "'cutover droplets --help' says how to give one; sudo may be needed")
	case errors.Is(err, context.DeadlineExceeded):
		return withHint(err, "see 'cutover droplets ls'; https://status.digitalocean.com says whether it is them")
	case !errors.As(err, &answer):
		return withHint(err, "nothing may have been changed: see 'cutover droplets ls'")
	}
	switch answer.Status {
	case http.StatusUnauthorized:
		return withHint(err, "the token is wrong or has ended: make a new one at https://cloud.digitalocean.com/account/api/tokens, and put it into digitalocean.token_file")
	case http.StatusForbidden:
		return withHint(err, "the token lacks a scope: it needs droplet:read, and droplet:create, droplet:delete and tag:create for more than ls")
	case http.StatusNotFound:
		return withHint(err, "see 'cutover droplets ls' for those there are")
	case http.StatusUnprocessableEntity:
		return withHint(err, "nothing was made or destroyed; regions, sizes and images are listed at https://slugs.do-api.dev")
	case http.StatusTooManyRequests:
		return withHint(err, fmt.Sprintf("the account's limit of requests is used up: try again in %s", ageText(answer.Again)))
	}
	return withHint(err, "try again; https://status.digitalocean.com says whether it is them")
}

func newDropletsListCommand(env *environment) *cobra.Command {
	tag := ""
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List droplets",
		Example: "  cutover droplets ls\n  cutover droplets ls --tag web -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAccount(env, func(a *digitalocean.Account) error {
				list, err := a.List(cmd.Context(), tag)
				if err != nil {
					return err
				}
				return printDroplets(env, list)
			})
		},
	}
	cmd.Flags().StringVar(&tag, "tag", "", "those with this tag")
	return cmd
}

// dropletList is what -o json prints.
type dropletList struct {
	Droplets []digitalocean.Droplet `json:"droplets"`
}

func printDroplets(env *environment, list []digitalocean.Droplet) error {
	if env.output == "json" {
		return printJSON(env, dropletList{append([]digitalocean.Droplet{}, list...)})
	}
	if len(list) == 0 {
		return say(env.stdout, "There are no such droplets.\nNext: cutover droplets create NAME --region fra1 --size s-1vcpu-1gb --image debian-13-x64 --tag web --wait")
	}
	lines := make([][]string, len(list))
	for i, d := range list {
		lines[i] = []string{strconv.Itoa(d.ID), d.Name, d.Status, d.PrivateIPv4, d.PublicIPv4, d.Region, d.Size, d.Image, strings.Join(d.Tags, ",")}
	}
	return printTable(env.stdout, []string{"ID", "NAME", "STATUS", "PRIVATE IPV4", "PUBLIC IPV4", "REGION", "SIZE", "IMAGE", "TAGS"}, lines)
}
