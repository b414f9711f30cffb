package main

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T, file string, flags, variables map[string]string) (Config, error) {
	t.Helper()
	read := func(string) ([]byte, error) {
		if file == "" {
			return nil, fs.ErrNotExist
		}
		return []byte(file), nil
	}
	return loadConfig("", flags, func(name string) string { return variables[name] }, read)
}

func TestAMissingDefaultFileMeansDefaults(t *testing.T) {
	c, err := load(t, "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.StateDir != "/var/lib/cutover" || c.DrainTimeout != 10*time.Second || c.ACME.Directory != letsEncrypt {
		t.Errorf("defaults: %+v", c)
	}
}

func TestAFileThatWasNamedMustExist(t *testing.T) {
	_, err := loadConfig("/nowhere/cutover.toml", nil, func(string) string { return "" }, func(string) ([]byte, error) { return nil, fs.ErrNotExist })
	if err == nil {
		t.Fatal("a missing file was accepted")
	}
}

func TestFlagsGoBeforeEnvironmentBeforeFileBeforeDefaults(t *testing.T) {
	file := "log_level = 'warn'\nlog_format = 'text'\naccess_log = 'off'\n"
	c, err := load(t, file, map[string]string{"log_level": "error"}, map[string]string{"CUTOVER_LOG_LEVEL": "debug", "CUTOVER_LOG_FORMAT": "json"})
	if err != nil {
		t.Fatal(err)
	}
	if c.LogLevel != "error" || c.LogFormat != "json" || c.AccessLog != "off" {
		t.Errorf("got %q %q %q", c.LogLevel, c.LogFormat, c.AccessLog)
	}
	for _, v := range c.values {
		want := map[string]string{"log_level": "flag --log-level", "log_format": "environment CUTOVER_LOG_FORMAT", "access_log": defaultConfigFile}[v.Key]
		if want != "" && v.Source != want {
			t.Errorf("%s comes from %q, want %q", v.Key, v.Source, want)
		}
	}
}

func TestSystemdNamesTheFolders(t *testing.T) {
	c, err := load(t, "", nil, map[string]string{"STATE_DIRECTORY": "/var/lib/other", "RUNTIME_DIRECTORY": "/run/a:/run/b"})
	if err != nil {
		t.Fatal(err)
	}
	if c.StateDir != "/var/lib/other" || c.RuntimeDir != "/run/a" {
		t.Errorf("got %q %q", c.StateDir, c.RuntimeDir)
	}
}

func TestMistakesInTheConfigurationAreNamed(t *testing.T) {
	for name, row := range map[string]struct{ file, want string }{
		"unknown key":         {"log_levle = 'info'", `there is no setting "log_levle"`},
		"unknown section":     {"[acmee]\nemail = 'a@b.c'", `there is no setting "acmee.email"`},
		"not TOML":            {"log_level: info", "line 1"},
		"bad level":           {"log_level = 'loud'", "must be one of debug, info, warn, error"},
		"bad duration":        {"drain_timeout = 10", "must be a time such as 10s"},
		"no journal":          {"history_days = 0", "must be a whole number from 1"},
		"bad range":           {"trusted_proxies = ['10.0.0.0/33']", "must be an address or a range"},
		"relative path":       {"state_dir = 'state'", "must be an absolute path"},
		"no port":             {"v1_tls = '10.0.0.5'", "must be HOST:PORT"},
		"bad balancer":        {"[proxy_protocol]\ntrusted = ['x']", "must be an address or a range"},
		"bad answer":          {"[proxy_protocol]\nwithout_header = 'ignore'", "must be one of refuse, accept"},
		"clear-text ACME":     {"[acme]\ndirectory = 'http://ca.test/dir'", "must be an https:// URL"},
		"no orders":           {"[acme]\norders = 0", "must be a whole number from 1"},
		"half a preflight":    {"[acme]\npreflight = 'maybe'", "must be one of on, off"},
		"a range of our own":  {"[acme]\naddresses = ['192.0.2.0/24']", "must be an address such as 192.0.2.10"},
		"a server, no port":   {"[acme.dns]\nserver = '192.0.2.53'", "must be HOST:PORT"},
		"nothing sampled":     {"access_sample = 0", "set access_log"},
		"sample not a number": {"access_sample = 'nan'", "set access_log"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, row.file, nil, nil)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want it to contain %q", err, row.want)
			}
		})
	}
}

func TestListsMayBeArraysOrText(t *testing.T) {
	for _, file := range []string{"trusted_proxies = ['10.0.0.0/8', '::1']", "trusted_proxies = '10.0.0.0/8, ::1'"} {
		c, err := load(t, file, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.TrustedProxies) != 2 || c.TrustedProxies[1].String() != "::1/128" {
			t.Errorf("%s: got %v", file, c.TrustedProxies)
		}
	}
}

func TestConfigPrintsEveryKeyWithItsSource(t *testing.T) {
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"config", "--acme-issuer", "off"}, func(string) string { return "" }, nil, &out, &errs)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	for _, s := range settings() {
		if !strings.Contains(out.String(), s.key) {
			t.Errorf("%s is missing", s.key)
		}
	}
	if !strings.Contains(out.String(), "flag --acme-issuer") {
		t.Errorf("no source:\n%s", out.String())
	}
}
