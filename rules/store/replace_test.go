package store

import (
	"strings"
	"testing"
)

// What REPLACE removes on its way is in the journal, before what it adds.
func TestWhatReplaceRemovesIsInTheJournal(t *testing.T) {
	const journal = "SELECT op, row, coalesce(host,''), coalesce(old_host,''), coalesce(old,''), coalesce(new,'') FROM changes WHERE seq>6 ORDER BY seq"
	for name, row := range map[string]struct{ statement, want string }{
		"a rule": {
			"REPLACE INTO rules(host,percent) VALUES('A.test',20)",
			"delete|1||a.test|'a.test','/','prefix','{}','v1','v2',10,'cookie','','',1,1,''|\n" +
				"insert|2|a.test|||'A.test','/','prefix','{}','v1','v2',20,'cookie','','',1,1,''",
		},
		"a redirect": {
			"INSERT OR REPLACE INTO redirects(host,status) VALUES('a.test',410)",
			"delete|1||a.test|'a.test','/','prefix','https://b.test/',301,0,1,1,1,''|\ninsert|2|a.test|||'a.test','/','prefix','',410,0,1,1,1,''",
		},
		"a host of the same spelling": {
			"REPLACE INTO hosts(host,hsts) VALUES('a.test',7)",
			"delete|a.test||a.test|'a.test','off',0,1,'','auto','terminate'|\ninsert|a.test|a.test|||'a.test','off',7,1,'','auto','terminate'",
		},
		"a host of another spelling": {
			"REPLACE INTO hosts(host) VALUES('A.test')",
			"delete|a.test||a.test|'a.test','off',0,1,'','auto','terminate'|\ninsert|A.test|a.test|||'A.test','off',0,1,'','auto','terminate'",
		},
		"a host by its rowid": {
			"REPLACE INTO hosts(rowid,host) VALUES(1,'b.test')",
			"delete|a.test||a.test|'a.test','off',0,1,'','auto','terminate'|\ninsert|b.test|b.test|||'b.test','off',0,1,'','auto','terminate'",
		},
		"an upstream": {
			"REPLACE INTO upstreams(name,note) VALUES('v3','it''s')",
			"delete|v3|||'v3',0,'','off','','',10,5,'200-399','',2,3,{new}|\ninsert|v3||||'v3',0,'it''s','off','','',10,5,'200-399','',2,3,{new}",
		},
		"a guard": {
			"REPLACE INTO guards(host,rate) VALUES('A.test',2.5)",
			"delete|1||a.test|'a.test','/','','',0,0,'','',1,1,''|\ninsert|2|a.test|||'A.test','/','','',2.5,0,'','',1,1,''",
		},
		"a target": {
			"REPLACE INTO targets(upstream,url,weight) VALUES('v1','http://127.0.0.1:1',3)",
			"delete|1|||'v1','http://127.0.0.1:1',1,'ready'|\ninsert|2||||'v1','http://127.0.0.1:1',3,'ready'",
		},
		"an upsert is a change": {
			"INSERT INTO rules(host,percent) VALUES('a.test',30) ON CONFLICT(host_key,path,match,conditions) DO UPDATE SET percent=excluded.percent",
			"update|1|a.test|a.test|'a.test','/','prefix','{}','v1','v2',10,'cookie','','',1,1,''|'a.test','/','prefix','{}','v1','v2',30,'cookie','','',1,1,''",
		},
		"what is ignored leaves nothing behind": {
			"INSERT OR IGNORE INTO rules(host) VALUES('a.test'); INSERT OR IGNORE INTO hosts(host) VALUES('a.test'); DELETE FROM rules; INSERT INTO rules(host) VALUES('c.test')",
			"delete|1||a.test|'a.test','/','prefix','{}','v1','v2',10,'cookie','','',1,1,''|\ninsert|3|c.test|||'c.test','/','prefix','{}','v1','v2',0,'cookie','','',1,1,''",
		},
		"once with triggers for each removal": {
			"PRAGMA recursive_triggers=1; REPLACE INTO hosts(host,hsts) VALUES('a.test',7)",
			"delete|a.test||a.test|'a.test','off',0,1,'','auto','terminate'|\ninsert|a.test|a.test|||'a.test','off',7,1,'','auto','terminate'",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, _ = start(t, dir)
			mustSqlite(t, dir, "INSERT INTO rules(host,percent) VALUES('a.test',10); INSERT INTO redirects(host,to_url) VALUES('a.test','https://b.test/'); INSERT INTO hosts(host) VALUES('a.test'); INSERT INTO upstreams(name) VALUES('v3'); INSERT INTO targets(upstream,url) VALUES('v1','http://127.0.0.1:1'); INSERT INTO guards(host) VALUES('a.test')")
			mustSqlite(t, dir, row.statement)
			want := strings.ReplaceAll(row.want, "{new}", "'','p2c',0,100,10,3,65536,0,20,10,3,5,0,'','','','','','','','','','','{}','{}','','index.php','.php','','{}',0")
			if got := mustSqlite(t, dir, journal); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestADatabaseOfBeforeGetsWhatItsTriggersNeed(t *testing.T) {
	dir := t.TempDir()
	_, stop := start(t, dir)
	stop()
	mustSqlite(t, dir, "DROP TABLE replaced; DROP TRIGGER rules_bi; DROP TRIGGER hosts_bi; DROP TRIGGER upstreams_bi")
	_, _ = start(t, dir)
	mustSqlite(t, dir, "INSERT INTO rules(host) VALUES('a.test'); REPLACE INTO rules(host) VALUES('a.test')")
	mustSqlite(t, dir, "DROP TABLE replaced")
	eventually(t, "the table", func() bool { _, err := sqlite(t, dir, "REPLACE INTO rules(host) VALUES('a.test')"); return err == nil })
	if got := mustSqlite(t, dir, "SELECT group_concat(op) FROM changes"); got != "insert,delete,insert,delete,insert" {
		t.Errorf("the journal has %s", got)
	}
}
