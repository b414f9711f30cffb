package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"cutover/proxy/discovery/digitalocean/dotest"
)

// scriptAccount starts an API of DigitalOcean with an account, to which the configuration and the file token lead. Each argument
// is a droplet: NAME=TAG=ADDRESS. Without the story's token the account answers nobody.
func scriptAccount(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: account [NAME=TAG=ADDRESS]...")
	}
	api := dotest.New()
	ts.Defer(api.Close)
	for _, arg := range args {
		parts := strings.Split(arg, "=")
		if len(parts) != 3 {
			ts.Fatalf("%q is no NAME=TAG=ADDRESS", arg)
		}
		api.Add(parts[0], []string{parts[1]}, parts[2])
	}
	token := filepath.Join(ts.Getenv("WORK"), "token")
	config := fmt.Sprintf("[digitalocean]\nurl = %q\ntoken_file = %q\n", api.URL, token)
	ts.Check(errors.Join(os.WriteFile(token, []byte(dotest.Token), 0o600), os.WriteFile(ts.Getenv("CUTOVER_CONFIG"), []byte(config), 0o600)))
}

// scriptPort puts the port of a URL into a variable.
func scriptPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: port VARIABLE URL")
	}
	u, err := url.Parse(args[1])
	ts.Check(err)
	ts.Setenv(args[0], u.Port())
}

func TestACredentialOfTheUnitGoesBeforeTheFileOfItsName(t *testing.T) {
	dir := t.TempDir()
	credentials := func(string) string { return dir }
	const file = "/etc/cutover/digitalocean.token"
	if got := tokenFile(file, credentials); got != file {
		t.Errorf("without one: %s", got)
	}
	credential := filepath.Join(dir, "digitalocean.token")
	if err := os.WriteFile(credential, nil, 0o400); err != nil {
		t.Fatal(err)
	}
	if got := tokenFile(file, credentials); got != credential {
		t.Errorf("with one: %s", got)
	}
	if got := tokenFile(file, func(string) string { return "" }); got != file {
		t.Errorf("outside of a unit: %s", got)
	}
}
