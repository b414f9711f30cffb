package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is one key of the configuration: how it is named, what it means and where it goes.
type setting struct {
	key     string // as in the file, sections joined by a dot
	initial string // the default
	doc     string
	set     func(c *Config, value string) error
	systemd string // a variable that systemd sets for it, beside CUTOVER_…
}

// env returns the name of the setting's environment variable.
func (s setting) env() string {
	return "CUTOVER_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// flag returns the name of the setting's flag.
func (s setting) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
}

// letsEncrypt is the production directory of Let's Encrypt.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// settings lists every key there is, in the order in which 'cutover config' prints them.
func settings() []setting {
	return []setting{
		{key: "state_dir", initial: "/var/lib/cutover", systemd: "STATE_DIRECTORY", doc: "folder of the rules, keys and certificates", set: text(func(c *Config) *string { return &c.StateDir }, absolute)},
		{key: "runtime_dir", initial: "/run/cutover", systemd: "RUNTIME_DIRECTORY", doc: "folder of admin.sock", set: text(func(c *Config) *string { return &c.RuntimeDir }, absolute)},
		{key: "log_format", initial: "json", doc: "json or text", set: text(func(c *Config) *string { return &c.LogFormat }, oneOf("json", "text"))},
		{key: "log_level", initial: "info", doc: "debug, info, warn or error", set: text(func(c *Config) *string { return &c.LogLevel }, oneOf("debug", "info", "warn", "error"))},
		{key: "access_log", initial: "on", doc: "a line for each request: on or off", set: text(func(c *Config) *string { return &c.AccessLog }, oneOf("on", "off"))},
		{key: "access_sample", initial: "1", doc: "share of requests that get a line, above 0 and up to 1; failed ones always do", set: setSample},
		{key: "trusted_proxies", initial: "", doc: "addresses or ranges whose X-Forwarded-* headers are believed, separated by commas", set: setTrusted},
		{key: "error_pages", initial: "", doc: "folder with pages of your own: 502.html, 503.html, …", set: text(func(c *Config) *string { return &c.ErrorPages }, absoluteOrEmpty)},
		{key: "upstream_ca", initial: "", doc: "PEM file of further roots that https targets may be signed by", set: text(func(c *Config) *string { return &c.UpstreamCA }, absoluteOrEmpty)},
		{key: "certificate_dir", initial: "/etc/cutover/certificates", doc: "folder of certificates of your own: NAME.crt with its chain, and NAME.key", set: text(func(c *Config) *string { return &c.CertificateDir }, absolute)},
		{key: "admin_keys", initial: "/etc/cutover/admin.keys", doc: "file of API keys for the optional TCP admin socket", set: text(func(c *Config) *string { return &c.AdminKeys }, absolute)},
		{key: "drain_timeout", initial: "10s", doc: "how long a stopping process may finish what it has; at most 35s under the shipped unit", set: setDuration(func(c *Config) *time.Duration { return &c.DrainTimeout })},
		{key: "request_drain", initial: "10m", doc: "after a restart, how long the old process lets requests under way go on", set: setDuration(func(c *Config) *time.Duration { return &c.RequestDrain })},
		{key: "tunnel_drain", initial: "30m", doc: "after a restart, how long the old process keeps WebSockets and event streams", set: setDuration(func(c *Config) *time.Duration { return &c.TunnelDrain })},
		{key: "probation", initial: "30s", doc: "after a restart, how long the old process stands by to serve again, should the new one die", set: setDuration(func(c *Config) *time.Duration { return &c.Probation })},
		{key: "history_changes", initial: "1000000", doc: "how many changes the journal keeps at most", set: setCount(1_000_000_000, func(c *Config) *int { return &c.HistoryChanges })},
		{key: "history_days", initial: "365", doc: "how many days the journal keeps a change at most", set: setCount(36_500, func(c *Config) *int { return &c.HistoryDays })},
		{key: "acme.issuer", initial: "acme", doc: "acme, local (a development CA of its own) or off (stored certificates only)", set: text(func(c *Config) *string { return &c.ACME.Issuer }, oneOf("acme", "local", "off"))},
		{key: "acme.directory", initial: letsEncrypt, doc: "directory URL of the CA", set: text(func(c *Config) *string { return &c.ACME.Directory }, httpsURL)},
		{key: "acme.root", initial: "", doc: "PEM file of the root that signed the CA's own https certificate, if the system does not trust it", set: text(func(c *Config) *string { return &c.ACME.Root }, absoluteOrEmpty)},
		{key: "acme.profile", initial: "", doc: "kind of certificate, one of those that the CA offers, such as tlsserver or shortlived; empty leaves it to the CA", set: text(func(c *Config) *string { return &c.ACME.Profile }, nil)},
		{key: "acme.email", initial: "", doc: "contact address of the ACME account", set: text(func(c *Config) *string { return &c.ACME.Email }, nil)},
		{key: "acme.account_key", initial: "", doc: "PEM file of an existing account's key", set: text(func(c *Config) *string { return &c.ACME.AccountKey }, absoluteOrEmpty)},
	}
}

func findSetting(key string) (setting, bool) {
	all := settings()
	i := slices.IndexFunc(all, func(s setting) bool { return s.key == key })
	if i < 0 {
		return setting{}, false
	}
	return all[i], true
}

// text stores a string after check, which may be nil.
func text(field func(*Config) *string, check func(string) error) func(*Config, string) error {
	return func(c *Config, value string) error {
		if check != nil {
			if err := check(value); err != nil {
				return err
			}
		}
		*field(c) = value
		return nil
	}
}

func absolute(value string) error {
	if !filepath.IsAbs(value) {
		return fmt.Errorf("%q must be an absolute path", value)
	}
	return nil
}

func absoluteOrEmpty(value string) error {
	if value == "" {
		return nil
	}
	return absolute(value)
}

func httpsURL(value string) error {
	if !strings.HasPrefix(value, "https://") {
		return fmt.Errorf("%q must be an https:// URL", value)
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(values, value) {
			return fmt.Errorf("%q must be one of %s", value, strings.Join(values, ", "))
		}
		return nil
	}
}

func setDuration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q must be a time such as 10s or 2m", value)
		}
		*field(c) = d
		return nil
	}
}

func setCount(most int, field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > most {
			return fmt.Errorf("%q must be a whole number from 1 to %d", value, most)
		}
		*field(c) = n
		return nil
	}
}

func setSample(c *Config, value string) error {
	share, err := strconv.ParseFloat(value, 64)
	if err != nil || !(share > 0 && share <= 1) {
		return fmt.Errorf("%q must be above 0 and at most 1; to have no lines set access_log = \"off\"", value)
	}
	c.AccessSample = share
	return nil
}

func setTrusted(c *Config, value string) error {
	c.TrustedProxies = nil
	for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		prefix, err := parsePrefix(part)
		if err != nil {
			return err
		}
		c.TrustedProxies = append(c.TrustedProxies, prefix)
	}
	return nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(address, address.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q must be an address or a range such as 10.0.0.0/8", text)
	}
	return prefix.Masked(), nil
}
