-- The table upstreams. It is apart for the reason that hosts is.
CREATE TABLE upstreams(
  name             TEXT PRIMARY KEY NOT NULL,
  response_timeout NUMERIC NOT NULL DEFAULT 0,
  note             TEXT NOT NULL DEFAULT '',
  updated_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  proxy_protocol   TEXT NOT NULL DEFAULT 'off',
  check_path       TEXT NOT NULL DEFAULT '',
  check_host       TEXT NOT NULL DEFAULT '',
  check_interval   NUMERIC NOT NULL DEFAULT 10,
  check_timeout    NUMERIC NOT NULL DEFAULT 5,
  check_status     TEXT NOT NULL DEFAULT '200-399',
  check_body       TEXT NOT NULL DEFAULT '',
  check_rise       INTEGER NOT NULL DEFAULT 2,
  check_fall       INTEGER NOT NULL DEFAULT 3,
  CONSTRAINT "proxy_protocol must be off, v1 or v2" CHECK(proxy_protocol IN ('off','v1','v2')),
  CONSTRAINT "check_path must begin with / and hold no space"
    CHECK(check_path='' OR (typeof(check_path)='text' AND check_path GLOB '/*' AND check_path NOT GLOB '*[^!-~]*' AND check_path NOT GLOB '*#*'
      AND length(check_path)<=1000 AND length(check_path)=length(CAST(check_path AS BLOB)))),
  CONSTRAINT "check_host must be a name, with a port if need be"
    CHECK(typeof(check_host)='text' AND check_host NOT GLOB '*[^!-~]*' AND check_host NOT GLOB '*[/?#@]*'
      AND length(check_host)<=259 AND length(check_host)=length(CAST(check_host AS BLOB))),
  CONSTRAINT "check_interval must be 0.5 to 3600 seconds" CHECK(typeof(check_interval) IN ('integer','real') AND check_interval BETWEEN 0.5 AND 3600),
  CONSTRAINT "check_timeout must be 0.1 to 300 seconds" CHECK(typeof(check_timeout) IN ('integer','real') AND check_timeout BETWEEN 0.1 AND 300),
  CONSTRAINT "check_status must be codes and ranges such as 200,301 or 200-399"
    CHECK(typeof(check_status)='text' AND check_status GLOB '[1-5]*' AND check_status NOT GLOB '*[^0-9,-]*' AND check_status NOT GLOB '*[,-]' AND check_status NOT GLOB '*[,-][,-]*' AND length(check_status) BETWEEN 3 AND 200),
  CONSTRAINT "check_body must be text of at most 1000 characters"
    CHECK(typeof(check_body)='text' AND length(check_body)<=1000),
  CONSTRAINT "check_rise must be a whole number from 1 to 100" CHECK(typeof(check_rise)='integer' AND check_rise BETWEEN 1 AND 100),
  CONSTRAINT "check_fall must be a whole number from 1 to 100" CHECK(typeof(check_fall)='integer' AND check_fall BETWEEN 1 AND 100),
  CONSTRAINT "the name of an upstream may hold only letters, digits, . _ and -, at most 63 of them"
    CHECK(typeof(name)='text' AND length(name) BETWEEN 1 AND 63 AND name NOT GLOB '*[^a-zA-Z0-9._-]*'),
  CONSTRAINT "response_timeout must be a number of seconds from 0 (no limit) to 86400"
    CHECK(typeof(response_timeout) IN ('integer','real') AND response_timeout BETWEEN 0 AND 86400),
  CONSTRAINT "note must be text of at most 1000 characters, on one line"
    CHECK(typeof(note)='text' AND length(note)<=1000 AND note NOT GLOB '*['||char(1)||'-'||char(31)||char(127)||'-'||char(159)||']*')
);
-- Schema 3 of rules.db, but for the tables that have files of their own. The dialect is frozen at SQLite 3.31, since one statement that an older sqlite3 program cannot
-- parse would lock its user out of the whole file. The names of the constraints are the messages that operators read.
-- A text is as long as its bytes where it holds no NUL, at which GLOB would stop, and no other script.

CREATE TABLE meta(
  key   TEXT PRIMARY KEY NOT NULL,
  value TEXT NOT NULL
);

CREATE TABLE change_context(author TEXT NOT NULL, note TEXT NOT NULL DEFAULT '');

CREATE TABLE changes(
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  author   TEXT NOT NULL,
  note     TEXT NOT NULL DEFAULT '',
  tbl      TEXT NOT NULL,
  row      TEXT NOT NULL,
  host     TEXT,
  old_host TEXT,
  op       TEXT NOT NULL,
  old      TEXT,
  new      TEXT,
  nonce    INTEGER NOT NULL DEFAULT (random())
);

CREATE TABLE rule_errors(
  tbl          TEXT NOT NULL,
  row          TEXT NOT NULL,
  host         TEXT NOT NULL DEFAULT '',
  reason       TEXT NOT NULL,
  serving_last INTEGER NOT NULL DEFAULT 0,
  at           TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
);

CREATE TABLE rules(
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  host       TEXT NOT NULL,
  path       TEXT NOT NULL DEFAULT '/',
  match      TEXT NOT NULL DEFAULT 'prefix',
  conditions TEXT NOT NULL DEFAULT '{}',
  v1         TEXT NOT NULL DEFAULT 'v1',
  v2         TEXT NOT NULL DEFAULT 'v2',
  percent    NUMERIC NOT NULL DEFAULT 0,
  sticky     TEXT NOT NULL DEFAULT 'cookie',
  starts_at  TEXT NOT NULL DEFAULT '',
  ends_at    TEXT NOT NULL DEFAULT '',
  enabled    INTEGER NOT NULL DEFAULT 1,
  needs      INTEGER NOT NULL DEFAULT 1,
  note       TEXT NOT NULL DEFAULT '',
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  host_key   TEXT GENERATED ALWAYS AS (rtrim(lower(trim(host)),'.')) VIRTUAL,
  CONSTRAINT "percent must be a number from 0 to 100"
    CHECK(typeof(percent) IN ('integer','real') AND percent BETWEEN 0 AND 100),
  CONSTRAINT "host may hold only a-z 0-9 . - _ and a leading *. (write names of other scripts as xn--...)"
    CHECK(typeof(host)='text' AND length(host)=length(CAST(host AS BLOB))
      AND (host_key='*' OR substr(host_key,1+2*(host_key GLOB '[*].*')) NOT GLOB '*[^a-z0-9._-]*')),
  CONSTRAINT "host has an empty label, or one longer than 63 characters, or is longer than 253"
    CHECK(host_key<>'' AND trim(host)<>'*.' AND trim(host) NOT GLOB '*..*' AND host_key NOT GLOB '.*' AND host_key NOT GLOB '[*]..*'
      AND length(host_key)<=253 AND host_key NOT GLOB '*'||replace(hex(zeroblob(32)),'0','[^.]')||'*'),
  CONSTRAINT "path must start with / and hold no space, ? or #, and only printable ASCII"
    CHECK(typeof(path)='text' AND path GLOB '/*' AND path NOT GLOB '*[ ?#]*' AND path NOT GLOB '*[^!-~]*'
      AND length(path)<=2000 AND length(path)=length(CAST(path AS BLOB))),
  CONSTRAINT "match must be prefix or exact" CHECK(match IN ('prefix','exact')),
  CONSTRAINT "conditions must be a JSON object, {} for none"
    CHECK(typeof(conditions)='text' AND conditions GLOB '{*}' AND length(conditions)<=10000),
  CONSTRAINT "sticky must be cookie or address" CHECK(sticky IN ('cookie','address')),
  CONSTRAINT "starts_at must be empty or a time with its offset, such as 2026-11-21T03:00:00+01:00"
    CHECK(starts_at='' OR (starts_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'
      AND (starts_at GLOB '*Z' OR starts_at GLOB '*[+-][0-9][0-9]:[0-9][0-9]')
      AND julianday(starts_at) IS NOT NULL AND strftime('%Y-%m-%dT%H:%M:%S',substr(starts_at,1,19),'+0 days')=substr(starts_at,1,19))),
  CONSTRAINT "ends_at must be empty or a time with its offset, such as 2026-11-21T03:00:00+01:00"
    CHECK(ends_at='' OR (ends_at GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]*'
      AND (ends_at GLOB '*Z' OR ends_at GLOB '*[+-][0-9][0-9]:[0-9][0-9]')
      AND julianday(ends_at) IS NOT NULL AND strftime('%Y-%m-%dT%H:%M:%S',substr(ends_at,1,19),'+0 days')=substr(ends_at,1,19))),
  CONSTRAINT "ends_at must be later than starts_at"
    CHECK(starts_at='' OR ends_at='' OR julianday(ends_at)>julianday(starts_at)),
  CONSTRAINT "enabled must be 0 or 1" CHECK(typeof(enabled)='integer' AND enabled IN (0,1)),
  CONSTRAINT "needs must be a whole number from 1" CHECK(typeof(needs)='integer' AND needs>=1),
  CONSTRAINT "note must be text of at most 1000 characters, on one line"
    CHECK(typeof(note)='text' AND length(note)<=1000 AND note NOT GLOB '*['||char(1)||'-'||char(31)||char(127)||'-'||char(159)||']*')
);
CREATE UNIQUE INDEX rules_key ON rules(host_key,path,match,conditions);

CREATE TABLE redirects(
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  host       TEXT NOT NULL,
  path       TEXT NOT NULL DEFAULT '/',
  match      TEXT NOT NULL DEFAULT 'prefix',
  to_url     TEXT NOT NULL DEFAULT '',
  status     INTEGER NOT NULL DEFAULT 301,
  keep_path  INTEGER NOT NULL DEFAULT 0,
  keep_query INTEGER NOT NULL DEFAULT 1,
  enabled    INTEGER NOT NULL DEFAULT 1,
  needs      INTEGER NOT NULL DEFAULT 1,
  note       TEXT NOT NULL DEFAULT '',
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  host_key   TEXT GENERATED ALWAYS AS (rtrim(lower(trim(host)),'.')) VIRTUAL,
  CONSTRAINT "host may hold only a-z 0-9 . - _ and a leading *. (write names of other scripts as xn--...)"
    CHECK(typeof(host)='text' AND length(host)=length(CAST(host AS BLOB))
      AND (host_key='*' OR substr(host_key,1+2*(host_key GLOB '[*].*')) NOT GLOB '*[^a-z0-9._-]*')),
  CONSTRAINT "host has an empty label, or one longer than 63 characters, or is longer than 253"
    CHECK(host_key<>'' AND trim(host)<>'*.' AND trim(host) NOT GLOB '*..*' AND host_key NOT GLOB '.*' AND host_key NOT GLOB '[*]..*'
      AND length(host_key)<=253 AND host_key NOT GLOB '*'||replace(hex(zeroblob(32)),'0','[^.]')||'*'),
  CONSTRAINT "path must start with / and hold no space, ? or #, and only printable ASCII"
    CHECK(typeof(path)='text' AND path GLOB '/*' AND path NOT GLOB '*[ ?#]*' AND path NOT GLOB '*[^!-~]*'
      AND length(path)<=2000 AND length(path)=length(CAST(path AS BLOB))),
  CONSTRAINT "match must be prefix or exact" CHECK(match IN ('prefix','exact')),
  CONSTRAINT "status must be 301, 302, 307, 308 or 410" CHECK(typeof(status)='integer' AND status IN (301,302,307,308,410)),
  CONSTRAINT "to_url must be a whole URL such as https://www.example.com/new, and empty with status 410"
    CHECK((status=410 AND to_url='') OR (status<>410 AND typeof(to_url)='text'
      AND (to_url GLOB 'http://[^/]*' OR to_url GLOB 'https://[^/]*') AND to_url NOT GLOB '*[^!-~]*'
      AND length(to_url)<=4000 AND length(to_url)=length(CAST(to_url AS BLOB)))),
  CONSTRAINT "keep_path must be 0 or 1" CHECK(typeof(keep_path)='integer' AND keep_path IN (0,1)),
  CONSTRAINT "keep_query must be 0 or 1" CHECK(typeof(keep_query)='integer' AND keep_query IN (0,1)),
  CONSTRAINT "enabled must be 0 or 1" CHECK(typeof(enabled)='integer' AND enabled IN (0,1)),
  CONSTRAINT "needs must be a whole number from 1" CHECK(typeof(needs)='integer' AND needs>=1),
  CONSTRAINT "note must be text of at most 1000 characters, on one line"
    CHECK(typeof(note)='text' AND length(note)<=1000 AND note NOT GLOB '*['||char(1)||'-'||char(31)||char(127)||'-'||char(159)||']*')
);
CREATE UNIQUE INDEX redirects_key ON redirects(host_key,path,match);

INSERT INTO meta VALUES('lineage',lower(hex(randomblob(16)))),('default','v1'),('min_reader','1'),('min_writer','1');
INSERT INTO upstreams(name,note) VALUES('v1','the old service'),('v2','the new service');
-- The table targets. It is apart for the reason that hosts is.
CREATE TABLE targets(
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  upstream TEXT NOT NULL,
  url      TEXT NOT NULL,
  weight   INTEGER NOT NULL DEFAULT 1,
  state    TEXT NOT NULL DEFAULT 'ready',
  CONSTRAINT "url must be http://host:port, https://host:port, h2c://host:port, unix:/path or h2c+unix:/path, with nothing behind it"
    CHECK(typeof(url)='text' AND url NOT GLOB '*[^!-~]*' AND url NOT GLOB '*[?#]*' AND length(url)<=1000 AND length(url)=length(CAST(url AS BLOB))
      AND (((url GLOB 'http://[^/]*' OR url GLOB 'https://[^/]*' OR url GLOB 'h2c://[^/]*')
          AND url NOT GLOB '*@*' AND url NOT GLOB '*://:*' AND substr(url,instr(url,'://')+3) NOT GLOB '*/?*')
        OR ((url GLOB 'unix:/?*' OR url GLOB 'h2c+unix:/?*') AND url NOT GLOB '*/../*' AND url NOT GLOB '*//*'))),
  CONSTRAINT "url must not lead to a socket of Cutover's own" CHECK(url NOT GLOB '*unix:/run/cutover/*' AND url NOT GLOB '*unix:/var/run/cutover/*'),
  CONSTRAINT "weight must be a whole number from 0 to 1000" CHECK(typeof(weight)='integer' AND weight BETWEEN 0 AND 1000),
  CONSTRAINT "state must be ready, drain or maint" CHECK(state IN ('ready','drain','maint'))
);
CREATE UNIQUE INDEX targets_key ON targets(upstream,url);
-- The table hosts. It is apart since schema 1 had one with another constraint, which SQLite can only change by making it anew.
CREATE TABLE hosts(
  host        TEXT PRIMARY KEY NOT NULL,
  https       TEXT NOT NULL DEFAULT 'off',
  hsts        INTEGER NOT NULL DEFAULT 0,
  needs       INTEGER NOT NULL DEFAULT 1,
  note        TEXT NOT NULL DEFAULT '',
  updated_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  certificate TEXT NOT NULL DEFAULT 'auto',
  tls         TEXT NOT NULL DEFAULT 'terminate',
  host_key    TEXT GENERATED ALWAYS AS (rtrim(lower(trim(host)),'.')) VIRTUAL,
  CONSTRAINT "host may hold only a-z 0-9 . - _ and a leading *. (write names of other scripts as xn--...)"
    CHECK(typeof(host)='text' AND length(host)=length(CAST(host AS BLOB))
      AND (host_key='*' OR substr(host_key,1+2*(host_key GLOB '[*].*')) NOT GLOB '*[^a-z0-9._-]*')),
  CONSTRAINT "host has an empty label, or one longer than 63 characters, or is longer than 253"
    CHECK(host_key<>'' AND trim(host)<>'*.' AND trim(host) NOT GLOB '*..*' AND host_key NOT GLOB '.*' AND host_key NOT GLOB '[*]..*'
      AND length(host_key)<=253 AND host_key NOT GLOB '*'||replace(hex(zeroblob(32)),'0','[^.]')||'*'),
  CONSTRAINT "https must be off or redirect" CHECK(https IN ('off','redirect')),
  CONSTRAINT "hsts must be a whole number of seconds, 0 for none" CHECK(typeof(hsts)='integer' AND hsts BETWEEN 0 AND 4102444800),
  CONSTRAINT "certificate must be auto, any, off or file:NAME, with a NAME of letters, digits, . _ and - that begins with no dot"
    CHECK(certificate IN ('auto','any','off') OR (typeof(certificate)='text' AND certificate GLOB 'file:[a-zA-Z0-9_-]*'
      AND substr(certificate,6) NOT GLOB '*[^a-zA-Z0-9._-]*' AND length(certificate)<=133 AND length(certificate)=length(CAST(certificate AS BLOB)))),
  CONSTRAINT "tls must be terminate or passthrough" CHECK(tls IN ('terminate','passthrough')),
  CONSTRAINT "needs must be a whole number from 1" CHECK(typeof(needs)='integer' AND needs>=1),
  CONSTRAINT "note must be text of at most 1000 characters, on one line"
    CHECK(typeof(note)='text' AND length(note)<=1000 AND note NOT GLOB '*['||char(1)||'-'||char(31)||char(127)||'-'||char(159)||']*')
);
CREATE UNIQUE INDEX hosts_key ON hosts(host_key);
-- The table guards, which schema 1 did not have.
CREATE TABLE guards(
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  host       TEXT NOT NULL,
  path       TEXT NOT NULL DEFAULT '/',
  allow      TEXT NOT NULL DEFAULT '',
  deny       TEXT NOT NULL DEFAULT '',
  rate       NUMERIC NOT NULL DEFAULT 0,
  burst      INTEGER NOT NULL DEFAULT 0,
  users      TEXT NOT NULL DEFAULT '',
  realm      TEXT NOT NULL DEFAULT '',
  enabled    INTEGER NOT NULL DEFAULT 1,
  needs      INTEGER NOT NULL DEFAULT 1,
  note       TEXT NOT NULL DEFAULT '',
  updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  host_key   TEXT GENERATED ALWAYS AS (rtrim(lower(trim(host)),'.')) VIRTUAL,
  CONSTRAINT "host may hold only a-z 0-9 . - _ and a leading *. (write names of other scripts as xn--...)"
    CHECK(typeof(host)='text' AND length(host)=length(CAST(host AS BLOB))
      AND (host_key='*' OR substr(host_key,1+2*(host_key GLOB '[*].*')) NOT GLOB '*[^a-z0-9._-]*')),
  CONSTRAINT "host has an empty label, or one longer than 63 characters, or is longer than 253"
    CHECK(host_key<>'' AND trim(host)<>'*.' AND trim(host) NOT GLOB '*..*' AND host_key NOT GLOB '.*' AND host_key NOT GLOB '[*]..*'
      AND length(host_key)<=253 AND host_key NOT GLOB '*'||replace(hex(zeroblob(32)),'0','[^.]')||'*'),
  CONSTRAINT "path must start with / and hold no space, ? or #, and only printable ASCII"
    CHECK(typeof(path)='text' AND path GLOB '/*' AND path NOT GLOB '*[ ?#]*' AND path NOT GLOB '*[^!-~]*'
      AND length(path)<=2000 AND length(path)=length(CAST(path AS BLOB))),
  CONSTRAINT "allow must be addresses or ranges such as 192.0.2.7 10.0.0.0/8 2001:db8::/32, separated by commas or spaces"
    CHECK(typeof(allow)='text' AND allow NOT GLOB '*[^0-9a-fA-F.:/, ]*' AND length(allow)<=20000 AND length(allow)=length(CAST(allow AS BLOB))),
  CONSTRAINT "deny must be addresses or ranges such as 192.0.2.7 10.0.0.0/8 2001:db8::/32, separated by commas or spaces"
    CHECK(typeof(deny)='text' AND deny NOT GLOB '*[^0-9a-fA-F.:/, ]*' AND length(deny)<=20000 AND length(deny)=length(CAST(deny AS BLOB))),
  CONSTRAINT "rate must be a number of requests a second from 0 (no limit) to 1000000"
    CHECK(typeof(rate) IN ('integer','real') AND rate BETWEEN 0 AND 1000000),
  CONSTRAINT "burst must be a whole number from 0 (as rate) to 1000000" CHECK(typeof(burst)='integer' AND burst BETWEEN 0 AND 1000000),
  CONSTRAINT "users must be name:hash pairs separated by spaces, each as 'cutover guards password NAME' prints it"
    CHECK(typeof(users)='text' AND (trim(users)='' OR trim(users) GLOB '?*:$2[aby]$[01][0-9]$?*') AND users NOT GLOB '*[^ -~]*'
      AND length(users)<=20000 AND length(users)=length(CAST(users AS BLOB))),
  CONSTRAINT "realm must be at most 200 characters of printable ASCII, without "" and \"
    CHECK(typeof(realm)='text' AND realm NOT GLOB '*[^ -~]*' AND realm NOT GLOB '*["\]*' AND length(realm)<=200
      AND length(realm)=length(CAST(realm AS BLOB))),
  CONSTRAINT "enabled must be 0 or 1" CHECK(typeof(enabled)='integer' AND enabled IN (0,1)),
  CONSTRAINT "needs must be a whole number from 1" CHECK(typeof(needs)='integer' AND needs>=1),
  CONSTRAINT "note must be text of at most 1000 characters, on one line"
    CHECK(typeof(note)='text' AND length(note)<=1000 AND note NOT GLOB '*['||char(1)||'-'||char(31)||char(127)||'-'||char(159)||']*')
);
CREATE UNIQUE INDEX guards_key ON guards(host_key,path);
