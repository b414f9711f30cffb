package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"cutover/rules"
	"cutover/rules/store"
)

// upstreamSetting is a column of the table upstreams as a flag of the same name, with hyphens.
type upstreamSetting struct {
	column string
	kind   settingKind
	help   string
}

type settingKind byte

const (
	textSetting settingKind = iota
	numberSetting
	secondsSetting
	wholeSetting
)

func upstreamSettings() []upstreamSetting {
	return []upstreamSetting{
		{"response_timeout", secondsSetting, "seconds until the first response header; 0 for no limit"},
		{"connect_timeout", secondsSetting, "seconds until a target accepts a connection"},
		{"tls_timeout", secondsSetting, "seconds that a TLS handshake with a target may take"},
		{"idle_timeout", secondsSetting, "seconds without a byte of a body, after which the exchange ends; 0 for no limit"},

		{"check_path", textSetting, "ask each target for this path again and again; one that does not answer well gets no requests; '' for no checks"},
		{"check_host", textSetting, "the host that a check asks for; '' for the target's own"},
		{"check_interval", secondsSetting, "seconds from one check to the next"},
		{"check_timeout", secondsSetting, "seconds that an answer to a check may take"},
		{"check_status", textSetting, "status codes of a good answer: codes and ranges, separated by commas"},
		{"check_body", textSetting, "text that a good answer holds; '' for any"},
		{"check_rise", wholeSetting, "good answers in a row until a target gets requests again"},
		{"check_fall", wholeSetting, "bad answers in a row until it gets none"},

		{"balance", textSetting, "how a target is chosen: p2c (less to do, answers sooner), round-robin, least-connections or visitor-hash"},
		{"targets_of", textSetting, "use the targets of this upstream, with other settings; '' for its own"},
		{"max_in_flight", wholeSetting, "requests at a time to each target; 0 for no limit"},
		{"queue_length", wholeSetting, "requests that may wait for a target with room"},
		{"queue_timeout", secondsSetting, "seconds that one may wait"},
		{"retries", wholeSetting, "other targets that are tried after the first, where that does no harm"},
		{"retry_body", wholeSetting, "bytes of a PUT or DELETE that are kept for that"},
		{"breaker_percent", numberSetting, "leave the upstream alone when so many percent of its answers fail; 0 for never"},
		{"breaker_requests", wholeSetting, "answers within ten seconds below which that is not judged"},
		{"breaker_pause", secondsSetting, "seconds until one request may try again"},

		{"proxy_protocol", textSetting, "off, v1 or v2: what tells a target the client's address at the start of each connection"},
		{"tls_server_name", textSetting, "the name that a target's certificate must have; '' for the target's own host"},
		{"tls_ca", textSetting, "trust the certificates of NAME.pem instead of the system's"},
		{"tls_certificate", textSetting, "show NAME.crt, with NAME.key, to targets that ask who we are"},
		{"tls_pin", textSetting, "SHA-256 sums of public keys, in base64, of which a target must have one"},

		{"send_host", textSetting, "the host that targets are asked for; '' for the visitor's"},
		{"own_hosts", textSetting, "hosts by which the upstream knows itself, that become the visitor's in answers"},
		{"strip_prefix", textSetting, "take this off the paths of requests"},
		{"add_prefix", textSetting, "put this before the paths of requests"},
		{"cookie_domain", textSetting, "the domain of cookies that are for one of own_hosts; '' for none"},
		{"cookie_prefix", textSetting, "put this before the names of the upstream's cookies"},
		{"request_headers", textSetting, `change headers of requests: {"Name":"value","+Added":"value","Removed":null}`},
		{"response_headers", textSetting, "change headers of answers, likewise"},

		{"fcgi_root", textSetting, "folder of the scripts of a FastCGI application, such as /srv/shop/public"},
		{"fcgi_index", textSetting, "script of a folder"},
		{"fcgi_split", textSetting, "end of the names of scripts"},
		{"fcgi_front", textSetting, "script for paths that name none, such as /index.php; '' for 404"},
		{"fcgi_params", textSetting, `further parameters: {"APP_ENV":"prod"}`},
		{"fcgi_keep", wholeSetting, "connections that are kept; each occupies a worker of php-fpm"},
	}
}

func (s upstreamSetting) flag() string { return strings.ReplaceAll(s.column, "_", "-") }

// addUpstreamSettings adds a flag for each setting; put reads those that were given.
func addUpstreamSettings(flags *pflag.FlagSet) {
	defaults := store.UpstreamDefaults()
	for _, s := range upstreamSettings() {
		flags.String(s.flag(), defaults[s.column], s.help)
	}
}

// put sets the columns whose flags were given.
func putUpstreamSettings(cmd *cobra.Command, row map[string]any) error {
	for _, s := range upstreamSettings() {
		if !cmd.Flags().Changed(s.flag()) {
			continue
		}
		value, err := s.read(cmd.Flags().Lookup(s.flag()).Value.String())
		if err != nil {
			return err
		}
		row[s.column] = value
	}
	return nil
}

// read returns what the database holds for the text of a flag.
func (s upstreamSetting) read(text string) (any, error) {
	switch s.kind {
	case secondsSetting:
		return parseNumber("--"+s.flag(), strings.TrimSuffix(text, "s"))
	case numberSetting:
		return parseNumber("--"+s.flag(), strings.TrimSuffix(text, "%"))
	case wholeSetting:
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, notWhole("--"+s.flag(), text)
		}
		return number, nil
	}
	return text, nil
}

// settingsText returns what an upstream says that is not so by default.
func settingsText(u *rules.Upstream) string {
	var said []string
	defaults, values := store.UpstreamDefaults(), store.UpstreamSettings(u)
	for _, s := range upstreamSettings() {
		if value := values[s.column]; value != defaults[s.column] {
			said = append(said, s.column+"="+value)
		}
	}
	return strings.Join(said, " ")
}
