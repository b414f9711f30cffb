package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cutover/proxy/discovery/digitalocean"
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

// defaultErrorPages is looked at whether it is there or not: pages can be put there at any time.
const defaultErrorPages = "/etc/cutover/errors"

// letsEncrypt is the production directory of Let's Encrypt.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// settings lists every key there is, in the order in which 'cutover config' prints them.
func settings() []setting {
	return append([]setting{
		{key: "state_dir", initial: "/var/lib/cutover", systemd: "STATE_DIRECTORY", doc: "folder of the rules, keys and certificates", set: text(func(c *Config) *string { return &c.StateDir }, absolute)},
		{key: "runtime_dir", initial: "/run/cutover", systemd: "RUNTIME_DIRECTORY", doc: "folder of admin.sock", set: text(func(c *Config) *string { return &c.RuntimeDir }, absolute)},
		{key: "log_format", initial: "json", doc: "json or text", set: text(func(c *Config) *string { return &c.LogFormat }, oneOf("json", "text"))},
		{key: "log_level", initial: "info", doc: "debug, info, warn or error", set: text(func(c *Config) *string { return &c.LogLevel }, oneOf("debug", "info", "warn", "error"))},
		{key: "access_log", initial: "on", doc: "a line for each request: on or off", set: text(func(c *Config) *string { return &c.AccessLog }, oneOf("on", "off"))},
		{key: "access_sample", initial: "1", doc: "share of requests that get a line, above 0 and up to 1; failed ones always do", set: setSample},
		{key: "trusted_proxies", initial: "", doc: "addresses or ranges whose X-Forwarded-* headers are believed, separated by commas", set: setPrefixes(func(c *Config) *[]netip.Prefix { return &c.TrustedProxies })},
		{key: "proxy_protocol.trusted", initial: "", doc: "addresses or ranges of load balancers that begin each connection with a PROXY protocol header, separated by commas", set: setPrefixes(func(c *Config) *[]netip.Prefix { return &c.ProxyProtocol.Trusted })},
		{key: "proxy_protocol.without_header", initial: withoutHeaderRefuse, doc: "what becomes of a connection of theirs that has none: refuse, or accept, with the balancer as its client", set: text(func(c *Config) *string { return &c.ProxyProtocol.WithoutHeader }, oneOf(withoutHeaderRefuse, withoutHeaderAccept))},
		{key: "v1_tls", initial: "", doc: "host:port where v1 ends TLS, for its own ACME client, if the upstream v1 has no https target", set: text(func(c *Config) *string { return &c.V1TLS }, hostAndPort)},
		{key: "error_pages", initial: defaultErrorPages, doc: "folder of error pages of your own: STATUS.html or default.html, in it or in HOST/; it may be missing", set: text(func(c *Config) *string { return &c.ErrorPages }, absoluteOrEmpty)},
		{key: "upstream_ca", initial: "", doc: "PEM file of further roots that https targets may be signed by", set: text(func(c *Config) *string { return &c.UpstreamCA }, absoluteOrEmpty)},
		{key: "target_dir", initial: "/etc/cutover/targets", doc: "folder of the files of targets that file:NAME stands for; root owns them", set: text(func(c *Config) *string { return &c.TargetDir }, absolute)},
		{key: "digitalocean.token_file", initial: "", doc: "file of the token of a DigitalOcean account, which others cannot read; a credential of the unit with the file's name goes before it", set: text(func(c *Config) *string { return &c.DigitalOcean.TokenFile }, absoluteOrEmpty)},
		{key: "digitalocean.url", initial: digitalocean.API, doc: "where its API answers; another only for tests", set: text(func(c *Config) *string { return &c.DigitalOcean.URL }, nil)},
		{key: "certificate_dir", initial: "/etc/cutover/certificates", doc: "folder of certificates of your own: NAME.crt with its chain, and NAME.key; and of those by which targets know Cutover, or are known: NAME.pem", set: text(func(c *Config) *string { return &c.CertificateDir }, absolute)},
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
		{key: "acme.orders", initial: "250", doc: "new certificates that the account orders at most within orders_window; renewals do not count", set: setCount(100_000, func(c *Config) *int { return &c.ACME.Limits.Orders })},
		{key: "acme.orders_window", initial: "3h", doc: "the time that orders is for", set: setDuration(func(c *Config) *time.Duration { return &c.ACME.Limits.OrdersWindow })},
		{key: "acme.orders_per_domain", initial: "40", doc: "new certificates for hosts of one registered domain at most within names_window", set: setCount(100_000, func(c *Config) *int { return &c.ACME.Limits.PerDomain })},
		{key: "acme.orders_per_name", initial: "4", doc: "new certificates for one host at most within names_window", set: setCount(1000, func(c *Config) *int { return &c.ACME.Limits.PerName })},
		{key: "acme.any_per_domain", initial: "10", doc: "of the hosts of one registered domain that no row names exactly, how many get a new certificate at most within names_window", set: setCount(100_000, func(c *Config) *int { return &c.ACME.Limits.AnyPerDomain })},
		{key: "acme.names_window", initial: "168h", doc: "the time that orders_per_domain, orders_per_name and any_per_domain are for", set: setDuration(func(c *Config) *time.Duration { return &c.ACME.Limits.NamesWindow })},
		{key: "acme.names_per_client", initial: "5", doc: "hosts without a certificate that one client may ask for in a minute", set: setCount(100_000, func(c *Config) *int { return &c.ACME.Limits.PerClient })},
		{key: "acme.in_flight", initial: "20", doc: "new certificates that are being issued at once at most", set: setCount(1000, func(c *Config) *int { return &c.ACME.InFlight })},
		{key: "acme.preflight", initial: "off", doc: "look before an order whether the host leads to this machine: on or off", set: text(func(c *Config) *string { return &c.ACME.Preflight }, oneOf("on", "off"))},
		{key: "acme.addresses", initial: "", doc: "addresses that preflight takes for this machine's, separated by commas; empty for those it has", set: setAddresses},
		{key: "acme.dns.command", initial: "", doc: "program that is run as COMMAND present|cleanup FQDN VALUE and writes that TXT record to the DNS, or removes it: names are proved to the CA so (DNS-01), and in no other way", set: text(func(c *Config) *string { return &c.ACME.DNS.Command }, absoluteOrEmpty)},
		{key: "acme.dns.socket", initial: "/run/cutover-dns.sock", doc: "socket of cutover-dns.socket, which runs that program as a user of its own", set: text(func(c *Config) *string { return &c.ACME.DNS.Socket }, absolute)},
		{key: "acme.dns.timeout", initial: "1m", doc: "how long that program may take", set: setDuration(func(c *Config) *time.Duration { return &c.ACME.DNS.Timeout })},
		{key: "acme.dns.resolvers", initial: "", doc: "HOST:PORT of DNS servers that are asked whether the record is there, separated by commas; empty for the servers of the zone", set: setResolvers},
		{key: "acme.dns.server", initial: "", doc: "instead of a command, HOST:PORT of a DNS server that takes signed updates (RFC 2136)", set: text(func(c *Config) *string { return &c.ACME.DNS.Server }, hostAndPort)},
		{key: "acme.dns.key", initial: "", doc: "name of the key that signs the updates (TSIG)", set: text(func(c *Config) *string { return &c.ACME.DNS.Key }, nil)},
		{key: "acme.dns.algorithm", initial: "hmac-sha256", doc: "of that key: hmac-sha256 or hmac-sha512", set: text(func(c *Config) *string { return &c.ACME.DNS.Algorithm }, oneOf("hmac-sha256", "hmac-sha512"))},
		{key: "acme.dns.secret", initial: "", doc: "file of that key's secret, in base64", set: text(func(c *Config) *string { return &c.ACME.DNS.Secret }, absoluteOrEmpty)},
	}, limitSettings()...)
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

func setResolvers(c *Config, value string) error {
	c.ACME.DNS.Resolvers = nil
	for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		if err := hostAndPort(part); err != nil {
			return err
		}
		c.ACME.DNS.Resolvers = append(c.ACME.DNS.Resolvers, part)
	}
	return nil
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

func setPrefixes(field func(*Config) *[]netip.Prefix) func(*Config, string) error {
	return func(c *Config, value string) error {
		var list []netip.Prefix
		for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
			prefix, err := parsePrefix(part)
			if err != nil {
				return err
			}
			list = append(list, prefix)
		}
		*field(c) = list
		return nil
	}
}

// hostAndPort checks an address to connect to; none is right, too.
func hostAndPort(value string) error {
	if value == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(value)
	if number, failed := strconv.ParseUint(port, 10, 16); err != nil || failed != nil || number == 0 || host == "" {
		return fmt.Errorf("%q must be HOST:PORT, such as 10.0.0.5:443", value)
	}
	return nil
}

func setAddresses(c *Config, value string) error {
	c.ACME.Addresses = nil
	for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		address, err := netip.ParseAddr(part)
		if err != nil {
			return fmt.Errorf("%q must be an address such as 192.0.2.10", part)
		}
		c.ACME.Addresses = append(c.ACME.Addresses, address.Unmap())
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
