-- Triggers and views of schema 4, and a table that only triggers use. They can be dropped and made anew at any time; a
-- program that finds them missing or different does so. {table}, {NEW.table} and {OLD.table} stand for the columns of a row, quoted
-- as the journal has them, and {columns of table} for their names: see programsSQL.

-- REPLACE removes rows that stand in the way without a word to any trigger (unless recursive_triggers is on). So each
-- BEFORE INSERT notes here what stands in the way, and AFTER INSERT writes into the journal what is gone by then.
CREATE TABLE replaced(tbl TEXT NOT NULL, id INTEGER NOT NULL, row TEXT NOT NULL, host TEXT, image TEXT NOT NULL);

CREATE TRIGGER meta_bi BEFORE INSERT ON meta BEGIN
  SELECT RAISE(ABORT,'this row of meta exists already: use UPDATE') WHERE EXISTS(SELECT 1 FROM meta WHERE key=NEW.key);
  SELECT RAISE(ABORT,'default must be v1 or refuse') WHERE NEW.key='default' AND NEW.value NOT IN ('v1','refuse');
END;
CREATE TRIGGER meta_bu BEFORE UPDATE ON meta BEGIN
  SELECT RAISE(ABORT,'the key of a meta row cannot be changed') WHERE NEW.key IS NOT OLD.key;
  SELECT RAISE(ABORT,'the lineage cannot be changed: visitors would change sides') WHERE OLD.key='lineage' AND NEW.value IS NOT OLD.value;
  SELECT RAISE(ABORT,'default must be v1 or refuse') WHERE NEW.key='default' AND NEW.value NOT IN ('v1','refuse');
END;
CREATE TRIGGER meta_bd BEFORE DELETE ON meta BEGIN
  SELECT RAISE(ABORT,'rows of meta cannot be deleted, only changed') WHERE OLD.key IN ('lineage','default','min_reader','min_writer');
END;
CREATE TRIGGER meta_au AFTER UPDATE ON meta BEGIN
  INSERT INTO changes(author,note,tbl,row,op,old,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'meta',NEW.key,'update',quote(OLD.value),quote(NEW.value));
END;

CREATE TRIGGER upstreams_bi BEFORE INSERT ON upstreams BEGIN
  DELETE FROM replaced WHERE tbl='upstreams';
  INSERT INTO replaced SELECT 'upstreams',rowid,name,NULL,
      {upstreams}
    FROM upstreams WHERE name=NEW.name OR rowid=NEW.rowid;
END;
CREATE TRIGGER upstreams_bu BEFORE UPDATE OF name ON upstreams BEGIN
  SELECT RAISE(ABORT,'an upstream that rules use cannot be renamed: add another, then change the rules')
    WHERE NEW.name IS NOT OLD.name AND EXISTS(SELECT 1 FROM rules WHERE v1=OLD.name OR v2=OLD.name);
  SELECT RAISE(ABORT,'another upstream with this name exists already')
    WHERE NEW.name IS NOT OLD.name AND EXISTS(SELECT 1 FROM upstreams WHERE name=NEW.name);
END;
CREATE TRIGGER upstreams_bd BEFORE DELETE ON upstreams BEGIN
  SELECT RAISE(ABORT,'rules still use this upstream (run: SELECT id, host FROM rules WHERE v1=... OR v2=...;)')
    WHERE EXISTS(SELECT 1 FROM rules WHERE v1=OLD.name OR v2=OLD.name);
  SELECT RAISE(ABORT,'v1 is where everything goes that no rule matches: it cannot be deleted') WHERE OLD.name='v1';
END;
CREATE TRIGGER upstreams_ai AFTER INSERT ON upstreams BEGIN
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    SELECT coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),'upstreams',row,host,'delete',image
    FROM replaced WHERE tbl='upstreams' AND NOT EXISTS(SELECT 1 FROM upstreams t WHERE t.rowid=replaced.id AND t.rowid<>NEW.rowid);
  DELETE FROM replaced WHERE tbl='upstreams';
  INSERT INTO changes(author,note,tbl,row,op,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'upstreams',NEW.name,'insert',{NEW.upstreams});
END;
CREATE TRIGGER upstreams_au AFTER UPDATE OF {columns of upstreams} ON upstreams BEGIN
  UPDATE targets SET upstream=NEW.name WHERE upstream=OLD.name AND NEW.name IS NOT OLD.name;
  UPDATE upstreams SET updated_at=strftime('%Y-%m-%dT%H:%M:%fZ','now') WHERE name=NEW.name;
  INSERT INTO changes(author,note,tbl,row,op,old,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'upstreams',NEW.name,'update',{OLD.upstreams},
      {NEW.upstreams});
END;
CREATE TRIGGER upstreams_ad AFTER DELETE ON upstreams BEGIN
  DELETE FROM replaced WHERE tbl='upstreams' AND id=OLD.rowid;
  DELETE FROM targets WHERE upstream=OLD.name;
  INSERT INTO changes(author,note,tbl,row,op,old)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'upstreams',OLD.name,'delete',{OLD.upstreams});
END;

CREATE TRIGGER targets_bi BEFORE INSERT ON targets BEGIN
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.url IS NULL OR NEW.weight IS NULL OR NEW.state IS NULL;
  SELECT RAISE(ABORT,'upstream is not the name of one (run: SELECT name FROM upstreams;)')
    WHERE NOT EXISTS(SELECT 1 FROM upstreams WHERE name=NEW.upstream);
  SELECT RAISE(ABORT,'a target with this id exists already: use UPDATE, or leave id out') WHERE EXISTS(SELECT 1 FROM targets WHERE id=NEW.id);
  DELETE FROM replaced WHERE tbl='targets';
  INSERT INTO replaced SELECT 'targets',id,id,NULL,
      {targets}
    FROM targets WHERE upstream=NEW.upstream AND url=NEW.url;
END;
CREATE TRIGGER targets_bu BEFORE UPDATE ON targets BEGIN
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.url IS NULL OR NEW.weight IS NULL OR NEW.state IS NULL;
  SELECT RAISE(ABORT,'the id of a target cannot be changed') WHERE NEW.id IS NOT OLD.id;
  SELECT RAISE(ABORT,'upstream is not the name of one (run: SELECT name FROM upstreams;)')
    WHERE NOT EXISTS(SELECT 1 FROM upstreams WHERE name=NEW.upstream);
  SELECT RAISE(ABORT,'the upstream has this target already')
    WHERE EXISTS(SELECT 1 FROM targets WHERE upstream=NEW.upstream AND url=NEW.url AND id<>OLD.id);
END;
CREATE TRIGGER targets_ai AFTER INSERT ON targets BEGIN
  SELECT RAISE(ABORT,'the id of a target must be 1 or more: leave id out') WHERE NEW.id<1; -- BEFORE does not know it
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    SELECT coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),'targets',row,host,'delete',image
    FROM replaced WHERE tbl='targets' AND NOT EXISTS(SELECT 1 FROM targets t WHERE t.rowid=replaced.id AND t.rowid<>NEW.rowid);
  DELETE FROM replaced WHERE tbl='targets';
  INSERT INTO changes(author,note,tbl,row,op,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'targets',NEW.id,'insert',{NEW.targets});
END;
CREATE TRIGGER targets_au AFTER UPDATE ON targets BEGIN
  INSERT INTO changes(author,note,tbl,row,op,old,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'targets',NEW.id,'update',{OLD.targets},
      {NEW.targets});
END;
CREATE TRIGGER targets_ad AFTER DELETE ON targets BEGIN
  DELETE FROM replaced WHERE tbl='targets' AND id=OLD.id;
  INSERT INTO changes(author,note,tbl,row,op,old)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'targets',OLD.id,'delete',{OLD.targets});
END;

CREATE TRIGGER hosts_bi BEFORE INSERT ON hosts BEGIN
  DELETE FROM replaced WHERE tbl='hosts';
  INSERT INTO replaced SELECT 'hosts',rowid,host,host_key,
      {hosts}
    FROM hosts WHERE host_key=rtrim(lower(trim(NEW.host)),'.') OR rowid=NEW.rowid;
END;
CREATE TRIGGER hosts_ai AFTER INSERT ON hosts BEGIN
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    SELECT coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),'hosts',row,host,'delete',image
    FROM replaced WHERE tbl='hosts' AND NOT EXISTS(SELECT 1 FROM hosts t WHERE t.rowid=replaced.id AND t.rowid<>NEW.rowid);
  DELETE FROM replaced WHERE tbl='hosts';
  INSERT INTO changes(author,note,tbl,row,host,op,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'hosts',NEW.host,NEW.host_key,'insert',
      {NEW.hosts});
END;
CREATE TRIGGER hosts_bu BEFORE UPDATE OF host ON hosts BEGIN
  SELECT RAISE(ABORT,'another row for this host exists already')
    WHERE EXISTS(SELECT 1 FROM hosts WHERE host_key=rtrim(lower(trim(NEW.host)),'.') AND host<>OLD.host);
END;
CREATE TRIGGER hosts_au AFTER UPDATE OF {columns of hosts} ON hosts BEGIN
  UPDATE hosts SET updated_at=strftime('%Y-%m-%dT%H:%M:%fZ','now') WHERE host=NEW.host;
  INSERT INTO changes(author,note,tbl,row,host,old_host,op,old,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'hosts',NEW.host,NEW.host_key,OLD.host_key,'update',
      {OLD.hosts},
      {NEW.hosts});
END;
CREATE TRIGGER hosts_ad AFTER DELETE ON hosts BEGIN
  DELETE FROM replaced WHERE tbl='hosts' AND id=OLD.rowid;
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'hosts',OLD.host,OLD.host_key,'delete',
      {OLD.hosts});
END;

CREATE TRIGGER rules_bi BEFORE INSERT ON rules BEGIN
  SELECT RAISE(ABORT,'host is missing') WHERE NEW.host IS NULL;
  SELECT RAISE(ABORT,'percent must be a number from 0 to 100') WHERE NEW.percent IS NULL;
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.path IS NULL OR NEW.match IS NULL OR NEW.conditions IS NULL OR NEW.v1 IS NULL OR NEW.v2 IS NULL
      OR NEW.sticky IS NULL OR NEW.starts_at IS NULL OR NEW.ends_at IS NULL OR NEW.enabled IS NULL
      OR NEW.needs IS NULL OR NEW.note IS NULL OR NEW.updated_at IS NULL;
  SELECT RAISE(ABORT,'v1 is not the name of an upstream (run: SELECT name FROM upstreams;)')
    WHERE NOT EXISTS(SELECT 1 FROM upstreams WHERE name=NEW.v1);
  SELECT RAISE(ABORT,'v2 is not the name of an upstream (run: SELECT name FROM upstreams;)')
    WHERE NOT EXISTS(SELECT 1 FROM upstreams WHERE name=NEW.v2);
  SELECT RAISE(ABORT,'a rule with this id exists already: use UPDATE, or leave id out') WHERE EXISTS(SELECT 1 FROM rules WHERE id=NEW.id);
  DELETE FROM replaced WHERE tbl='rules';
  INSERT INTO replaced SELECT 'rules',id,id,host_key,
      {rules}
    FROM rules WHERE host_key=rtrim(lower(trim(NEW.host)),'.') AND path=NEW.path AND match=NEW.match AND conditions=NEW.conditions;
END;
CREATE TRIGGER rules_bu BEFORE UPDATE ON rules BEGIN
  SELECT RAISE(ABORT,'host is missing') WHERE NEW.host IS NULL;
  SELECT RAISE(ABORT,'percent must be a number from 0 to 100') WHERE NEW.percent IS NULL;
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.path IS NULL OR NEW.match IS NULL OR NEW.conditions IS NULL OR NEW.v1 IS NULL OR NEW.v2 IS NULL
      OR NEW.sticky IS NULL OR NEW.starts_at IS NULL OR NEW.ends_at IS NULL OR NEW.enabled IS NULL
      OR NEW.needs IS NULL OR NEW.note IS NULL OR NEW.updated_at IS NULL;
  SELECT RAISE(ABORT,'the id of a rule cannot be changed') WHERE NEW.id IS NOT OLD.id;
  SELECT RAISE(ABORT,'v1 is not the name of an upstream (run: SELECT name FROM upstreams;)')
    WHERE NOT EXISTS(SELECT 1 FROM upstreams WHERE name=NEW.v1);
  SELECT RAISE(ABORT,'v2 is not the name of an upstream (run: SELECT name FROM upstreams;)')
    WHERE NOT EXISTS(SELECT 1 FROM upstreams WHERE name=NEW.v2);
  SELECT RAISE(ABORT,'another rule for this host, path, match and conditions exists already')
    WHERE EXISTS(SELECT 1 FROM rules WHERE host_key=rtrim(lower(trim(NEW.host)),'.') AND path=NEW.path AND match=NEW.match
      AND conditions=NEW.conditions AND id<>OLD.id);
END;
CREATE TRIGGER rules_ai AFTER INSERT ON rules BEGIN
  SELECT RAISE(ABORT,'the id of a rule must be 1 or more: leave id out') WHERE NEW.id<1; -- BEFORE does not know it
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    SELECT coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),'rules',row,host,'delete',image
    FROM replaced WHERE tbl='rules' AND NOT EXISTS(SELECT 1 FROM rules t WHERE t.rowid=replaced.id AND t.rowid<>NEW.rowid);
  DELETE FROM replaced WHERE tbl='rules';
  INSERT INTO changes(author,note,tbl,row,host,op,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'rules',NEW.id,NEW.host_key,'insert',
      {NEW.rules});
END;
CREATE TRIGGER rules_au AFTER UPDATE OF {columns of rules} ON rules BEGIN
  UPDATE rules SET updated_at=strftime('%Y-%m-%dT%H:%M:%fZ','now') WHERE id=NEW.id;
  INSERT INTO changes(author,note,tbl,row,host,old_host,op,old,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'rules',NEW.id,NEW.host_key,OLD.host_key,'update',
      {OLD.rules},
      {NEW.rules});
END;
CREATE TRIGGER rules_ad AFTER DELETE ON rules BEGIN
  DELETE FROM replaced WHERE tbl='rules' AND id=OLD.id;
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'rules',OLD.id,OLD.host_key,'delete',
      {OLD.rules});
END;

CREATE TRIGGER redirects_bi BEFORE INSERT ON redirects BEGIN
  SELECT RAISE(ABORT,'host is missing') WHERE NEW.host IS NULL;
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.path IS NULL OR NEW.match IS NULL OR NEW.to_url IS NULL OR NEW.status IS NULL OR NEW.keep_path IS NULL
      OR NEW.keep_query IS NULL OR NEW.enabled IS NULL OR NEW.needs IS NULL OR NEW.note IS NULL
      OR NEW.updated_at IS NULL;
  SELECT RAISE(ABORT,'a redirect with this id exists already: use UPDATE, or leave id out') WHERE EXISTS(SELECT 1 FROM redirects WHERE id=NEW.id);
  DELETE FROM replaced WHERE tbl='redirects';
  INSERT INTO replaced SELECT 'redirects',id,id,host_key,
      {redirects}
    FROM redirects WHERE host_key=rtrim(lower(trim(NEW.host)),'.') AND path=NEW.path AND match=NEW.match;
END;
CREATE TRIGGER redirects_bu BEFORE UPDATE ON redirects BEGIN
  SELECT RAISE(ABORT,'host is missing') WHERE NEW.host IS NULL;
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.path IS NULL OR NEW.match IS NULL OR NEW.to_url IS NULL OR NEW.status IS NULL OR NEW.keep_path IS NULL
      OR NEW.keep_query IS NULL OR NEW.enabled IS NULL OR NEW.needs IS NULL OR NEW.note IS NULL
      OR NEW.updated_at IS NULL;
  SELECT RAISE(ABORT,'the id of a redirect cannot be changed') WHERE NEW.id IS NOT OLD.id;
  SELECT RAISE(ABORT,'another redirect for this host, path and match exists already')
    WHERE EXISTS(SELECT 1 FROM redirects WHERE host_key=rtrim(lower(trim(NEW.host)),'.') AND path=NEW.path AND match=NEW.match AND id<>OLD.id);
END;
CREATE TRIGGER redirects_ai AFTER INSERT ON redirects BEGIN
  SELECT RAISE(ABORT,'the id of a redirect must be 1 or more: leave id out') WHERE NEW.id<1; -- BEFORE does not know it
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    SELECT coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),'redirects',row,host,'delete',image
    FROM replaced WHERE tbl='redirects' AND NOT EXISTS(SELECT 1 FROM redirects t WHERE t.rowid=replaced.id AND t.rowid<>NEW.rowid);
  DELETE FROM replaced WHERE tbl='redirects';
  INSERT INTO changes(author,note,tbl,row,host,op,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'redirects',NEW.id,NEW.host_key,'insert',
      {NEW.redirects});
END;
CREATE TRIGGER redirects_au AFTER UPDATE OF {columns of redirects} ON redirects BEGIN
  UPDATE redirects SET updated_at=strftime('%Y-%m-%dT%H:%M:%fZ','now') WHERE id=NEW.id;
  INSERT INTO changes(author,note,tbl,row,host,old_host,op,old,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'redirects',NEW.id,NEW.host_key,OLD.host_key,'update',
      {OLD.redirects},
      {NEW.redirects});
END;
CREATE TRIGGER redirects_ad AFTER DELETE ON redirects BEGIN
  DELETE FROM replaced WHERE tbl='redirects' AND id=OLD.id;
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'redirects',OLD.id,OLD.host_key,'delete',
      {OLD.redirects});
END;

CREATE TRIGGER guards_bi BEFORE INSERT ON guards BEGIN
  SELECT RAISE(ABORT,'host is missing') WHERE NEW.host IS NULL;
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.path IS NULL OR NEW.allow IS NULL OR NEW.deny IS NULL OR NEW.rate IS NULL OR NEW.burst IS NULL OR NEW.users IS NULL
      OR NEW.realm IS NULL OR NEW.enabled IS NULL OR NEW.needs IS NULL OR NEW.note IS NULL OR NEW.updated_at IS NULL;
  SELECT RAISE(ABORT,'a guard with this id exists already: use UPDATE, or leave id out') WHERE EXISTS(SELECT 1 FROM guards WHERE id=NEW.id);
  DELETE FROM replaced WHERE tbl='guards';
  INSERT INTO replaced SELECT 'guards',id,id,host_key,
      {guards}
    FROM guards WHERE host_key=rtrim(lower(trim(NEW.host)),'.') AND path=NEW.path;
END;
CREATE TRIGGER guards_bu BEFORE UPDATE ON guards BEGIN
  SELECT RAISE(ABORT,'host is missing') WHERE NEW.host IS NULL;
  SELECT RAISE(ABORT,'NULL is no value here: leave the column out, or write '''' for an empty text')
    WHERE NEW.path IS NULL OR NEW.allow IS NULL OR NEW.deny IS NULL OR NEW.rate IS NULL OR NEW.burst IS NULL OR NEW.users IS NULL
      OR NEW.realm IS NULL OR NEW.enabled IS NULL OR NEW.needs IS NULL OR NEW.note IS NULL OR NEW.updated_at IS NULL;
  SELECT RAISE(ABORT,'the id of a guard cannot be changed') WHERE NEW.id IS NOT OLD.id;
  SELECT RAISE(ABORT,'another guard for this host and path exists already')
    WHERE EXISTS(SELECT 1 FROM guards WHERE host_key=rtrim(lower(trim(NEW.host)),'.') AND path=NEW.path AND id<>OLD.id);
END;
CREATE TRIGGER guards_ai AFTER INSERT ON guards BEGIN
  SELECT RAISE(ABORT,'the id of a guard must be 1 or more: leave id out') WHERE NEW.id<1; -- BEFORE does not know it
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    SELECT coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),'guards',row,host,'delete',image
    FROM replaced WHERE tbl='guards' AND NOT EXISTS(SELECT 1 FROM guards t WHERE t.rowid=replaced.id AND t.rowid<>NEW.rowid);
  DELETE FROM replaced WHERE tbl='guards';
  INSERT INTO changes(author,note,tbl,row,host,op,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'guards',NEW.id,NEW.host_key,'insert',
      {NEW.guards});
END;
CREATE TRIGGER guards_au AFTER UPDATE OF {columns of guards} ON guards BEGIN
  UPDATE guards SET updated_at=strftime('%Y-%m-%dT%H:%M:%fZ','now') WHERE id=NEW.id;
  INSERT INTO changes(author,note,tbl,row,host,old_host,op,old,new)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'guards',NEW.id,NEW.host_key,OLD.host_key,'update',
      {OLD.guards},
      {NEW.guards});
END;
CREATE TRIGGER guards_ad AFTER DELETE ON guards BEGIN
  DELETE FROM replaced WHERE tbl='guards' AND id=OLD.id;
  INSERT INTO changes(author,note,tbl,row,old_host,op,old)
    VALUES(coalesce((SELECT author FROM change_context),'sqlite3'),coalesce((SELECT note FROM change_context),''),
      'guards',OLD.id,OLD.host_key,'delete',
      {OLD.guards});
END;

CREATE VIEW v_status AS
  SELECT r.id, r.host, r.path, r.percent, r.v1, r.v2, r.enabled, r.note, coalesce(e.reason,'') AS problem, r.updated_at
  FROM rules r LEFT JOIN rule_errors e ON e.tbl='rules' AND e.row=CAST(r.id AS TEXT)
  ORDER BY r.host_key, r.path;
CREATE VIEW v_errors AS
  SELECT tbl, row, host, reason, CASE serving_last WHEN 1 THEN 'its last good version' ELSE 'nothing' END AS serving, at FROM rule_errors;
CREATE VIEW v_hosts AS
  SELECT h.host, h.https, h.hsts, h.certificate, h.tls, h.note, coalesce(e.reason,'') AS problem, h.updated_at
  FROM hosts h LEFT JOIN rule_errors e ON e.tbl='hosts' AND e.row=h.host_key
  ORDER BY h.host_key;
CREATE VIEW v_guards AS
  SELECT g.id, g.host, g.path, g.allow, g.deny, g.rate, g.burst, g.users<>'' AS password, g.enabled, g.note, coalesce(e.reason,'') AS problem, g.updated_at
  FROM guards g LEFT JOIN rule_errors e ON e.tbl='guards' AND e.row=CAST(g.id AS TEXT)
  ORDER BY g.host_key, g.path;
