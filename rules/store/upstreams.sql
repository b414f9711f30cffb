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
