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
