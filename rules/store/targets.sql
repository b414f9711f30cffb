-- The table targets. It is apart for the reason that hosts is.
CREATE TABLE targets(
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  upstream TEXT NOT NULL,
  url      TEXT NOT NULL,
  weight   INTEGER NOT NULL DEFAULT 1,
  state    TEXT NOT NULL DEFAULT 'ready',
  CONSTRAINT "url must be http://, https://, h2c://, h2:// or fcgi:// with host:port; unix:, h2c+unix: or fcgi+unix: with a path; app:NAME, cgi:NAME or file:NAME; dns+, srv+ or droplets+ before one with a host"
    CHECK(typeof(url)='text' AND url NOT GLOB '*[^!-~]*' AND url NOT GLOB '*[?#]*' AND length(url)<=1000 AND length(url)=length(CAST(url AS BLOB))
      AND ((substr(url,1+(url GLOB 'dns+*')*4+(url GLOB 'srv+*')*4+(url GLOB 'droplets+*')*9,instr(url,'://')-1-((url GLOB 'dns+*')*4+(url GLOB 'srv+*')*4+(url GLOB 'droplets+*')*9)) IN ('http','https','h2c','h2','fcgi')
          AND url GLOB '*://[^/]*' AND url NOT GLOB '*@*' AND url NOT GLOB '*://:*' AND substr(url,instr(url,'://')+3) NOT GLOB '*/?*')
        OR ((url GLOB 'unix:/?*' OR url GLOB 'h2c+unix:/?*' OR url GLOB 'fcgi+unix:/?*') AND url NOT GLOB '*/../*' AND url NOT GLOB '*//*')
        OR ((url GLOB 'app:[a-zA-Z0-9_]*' OR url GLOB 'cgi:[a-zA-Z0-9_]*' OR url GLOB 'file:[a-zA-Z0-9_]*') AND substr(url,instr(url,':')+1) NOT GLOB '*[^a-zA-Z0-9._-]*' AND length(url)<=68))),
  CONSTRAINT "url must not lead to a socket of Cutover's own" CHECK(url NOT GLOB '*unix:/run/cutover/*' AND url NOT GLOB '*unix:/var/run/cutover/*'),
  CONSTRAINT "weight must be a whole number from 0 to 1000" CHECK(typeof(weight)='integer' AND weight BETWEEN 0 AND 1000),
  CONSTRAINT "state must be ready, drain or maint" CHECK(state IN ('ready','drain','maint'))
);
CREATE UNIQUE INDEX targets_key ON targets(upstream,url);
