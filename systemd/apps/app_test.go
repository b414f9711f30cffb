package apps

import (
	"slices"
	"strings"
	"testing"
)

func good() App {
	return App{Exec: []string{"/opt/shop/shop", "--workers", "4"}, User: "shop", Protocol: HTTP}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	a := good()
	a.Env, a.EnvFile, a.Workdir, a.Health, a.Backlog = map[string]string{"MODE": `a "b" \c %d $e`}, "/etc/shop.env", "/srv/shop", "/up?x=1", 7
	text, err := a.text()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if textAgain, _ := again.text(); textAgain != text {
		t.Errorf("first:\n%s\nagain:\n%s", text, textAgain)
	}
}

func TestAnUnknownKeyIsAnError(t *testing.T) {
	text, _ := good().text()
	if _, err := Parse(text + "[cgi]\nprocesess = 3\n"); err == nil || !strings.Contains(err.Error(), "processes") && !strings.Contains(err.Error(), "procesess") {
		t.Errorf("got %v", err)
	}
}

func TestWhatMakesNoSenseIsRefused(t *testing.T) {
	for reason, spoil := range map[string]func(*App){
		"exec is missing":     func(a *App) { a.Exec = nil },
		"absolute path":       func(a *App) { a.Exec[0] = "shop" },
		"absolute":            func(a *App) { a.Exec[0] = "/opt/my shop" },
		"line breaks":         func(a *App) { a.Exec[1] = "a\nExecStartPre=/bin/evil" },
		"UTF-8":               func(a *App) { a.Exec[1] = "\xff" },
		"is no name":          func(a *App) { a.User = "shop\nUser=root" },
		"keys":                func(a *App) { a.User = "cutover" },
		"--allow-root":        func(a *App) { a.User = "root" },
		"protocol must":       func(a *App) { a.Protocol = "gopher" },
		"body of a request":   func(a *App) { a.Protocol, a.Stdin = CGI, true },
		"health must":         func(a *App) { a.Health = "up" },
		"health is for":       func(a *App) { a.Health, a.Protocol = "/up", FCGI },
		"env: \"A B\"":        func(a *App) { a.Env = map[string]string{"A B": "c"} },
		"env: the value of A": func(a *App) { a.Env = map[string]string{"A": "b\nUser=root"} },
		"env_file":            func(a *App) { a.EnvFile = "relative" },
		"workdir":             func(a *App) { a.Workdir = "/srv/%h" },
		"backlog":             func(a *App) { a.Backlog = -1 },
		"cgi is for":          func(a *App) { a.CGI.Waiting = 3 },
		"time_limit":          func(a *App) { a.Protocol, a.CGI.TimeLimit = CGI, "soon" },
	} {
		a := good()
		spoil(&a)
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("for %s it says %v", reason, err)
		}
	}
}

func TestAUserIsJudgedByItsNumber(t *testing.T) {
	a := good()
	for uid, reason := range map[string]string{"0": "--allow-root", "998": "another name of cutover"} {
		if err := a.checkAccount(uid, "998"); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("user %s: %v", uid, err)
		}
	}
	if err := a.checkAccount("1001", ""); err != nil {
		t.Error(err)
	}
	a.AllowRoot = true
	if err := a.checkAccount("0", "998"); err != nil {
		t.Error(err)
	}
}

func TestANameCannotLeaveTheFolder(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "-a", ".a", "a b", "a\n", "a:b", "a%n", "a@b", strings.Repeat("a", 64)} {
		if err := CheckName(name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	for _, name := range []string{"shop", "my-shop_2.old", "0", strings.Repeat("a", 63)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
	}
}

func TestACommandLineIsSplitAsAShellDoes(t *testing.T) {
	for line, want := range map[string][]string{
		``:                        nil,
		`/bin/a`:                  {"/bin/a"},
		`  /bin/a  b	c `:          {"/bin/a", "b", "c"},
		`/bin/a 'b c' "d e"f\ g`:  {"/bin/a", "b c", "d ef g"},
		`a "" ''`:                 {"a", "", ""},
		`a "b\"c\\d\e" 'f\g' $h;`: {"a", `b"c\d\e`, `f\g`, "$h;"},
	} {
		if got, err := Words(line); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", line, got, err)
		}
	}
	for _, line := range []string{`a 'b`, `a "b`, `a b\`} {
		if got, err := Words(line); err == nil {
			t.Errorf("%s: %q", line, got)
		}
	}
}
