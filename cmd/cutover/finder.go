package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"cutover/proxy/admin"
	"cutover/proxy/discovery"
	"cutover/proxy/discovery/digitalocean"
	"cutover/rules"
)

// openFinder makes what finds the targets that rows name another place for.
func (d *daemon) openFinder() error {
	names := discovery.DNS{}
	resolvers := map[rules.SourceKind]discovery.Resolver{
		rules.SourceDNS: names.Addresses, rules.SourceSRV: names.Services, rules.SourceDroplets: digitalocean.Off,
		rules.SourceFile: discovery.Files{Dir: d.config.TargetDir}.Lookup,
	}
	account, err := openAccount(d.config.DigitalOcean, os.Getenv)
	switch {
	case err == nil:
		d.account = account
		resolvers[rules.SourceDroplets] = account.Tagged
	case !errors.Is(err, errNoAccount):
		return err
	}
	d.finder = discovery.New(discovery.Options{Upstreams: d.upstreamRows, Resolvers: resolvers, Log: d.log})
	return nil
}

func (d *daemon) upstreamRows() []*rules.Upstream { return d.store.Load().Upstreams() }

// awaitTargets returns when all targets were looked up once that have to be, after three seconds at the latest: so that the first
// visitors of a worker need not wait for them.
func (d *daemon) awaitTargets(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, u := range d.upstreamRows() {
		d.finder.Await(ctx, u.Targets)
	}
}

var errNoAccount = withHint(errors.New("no token of a DigitalOcean account is given"),
	"put one into a file of root's with mode 600, and its path into /etc/cutover/cutover.toml: [digitalocean] token_file = \"/etc/cutover/digitalocean.token\"")

// openAccount returns the account that the configuration names, or errNoAccount. Its token is not looked at before it is needed:
// that it is missing must not keep a daemon from serving.
func openAccount(c DigitalOceanConfig, getenv func(string) string) (*digitalocean.Account, error) {
	if c.TokenFile == "" {
		return nil, errNoAccount
	}
	account, err := digitalocean.Open(c.URL, tokenFile(c.TokenFile, getenv))
	return account, withHint(err, "digitalocean.url is for tests: leave it out")
}

// tokenFile returns the credential with the file's name that systemd has handed over, if there is one: the file itself the user
// of the daemon may not read.
func tokenFile(file string, getenv func(string) string) string {
	if dir := getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		credential := filepath.Join(dir, filepath.Base(file))
		if _, err := os.Lstat(credential); err == nil {
			return credential
		}
	}
	return file
}

// sourceParts shows where targets are looked for, and what was found.
func (d *daemon) sourceParts() []admin.SourceStatus {
	var list []admin.SourceStatus
	for _, s := range d.finder.Status() {
		list = append(list, admin.SourceStatus(s))
	}
	return list
}
