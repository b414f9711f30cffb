package store

import (
	"fmt"
	"reflect"
	"strings"

	"cutover/rules"
)

// setting is a column of the table upstreams that came after schema 1.
type setting struct {
	column  string
	kind    settingKind
	initial string // as SQL
	since   int    // the schema that has it first
	field   func(*rules.Upstream) any
}

type settingKind byte

const (
	text settingKind = iota
	number
	integer
)

// settings lists them in the order of the journal's images, to which a newer schema adds its own.
func settings() []setting {
	return []setting{
		{"proxy_protocol", text, "'off'", 2, func(u *rules.Upstream) any { return &u.ProxyProtocol }},
		{"check_path", text, "''", 3, func(u *rules.Upstream) any { return &u.Check.Path }},
		{"check_host", text, "''", 3, func(u *rules.Upstream) any { return &u.Check.Host }},
		{"check_interval", number, "10", 3, func(u *rules.Upstream) any { return &u.Check.Interval }},
		{"check_timeout", number, "5", 3, func(u *rules.Upstream) any { return &u.Check.Timeout }},
		{"check_status", text, "'200-399'", 3, func(u *rules.Upstream) any { return &u.Check.Status }},
		{"check_body", text, "''", 3, func(u *rules.Upstream) any { return &u.Check.Body }},
		{"check_rise", integer, "2", 3, func(u *rules.Upstream) any { return &u.Check.Rise }},
		{"check_fall", integer, "3", 3, func(u *rules.Upstream) any { return &u.Check.Fall }},
		{"targets_of", text, "''", 4, func(u *rules.Upstream) any { return &u.TargetsOf }},
		{"balance", text, "'p2c'", 4, func(u *rules.Upstream) any { return &u.Balance }},
		{"max_in_flight", integer, "0", 4, func(u *rules.Upstream) any { return &u.Room.MaxInFlight }},
		{"queue_length", integer, "100", 4, func(u *rules.Upstream) any { return &u.Room.QueueLength }},
		{"queue_timeout", number, "10", 4, func(u *rules.Upstream) any { return &u.Room.QueueTimeout }},
		{"retries", integer, "3", 4, func(u *rules.Upstream) any { return &u.Repeats.Retries }},
		{"retry_body", integer, "65536", 4, func(u *rules.Upstream) any { return &u.Repeats.RetryBody }},
		{"breaker_percent", number, "0", 4, func(u *rules.Upstream) any { return &u.Breaker.Percent }},
		{"breaker_requests", integer, "20", 4, func(u *rules.Upstream) any { return &u.Breaker.Requests }},
		{"breaker_pause", number, "10", 4, func(u *rules.Upstream) any { return &u.Breaker.Pause }},
		{"connect_timeout", number, "3", 4, func(u *rules.Upstream) any { return &u.Timeouts.Connect }},
		{"tls_timeout", number, "5", 4, func(u *rules.Upstream) any { return &u.Timeouts.TLS }},
		{"idle_timeout", number, "0", 4, func(u *rules.Upstream) any { return &u.Timeouts.Idle }},
		{"tls_server_name", text, "''", 4, func(u *rules.Upstream) any { return &u.TargetTLS.ServerName }},
		{"tls_ca", text, "''", 4, func(u *rules.Upstream) any { return &u.TargetTLS.CA }},
		{"tls_certificate", text, "''", 4, func(u *rules.Upstream) any { return &u.TargetTLS.Certificate }},
		{"tls_pin", text, "''", 4, func(u *rules.Upstream) any { return &u.TargetTLS.Pin }},
		{"send_host", text, "''", 4, func(u *rules.Upstream) any { return &u.Repair.Host }},
		{"own_hosts", text, "''", 4, func(u *rules.Upstream) any { return &u.Repair.OwnHosts }},
		{"strip_prefix", text, "''", 4, func(u *rules.Upstream) any { return &u.Repair.StripPrefix }},
		{"add_prefix", text, "''", 4, func(u *rules.Upstream) any { return &u.Repair.AddPrefix }},
		{"cookie_domain", text, "''", 4, func(u *rules.Upstream) any { return &u.Repair.CookieDomain }},
		{"cookie_prefix", text, "''", 4, func(u *rules.Upstream) any { return &u.Repair.CookiePrefix }},
		{"request_headers", text, "'{}'", 4, func(u *rules.Upstream) any { return &u.Repair.RequestHeaders }},
		{"response_headers", text, "'{}'", 4, func(u *rules.Upstream) any { return &u.Repair.ResponseHeaders }},
		{"fcgi_root", text, "''", 4, func(u *rules.Upstream) any { return &u.FastCGI.Root }},
		{"fcgi_index", text, "'index.php'", 4, func(u *rules.Upstream) any { return &u.FastCGI.Index }},
		{"fcgi_split", text, "'.php'", 4, func(u *rules.Upstream) any { return &u.FastCGI.Split }},
		{"fcgi_front", text, "''", 4, func(u *rules.Upstream) any { return &u.FastCGI.Front }},
		{"fcgi_params", text, "'{}'", 4, func(u *rules.Upstream) any { return &u.FastCGI.Params }},
		{"fcgi_keep", integer, "0", 4, func(u *rules.Upstream) any { return &u.FastCGI.Keep }},
	}
}

// UpstreamDefaults returns what the settings of an upstream are as long as nobody says otherwise, by their columns.
func UpstreamDefaults() map[string]string {
	defaults := map[string]string{"response_timeout": "0"}
	for _, s := range settings() {
		defaults[s.column] = strings.Trim(s.initial, "'")
	}
	return defaults
}

// UpstreamSettings returns what the settings of an upstream are, by their columns.
func UpstreamSettings(u *rules.Upstream) map[string]string {
	values := map[string]string{"response_timeout": fmt.Sprint(u.ResponseTimeout)}
	for _, s := range settings() {
		values[s.column] = fmt.Sprint(reflect.ValueOf(s.field(u)).Elem())
	}
	return values
}

// upstreamTable returns the columns of upstreams that an edit may set.
func upstreamTable() []string {
	columns := []string{"name", "response_timeout", "note"}
	for _, s := range settings() {
		columns = append(columns, s.column)
	}
	return columns
}

// upstreamColumns returns what scanUpstream reads of a database of a generation.
func upstreamColumns(generation int) string {
	parts := []string{"name", numeric("response_timeout"), "note", "updated_at"}
	for _, s := range settings() {
		switch {
		case s.since > generation:
			parts = append(parts, s.initial)
		case s.kind == number:
			parts = append(parts, numeric(s.column))
		case s.kind == integer:
			parts = append(parts, whole(s.column))
		default:
			parts = append(parts, s.column)
		}
	}
	return strings.Join(parts, ", ")
}

func scanUpstream(row scanner) (u rules.Upstream, err error) {
	into := []any{&u.Name, &u.ResponseTimeout, &u.Note, &u.UpdatedAt}
	for _, s := range settings() {
		into = append(into, s.field(&u))
	}
	err = row.Scan(into...)
	return u, err
}

// numeric and whole read a number that is none as -1, see the columns of other tables.
func numeric(column string) string {
	return "iif(typeof(" + column + ") IN ('integer','real'), " + column + ", -1)"
}

func whole(column string) string { return "iif(typeof(" + column + ")='integer', " + column + ", -1)" }
