package store

import (
	"context"
	"database/sql"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cutover/rules"
)

// urlMessage is the name of the constraint of targets' URLs.
const urlMessage = "url must be http://, https://, h2c://, h2:// or fcgi:// with host:port; unix:, h2c+unix: or fcgi+unix: with a path; app:NAME, cgi:NAME or file:NAME; dns+, srv+ or droplets+ before one with a host"

// What is typed at the prompt and makes no sense is refused by SQLite itself, in exactly these words.
func TestNonsenseIsRefusedAtThePromptInPlainWords(t *testing.T) {
	dir := t.TempDir()
	_, _ = start(t, dir)
	mustSqlite(t, dir, "INSERT INTO rules(host) VALUES('a.test'),('z.test'); INSERT INTO redirects(host,to_url) VALUES('a.test','https://b.test/'),('z.test','https://b.test/')")
	mustSqlite(t, dir, "INSERT INTO targets(upstream,url) VALUES('v1','http://127.0.0.1:1'); INSERT INTO hosts(host) VALUES('a.test'),('z.test'); INSERT INTO guards(host) VALUES('a.test'),('z.test')")
	for _, row := range nonsense() {
		got, err := sqlite(t, dir, row.statement)
		if err == nil || inWords(got) != row.want {
			t.Errorf("%s\n got %q\nwant %q", row.statement, inWords(got), row.want)
		}
	}
	if got := mustSqlite(t, dir, "SELECT count(*) FROM changes"); got != "9" {
		t.Errorf("%s changes are in the journal: something of it was done", got)
	}
}

// inWords cuts off what the sqlite3 program puts around a message; its versions differ in that.
func inWords(output string) string {
	return regexp.MustCompile(`^(?:Runtime error|Error)(?: near line \d+)?: (?:stepping, )?(?:CHECK constraint failed: )?(.*?)(?: \(\d+\))?$`).ReplaceAllString(output, "$1")
}

type refusal struct{ statement, want string }

func nonsense() []refusal {
	all := append(nonsenseRules(), nonsensePlaces()...)
	return slices.Concat(all, nonsenseOthers(), nonsenseAtTheEdge(), nonsenseOfUpstreams())
}

func nonsenseRules() []refusal {
	const (
		percent = "percent must be a number from 0 to 100"
		starts  = "starts_at must be empty or a time with its offset, such as 2026-11-21T03:00:00+01:00"
		ends    = "ends_at must be empty or a time with its offset, such as 2026-11-21T03:00:00+01:00"
		null    = "NULL is no value here: leave the column out, or write '' for an empty text"
		v2      = "v2 is not the name of an upstream (run: SELECT name FROM upstreams;)"
		another = "another rule for this host, path, match and conditions exists already"
	)
	return []refusal{
		{"UPDATE rules SET percent='half'", percent},
		{"UPDATE rules SET percent='ten'", percent},
		{"UPDATE rules SET percent='10%'", percent},
		{"UPDATE rules SET percent=''", percent},
		{"UPDATE rules SET percent=100.01", percent},
		{"UPDATE rules SET percent=-1", percent},
		{"UPDATE rules SET percent=9e999", percent},
		{"UPDATE rules SET percent=NULL", percent},
		{"INSERT INTO rules(host,percent) VALUES('b.test',NULL)", percent},
		{"INSERT INTO rules(percent) VALUES(10)", "host is missing"},
		{"INSERT INTO rules(host) VALUES('A.test.')", "UNIQUE constraint failed: rules.host_key, rules.path, rules.match, rules.conditions"},
		{"INSERT INTO rules(host,v1) VALUES('b.test','')", "v1 is not the name of an upstream (run: SELECT name FROM upstreams;)"},
		{"INSERT INTO rules(host,v2) VALUES('b.test','v3')", v2},
		{"UPDATE rules SET v2='v3'", v2},
		{"INSERT INTO rules(host,match) VALUES('b.test','regex')", "match must be prefix or exact"},
		{"INSERT INTO rules(host,match) VALUES('b.test',NULL)", null},
		{"UPDATE rules SET starts_at=NULL", null},
		{"INSERT INTO rules(host,conditions) VALUES('b.test','x')", "conditions must be a JSON object, {} for none"},
		{"INSERT INTO rules(host,sticky) VALUES('b.test','yes')", "sticky must be cookie or address"},
		{"INSERT INTO rules(host,starts_at) VALUES('b.test','tomorrow')", starts},
		{"INSERT INTO rules(host,starts_at) VALUES('b.test','2026-11-21')", starts},
		{"INSERT INTO rules(host,starts_at) VALUES('b.test','2026-13-21T03:00:00Z')", starts},
		{"INSERT INTO rules(host,starts_at) VALUES('b.test','2026-02-30T03:00:00Z')", starts},
		{"INSERT INTO rules(host,ends_at) VALUES('b.test','2026-11-21T29:00:00Z')", ends},
		{"INSERT INTO rules(host,starts_at,ends_at) VALUES('b.test','2026-11-21T03:00:00+01:00','2026-11-21T02:00:00Z')", "ends_at must be later than starts_at"},
		{"UPDATE rules SET enabled=2", "enabled must be 0 or 1"},
		{"UPDATE rules SET enabled='yes'", "enabled must be 0 or 1"},
		{"UPDATE rules SET needs=0", "needs must be a whole number from 1"},
		{"UPDATE rules SET note='a'||char(27)||'[2J'", "note must be text of at most 1000 characters, on one line"},
		{"UPDATE rules SET note=hex(zeroblob(501))", "note must be text of at most 1000 characters, on one line"},
		{"UPDATE rules SET id=7 WHERE id=1", "the id of a rule cannot be changed"},
		{"INSERT OR REPLACE INTO rules(id,host) VALUES(1,'c.test')", "a rule with this id exists already: use UPDATE, or leave id out"},
		{"UPDATE rules SET host='Z.test' WHERE host='a.test'", another},
		{"UPDATE OR REPLACE rules SET host='z.test' WHERE host='a.test'", another},
	}
}

func nonsensePlaces() []refusal {
	const (
		host   = "host may hold only a-z 0-9 . - _ and a leading *. (write names of other scripts as xn--...)"
		labels = "host has an empty label, or one longer than 63 characters, or is longer than 253"
		path   = "path must start with / and hold no space, ? or #, and only printable ASCII"
	)
	long := strings.Repeat("a", 64)
	return []refusal{
		{"INSERT INTO rules(host) VALUES('a b.test')", host},
		{"INSERT INTO rules(host) VALUES('müller.test')", host},
		{"INSERT INTO rules(host) VALUES('https://b.test')", host},
		{"INSERT INTO rules(host) VALUES('b.test:8080')", host},
		{"INSERT INTO rules(host) VALUES('b.*.test')", host},
		{"INSERT INTO rules(host) VALUES('b.test'||char(0)||'x')", host},
		{"INSERT INTO rules(host) VALUES(x'622e74657374')", host},
		{"INSERT INTO rules(host) VALUES('')", labels},
		{"INSERT INTO rules(host) VALUES('*.')", labels},
		{"INSERT INTO rules(host) VALUES('*..test')", labels},
		{"INSERT INTO rules(host) VALUES('a..test')", labels},
		{"INSERT INTO rules(host) VALUES('a.test..')", labels},
		{"INSERT INTO rules(host) VALUES('.test')", labels},
		{"INSERT INTO rules(host) VALUES('" + long + ".test')", labels},
		{"INSERT INTO rules(host) VALUES('" + strings.Repeat("abcdefghi.", 26) + "test')", labels},
		{"INSERT INTO rules(host,path) VALUES('b.test','x')", path},
		{"INSERT INTO rules(host,path) VALUES('b.test','/a b')", path},
		{"INSERT INTO rules(host,path) VALUES('b.test','/a?b')", path},
		{"INSERT INTO rules(host,path) VALUES('b.test','/ä')", path},
		{"INSERT INTO rules(host,path) VALUES('b.test','/a'||char(0))", path},
		{"INSERT INTO hosts(host) VALUES('b.*.test')", host},
		{"INSERT INTO hosts(host) VALUES('müller.test')", host},
		{"INSERT INTO hosts(host) VALUES('*..test')", labels},
		{"INSERT INTO guards(host) VALUES('b.test:80')", host},
		{"INSERT INTO guards(host) VALUES('')", labels},
		{"INSERT INTO guards(host,path) VALUES('b.test','x')", path},
		{"INSERT INTO hosts(host) VALUES('a..test')", labels},
		{"INSERT INTO redirects(host,to_url) VALUES('ü.test','https://b.test/')", host},
		{"INSERT INTO redirects(host,path,to_url) VALUES('b.test','old','https://b.test/')", path},
	}
}

func nonsenseOthers() []refusal {
	const (
		toURL    = "to_url must be a whole URL such as https://www.example.com/new, and empty with status 410"
		status   = "status must be 301, 302, 307, 308 or 410"
		url      = urlMessage
		upstream = "upstream is not the name of one (run: SELECT name FROM upstreams;)"
		name     = "the name of an upstream may hold only letters, digits, . _ and -, at most 63 of them"
	)
	return []refusal{
		{"INSERT INTO redirects(host) VALUES('b.test')", toURL},
		{"INSERT INTO redirects(host,to_url) VALUES('b.test','/new')", toURL},
		{"INSERT INTO redirects(host,to_url,status) VALUES('b.test','https://b.test/',410)", toURL},
		{"INSERT INTO redirects(host,to_url,status) VALUES('b.test','https://b.test/',200)", status},
		{"UPDATE redirects SET status='moved'", status},
		{"UPDATE redirects SET keep_path='yes'", "keep_path must be 0 or 1"},
		{"UPDATE redirects SET id=9 WHERE id=1", "the id of a redirect cannot be changed"},
		{"REPLACE INTO redirects(id,host,to_url) VALUES(1,'c.test','https://b.test/')", "a redirect with this id exists already: use UPDATE, or leave id out"},
		{"UPDATE OR REPLACE redirects SET host='z.test' WHERE host='a.test'", "another redirect for this host, path and match exists already"},
		{"UPDATE OR REPLACE hosts SET host='Z.test' WHERE host='a.test'", "another row for this host exists already"},
		{"UPDATE hosts SET https='on'", "https must be off or redirect"},
		{"UPDATE hosts SET hsts='long'", "hsts must be a whole number of seconds, 0 for none"},
		{"UPDATE hosts SET hsts=-1", "hsts must be a whole number of seconds, 0 for none"},
		{"DELETE FROM upstreams WHERE name='v2'", "rules still use this upstream (run: SELECT id, host FROM rules WHERE v1=... OR v2=...;)"},
		{"UPDATE upstreams SET name='old' WHERE name='v1'", "an upstream that rules use cannot be renamed: add another, then change the rules"},
		{"INSERT INTO upstreams(name) VALUES('a b')", name},
		{"INSERT INTO upstreams(name) VALUES('')", name},
		{"UPDATE upstreams SET response_timeout='long'", "response_timeout must be a number of seconds from 0 (no limit) to 86400"},
		{"INSERT INTO targets(upstream,url) VALUES('v3','http://h:1')", upstream},
		{"UPDATE targets SET url='ftp://h'", url},
		{"UPDATE targets SET url='http://h:1/path'", url},
		{"UPDATE targets SET url='http://u@h:1'", url},
		{"UPDATE targets SET url='http://:1'", url},
		{"UPDATE targets SET url='h2c://h:1/path'", url},
		{"UPDATE targets SET url='unix:'", url},
		{"UPDATE targets SET url='unix:run/app.sock'", url},
		{"UPDATE targets SET url='unix:/run/../app.sock'", url},
		{"UPDATE targets SET url='unix:/run//app.sock'", url},
		{"UPDATE targets SET url='h2c+unix:/run/app.sock?x'", url},
		{"UPDATE targets SET url='unix:/run/cutover/admin.sock'", "url must not lead to a socket of Cutover's own"},
		{"UPDATE targets SET url='h2c+unix:/var/run/cutover/admin.sock'", "url must not lead to a socket of Cutover's own"},
		{"UPDATE upstreams SET check_status='200-'", "check_status must be codes and ranges such as 200,301 or 200-399"},
		{"UPDATE upstreams SET check_status='200,,301'", "check_status must be codes and ranges such as 200,301 or 200-399"},
		{"UPDATE upstreams SET check_path='up'", "check_path must begin with / and hold no space"},
		{"UPDATE upstreams SET check_interval=0", "check_interval must be 0.5 to 3600 seconds"},
		{"UPDATE upstreams SET check_fall='many'", "check_fall must be a whole number from 1 to 100"},
		{"UPDATE targets SET weight=1.5", "weight must be a whole number from 0 to 1000"},
		{"UPDATE targets SET weight=1001", "weight must be a whole number from 0 to 1000"},
		{"UPDATE targets SET state='on'", "state must be ready, drain or maint"},
		{"INSERT INTO targets(upstream,url) VALUES('v1','http://127.0.0.1:1')", "UNIQUE constraint failed: targets.upstream, targets.url"},
		{"UPDATE meta SET value='v2' WHERE key='default'", "default must be v1 or refuse"},
		{"UPDATE meta SET value='x' WHERE key='lineage'", "the lineage cannot be changed: visitors would change sides"},
		{"DELETE FROM meta", "rows of meta cannot be deleted, only changed"},
	}
}

func nonsenseAtTheEdge() []refusal {
	const (
		certificate = "certificate must be auto, any, off or file:NAME, with a NAME of letters, digits, . _ and - that begins with no dot"
		allow       = "allow must be addresses or ranges such as 192.0.2.7 10.0.0.0/8 2001:db8::/32, separated by commas or spaces"
		users       = "users must be name:hash pairs separated by spaces, each as 'cutover guards password NAME' prints it"
		realm       = `realm must be at most 200 characters of printable ASCII, without " and \`
		null        = "NULL is no value here: leave the column out, or write '' for an empty text"
	)
	return []refusal{
		{"UPDATE hosts SET certificate='yes'", certificate},
		{"UPDATE hosts SET certificate='file:'", certificate},
		{"UPDATE hosts SET certificate='file:../key'", certificate},
		{"UPDATE hosts SET certificate='file:a/b'", certificate},
		{"UPDATE hosts SET certificate='file:.a'", certificate},
		{"UPDATE hosts SET certificate='file:a'||char(0)", certificate},
		{"UPDATE hosts SET certificate='file:'||hex(zeroblob(65))", certificate},
		{"UPDATE hosts SET tls='off'", "tls must be terminate or passthrough"},
		{"UPDATE upstreams SET proxy_protocol='v3'", "proxy_protocol must be off, v1 or v2"},
		{"UPDATE guards SET allow='localhost'", allow},
		{"UPDATE guards SET allow='10.0.0.1;10.0.0.2'", allow},
		{"UPDATE guards SET rate='fast'", "rate must be a number of requests a second from 0 (no limit) to 1000000"},
		{"UPDATE guards SET rate=-1", "rate must be a number of requests a second from 0 (no limit) to 1000000"},
		{"UPDATE guards SET burst=0.5", "burst must be a whole number from 0 (as rate) to 1000000"},
		{"UPDATE guards SET users='anna:secret'", users},
		{"UPDATE guards SET users='$2a$10$abc'", users},
		{"UPDATE guards SET realm='a\"b'", realm},
		{"UPDATE guards SET deny=NULL", null},
		{"INSERT INTO guards(host,users) VALUES('b.test',NULL)", null},
		{"INSERT INTO guards(path) VALUES('/')", "host is missing"},
		{"UPDATE guards SET id=9 WHERE id=1", "the id of a guard cannot be changed"},
		{"REPLACE INTO guards(id,host) VALUES(1,'c.test')", "a guard with this id exists already: use UPDATE, or leave id out"},
		{"UPDATE OR REPLACE guards SET host='Z.test' WHERE host='a.test'", "another guard for this host and path exists already"},
	}
}

// The same words reach those who edit through Apply, without SQLite's own around them.
func TestRefusedEditsSayWhyWithoutNoise(t *testing.T) {
	s, _ := start(t, t.TempDir())
	for want, edit := range map[string]Edit{
		"percent must be a number from 0 to 100":                                                            {Table: TableRules, Row: map[string]any{"host": "a.test", "percent": "ten"}},
		"percent: must have a value; leave it out to keep the one it has":                                   {Table: TableRules, Row: map[string]any{"host": "a.test", "percent": nil}},
		"v2 is not the name of an upstream (run: SELECT name FROM upstreams;)":                              {Table: TableRules, Row: map[string]any{"host": "a.test", "v2": "v9"}},
		"client_ips: \"x\" is no address and no range such as 10.0.0.0/8":                                   {Table: TableRules, Row: map[string]any{"host": "a.test", "conditions": map[string]any{"client_ips": []any{"x"}}}},
		"this row needs a newer cutover (rules schema " + nextSchema + ", this one has " + thisSchema + ")": {Table: TableRules, Row: map[string]any{"host": "a.test", "needs": rules.Schema + 1}},
		"host is missing: it names the row":                                                                 {Table: TableRules, Row: map[string]any{"percent": 1}},
		"\"changes\" is not a table that can be edited":                                                     {Table: "changes", Row: map[string]any{}},
		"state must be ready, drain or maint":                                                               {Table: TableTargets, Row: map[string]any{"upstream": "v1", "url": "http://h:1", "state": "on"}},
		"only the key default can be set here":                                                              {Table: TableMeta, Row: map[string]any{"key": "min_reader", "value": "9"}},
		"id 7: there is no such row in rules":                                                               {Table: TableRules, Row: map[string]any{"id": 7, "percent": 1}},
	} {
		_, err := s.Apply(t.Context(), Author{Name: "tester"}, []Edit{edit}, false)
		var refused *EditError
		if !errors.As(err, &refused) || refused.Message != want {
			t.Errorf("%v\n got %v\nwant %s", edit, err, want)
		}
	}
	if rows, _, _ := s.Rules(t.Context(), "", 10); len(rows) > 0 {
		t.Errorf("rows were made: %v", rows)
	}
}

// What SQLite lets in as host, path and span is what Go serves: else the prompt says yes and the row goes to quarantine.
func FuzzSQLiteRefusesWhatGoRefuses(f *testing.F) {
	for _, row := range [][4]string{
		{"a.test", "/", "", ""},
		{"*.a.test", "/x", "2026-11-21T03:00:00+01:00", ""},
		{"*", "/%2f", "", "2026-11-21T03:00:00Z"},
		{" A.Test. ", "/a", "2026-02-28T03:00:00.5Z", "2026-02-28T03:00:01Z"},
		{"_a-.test", "//", "", ""},
		{"a.test\x00", "/\x00", "", ""},
		{"*.*", "/", "", ""},
		{"a.test..", "/", "", ""},
		{"127.0.0.1", "/", "", ""},
		{"::1", "/", "", ""},
		{"\xff", "/\xff", "", ""},
		{"a.test", "/", "2026-02-30T03:00:00Z", "2026-11-21T03:00:00+14:00"},
		{"*.", "/", "", ""},
		{"a.test", "/", "2026-11-21T03:00:00.Z", ""},
	} {
		f.Add(row[0], row[1], row[2], row[3])
	}
	ctx := context.Background()
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, tablesSQL()+programsSQL()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host, path, starts, ends string) {
		if _, err := db.ExecContext(ctx, "DELETE FROM rules"); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO rules(host,path,starts_at,ends_at) VALUES(?,?,?,?)", host, path, starts, ends); err != nil {
			return
		}
		rule := rules.Rule{
			Host: host, Path: path, Match: rules.KindPrefix, Conditions: "{}", V1: "v1", V2: "v2", Sticky: rules.StickyCookie,
			StartsAt: starts, EndsAt: ends, Enabled: true, Needs: 1,
		}
		if err := rule.Validate(); err != nil {
			t.Errorf("SQLite takes %q %q %q %q and Go says: %v", host, path, starts, ends, err)
		}
	})
}

func nonsenseOfUpstreams() []refusal {
	return []refusal{
		{"UPDATE upstreams SET targets_of='v1' WHERE name='v1'", "targets_of must be the name of another upstream, or empty"},
		{"UPDATE upstreams SET balance='random'", "balance must be p2c, round-robin, least-connections or visitor-hash"},
		{"UPDATE upstreams SET max_in_flight=-1", "max_in_flight must be a whole number from 0 (no limit) to 1000000"},
		{"UPDATE upstreams SET queue_length='many'", "queue_length must be a whole number from 0 to 100000"},
		{"UPDATE upstreams SET queue_timeout=0", "queue_timeout must be 0.01 to 600 seconds"},
		{"UPDATE upstreams SET retries=11", "retries must be a whole number from 0 to 10"},
		{"UPDATE upstreams SET retry_body=2000000", "retry_body must be 0 to 1048576 bytes"},
		{"UPDATE upstreams SET breaker_percent=101", "breaker_percent must be a number from 0 (never) to 100"},
		{"UPDATE upstreams SET breaker_requests=0", "breaker_requests must be a whole number from 1 to 1000000"},
		{"UPDATE upstreams SET breaker_pause=0", "breaker_pause must be 0.1 to 3600 seconds"},
		{"UPDATE upstreams SET connect_timeout=0", "connect_timeout must be 0.05 to 300 seconds"},
		{"UPDATE upstreams SET tls_timeout=301", "tls_timeout must be 0.05 to 300 seconds"},
		{"UPDATE upstreams SET idle_timeout=-1", "idle_timeout must be a number of seconds from 0 (no limit) to 86400"},
		{"UPDATE upstreams SET tls_server_name='a b'", "tls_server_name must be the name of a host, without a port"},
		{"UPDATE upstreams SET tls_ca='../ca'", "tls_ca must be a name of letters, digits, . _ and - that begins with no dot, without folder and ending"},
		{"UPDATE upstreams SET tls_certificate='/etc/key'", "tls_certificate must be a name of letters, digits, . _ and - that begins with no dot, without folder and ending"},
		{"UPDATE upstreams SET tls_pin='abc'", "tls_pin must be SHA-256 sums of public keys in base64, separated by commas"},
		{"UPDATE upstreams SET send_host='http://a.test'", "send_host must be a name, with a port if need be"},
		{"UPDATE upstreams SET own_hosts='a.test/x'", "own_hosts must be names, with a port if need be, separated by commas"},
		{"UPDATE upstreams SET strip_prefix='shop'", "strip_prefix must begin with / and not end with one, and hold no space, ?, # or //"},
		{"UPDATE upstreams SET strip_prefix='/'", "strip_prefix must begin with / and not end with one, and hold no space, ?, # or //"},
		{"UPDATE upstreams SET add_prefix='/a/'", "add_prefix must begin with / and not end with one, and hold no space, ?, # or //"},
		{"UPDATE upstreams SET cookie_domain='a/b'", "cookie_domain must be the name of a host"},
		{"UPDATE upstreams SET cookie_prefix='a;'", "cookie_prefix must be of letters, digits, _ and -, at most 32 of them"},
		{"UPDATE upstreams SET request_headers='A: b'", "request_headers must be a JSON object, {} for none"},
		{"UPDATE upstreams SET fcgi_root='srv'", "fcgi_root must be the path of a folder, such as /srv/shop/public"},
		{"UPDATE upstreams SET fcgi_root='/srv/../etc'", "fcgi_root must be the path of a folder, such as /srv/shop/public"},
		{"UPDATE upstreams SET fcgi_index='a/b.php'", "fcgi_index must be the name of a script, such as index.php"},
		{"UPDATE upstreams SET fcgi_split=''", "fcgi_split must be the end of the names of scripts, such as .php"},
		{"UPDATE upstreams SET fcgi_front='index.php'", "fcgi_front must be the path of a script, such as /index.php"},
		{"UPDATE upstreams SET fcgi_keep=-1", "fcgi_keep must be a whole number from 0 to 1000"},
		{"UPDATE targets SET url='app:../x'", urlMessage},
		{"UPDATE targets SET url='app:'", urlMessage},
		{"UPDATE targets SET url='cgi:/bin/sh'", urlMessage},
		{"UPDATE targets SET url='file:/etc/passwd'", urlMessage},
		{"UPDATE targets SET url='file:a/b'", urlMessage},
		{"UPDATE targets SET url='dns+unix:/run/a.sock'", urlMessage},
		{"UPDATE targets SET url='dns+dns+http://a.test'", urlMessage},
		{"UPDATE targets SET url='http+dns://a.test'", urlMessage},
	}
}
