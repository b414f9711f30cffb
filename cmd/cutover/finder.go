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
	"cutover/systemd/apps"
)

// openFinder makes what finds the targets that rows name another place for.
func (d *daemon) openFinder() error {
	names, programs := discovery.DNS{}, apps.NewReader(apps.Standard())
	resolvers := map[rules.SourceKind]discovery.Resolver{
		rules.SourceDNS: names.Addresses, rules.SourceSRV: names.Services, rules.SourceDroplets: digitalocean.Off,
		rules.SourceFile: discovery.Files{Dir: d.config.TargetDir}.Lookup,
		rules.SourceApp:  program(programs.Addresses), rules.SourceCGI: program(programs.CGIAddresses),
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

// programAgain is how soon a new slot of a program is noticed. 'cutover app deploy' waits for three times as long.
const programAgain = time.Second

// program looks up where a managed program listens.
func program(addresses func(name string) ([]string, error)) discovery.Resolver {
	return func(source rules.TargetSource) discovery.Lookup {
		return func(context.Context) (discovery.Answer, error) {
			urls, err := addresses(source.Name)
			answer := discovery.Answer{Again: programAgain}
			for _, url := range urls {
				answer.Places = append(answer.Places, discovery.Place{URL: url, Weight: 1})
			}
			return answer, err
		}
	}
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
