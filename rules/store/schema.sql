-- Schema 4 of rules.db, but for the tables that have files of their own. The dialect is frozen at SQLite 3.31, since one statement that an older sqlite3 program cannot
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
