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
