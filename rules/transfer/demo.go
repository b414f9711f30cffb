package transfer

import (
	"errors"
	"fmt"
	"strings"

	"cutover/rules"
)

// DemoRule makes a rule of a row of go-proxy-demo's table proxy_rules: all visitors of a domain get v1, or all get v2.
func DemoRule(domain, version string) (rules.Rule, error) {
	row := Rules().initial
	row.Host = strings.TrimSpace(domain)
	switch strings.ToLower(strings.TrimSpace(version)) {
	case "v1", "1":
	case "v2", "2":
		row.Percent = 100
	default:
		return row, fmt.Errorf("version must be v1 or v2, not %q", version)
	}
	return row, nil
}

// DemoRedirect makes a redirect of a row of go-proxy-demo's table redirect_rules. A prefix is a path, and may begin with a
// host.
func DemoRedirect(prefix, to string) (rules.Redirect, error) {
	row := Redirects().initial
	row.ToURL = strings.TrimSpace(to)
	text := strings.TrimSpace(prefix)
	for _, scheme := range []string{"https://", "http://"} {
		text = strings.TrimPrefix(text, scheme)
	}
	host, path, found := strings.Cut(text, "/")
	switch {
	case text == "":
		return row, errors.New("prefix is empty")
	case host == "":
		host = "*"
	case !strings.Contains(host, ".") && !found:
		return row, fmt.Errorf("prefix %q is neither a path such as /old nor a host such as old.example.com", prefix)
	}
	row.Host, row.Path = host, "/"+path
	return row, nil
}
