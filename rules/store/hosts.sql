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
