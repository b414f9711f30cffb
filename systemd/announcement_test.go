package systemd

import (
	"log/slog"
	"os"
	"strings"
	"testing"
)

func TestVariablesThatMakeNoSenseAreRefusedWithTheLineToMend(t *testing.T) {
	const good = "LISTEN_PID=42 LISTEN_FDS=2 LISTEN_FDNAMES=http:https"
	for name, c := range map[string]struct{ change, want string }{
		"no sockets":         {"LISTEN_FDS=", "systemd-socket-activate -l 8080 -l 8443 --fdname=http:https cutover serve"},
		"no process":         {"LISTEN_PID=", "LISTEN_FDS is set but LISTEN_PID is not"},
		"process of letters": {"LISTEN_PID=me", `LISTEN_PID="me" is not a process id`},
		"another process":    {"LISTEN_PID=41", "the sockets are meant for process 41 (LISTEN_PID), this is process 42: write ExecStart=/opt/cutover/cutover serve without a shell"},
		"count of letters":   {"LISTEN_FDS=two", `LISTEN_FDS="two" is not a number of sockets`},
		"count of zero":      {"LISTEN_FDS=0", "is not a number of sockets from 1 to 1024"},
		"count below zero":   {"LISTEN_FDS=-1", "is not a number of sockets"},
		"count too great":    {"LISTEN_FDS=2000000000", "is not a number of sockets"},
		"count beyond int":   {"LISTEN_FDS=99999999999999999999999", "is not a number of sockets"},
		"no names":           {"LISTEN_FDNAMES=", "write FileDescriptorName=http"},
		"a name too few":     {"LISTEN_FDNAMES=http", `LISTEN_FDNAMES="http" has 1 names for 2 sockets`},
		"a name too many":    {"LISTEN_FDNAMES=a:b:c", "has 3 names for 2 sockets"},
		"an empty name":      {"LISTEN_FDNAMES=http:", "names no socket in place 2: write FileDescriptorName=http"},
		"endless names":      {"LISTEN_FDNAMES=" + strings.Repeat("x", 5000), `x…" has 1 names`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inherit(fakeEnvironment(t, good+" "+c.change), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && (len(err.Error()) > 400 || strings.Contains(err.Error(), "\n")) {
				t.Errorf("that is no line for a log: %v", err)
			}
		})
	}
}

// fakeEnvironment is process 42 with variables; of the same name the last counts. Descriptors must not be asked for.
func fakeEnvironment(t *testing.T, variables string) environment {
	values := map[string]string{}
	for _, variable := range strings.Fields(variables) {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	return environment{
		getenv: func(name string) string { return values[name] },
		pid:    42,
		files: func() []*os.File {
			t.Error("descriptors were taken over, though the variables make no sense")
			return nil
		},
	}
}

func TestSocketsOfWhichNoneIsHTTPAreRefusedWithTheirNames(t *testing.T) {
	for names, want := range map[string]string{
		"admin":                            "there is no socket named http or https, only admin",
		"cutover-http.socket":              `but "cutover-http.socket": write FileDescriptorName=http (or https) into [Socket]`,
		"cutover-http.socket:other.socket": `but "cutover-http.socket", "other.socket": write`,
	} {
		env := fakeEnvironment(t, "LISTEN_PID=42 LISTEN_FDS=1 LISTEN_FDNAMES="+names)
		count := strings.Count(names, ":") + 1
		if count == 2 {
			env = fakeEnvironment(t, "LISTEN_PID=42 LISTEN_FDS=2 LISTEN_FDNAMES="+names)
		}
		env.files = func() (files []*os.File) {
			for range count {
				_, file := descriptor(t)
				files = append(files, file)
			}
			return files
		}
		if _, err := inherit(env, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", names, err, want)
		}
	}
}

func TestFewerDescriptorsThanAnnouncedAreRefused(t *testing.T) {
	env := fakeEnvironment(t, "LISTEN_PID=42 LISTEN_FDS=2 LISTEN_FDNAMES=http:https")
	env.files = func() []*os.File { return nil }
	if _, err := inherit(env, slog.New(slog.DiscardHandler)); err == nil || err.Error() != "LISTEN_FDS announces 2 sockets, 0 could be taken over" {
		t.Errorf("got %v", err)
	}
}
