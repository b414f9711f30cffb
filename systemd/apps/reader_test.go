package apps

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cutover/systemd/units"
)

// here returns places below a folder of the test, and a reader that takes whoever runs the test for root.
func here(t *testing.T) (Places, *Reader) {
	t.Helper()
	p := Standard()
	p.Apps = filepath.Join(t.TempDir(), "apps")
	if err := os.Mkdir(p.Apps, 0o755); err != nil {
		t.Fatal(err)
	}
	r := NewReader(p)
	r.owner = uint32(os.Getuid())
	return p, r
}

// says writes a program's file of the moment.
func (p Places) says(t *testing.T, name, text string) {
	t.Helper()
	if err := units.Replace(p.currentFile(name), text); err != nil {
		t.Fatal(err)
	}
}

func expectAddress(t *testing.T, r *Reader, name, want string) {
	t.Helper()
	if got, err := r.Addresses(name); err != nil || !slices.Equal(got, []string{want}) {
		t.Errorf("%s is at %q (%v), want %s", name, got, err, want)
	}
}

func expectReason(t *testing.T, r *Reader, name, reason string) {
	t.Helper()
	if got, err := r.Addresses(name); err == nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("%s is at %q, and the reason why not is %v", name, got, err)
	}
}

func TestAProgramIsFoundInTheSlotThatServes(t *testing.T) {
	p, r := here(t)
	p.says(t, "shop", "slot = 'a'\nprotocol = 'http'")
	expectAddress(t, r, "shop", "unix:/run/cutover-apps/shop:a.sock")
	p.says(t, "shop", "slot = 'b'\nprotocol = 'http'")
	expectAddress(t, r, "shop", "unix:/run/cutover-apps/shop:b.sock")
	p.says(t, "shop", "slot = 'b'\nprotocol = 'h2c'")
	expectAddress(t, r, "shop", "h2c+unix:/run/cutover-apps/shop:b.sock")
	p.says(t, "shop", "slot = 'a'\nprotocol = 'fcgi'")
	expectAddress(t, r, "shop", "fcgi+unix:/run/cutover-apps/shop:a.sock")
}

func TestACGIProgramIsFoundUnderItsOwnKindOfTarget(t *testing.T) {
	p, r := here(t)
	p.says(t, "form", "slot = 'a'\nprotocol = 'cgi'")
	if got, err := r.CGIAddresses("form"); err != nil || !slices.Equal(got, []string{"unix:/run/cutover-apps/form:a.sock"}) {
		t.Errorf("%q, %v", got, err)
	}
	expectReason(t, r, "form", "its target is cgi:form")
	p.says(t, "shop", "slot = 'a'\nprotocol = 'http'")
	if got, err := r.CGIAddresses("shop"); err == nil || !strings.Contains(err.Error(), "its target is app:shop") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatIsMissingOrMakesNoSenseIsSaid(t *testing.T) {
	p, r := here(t)
	expectReason(t, r, "shop", "there is no program shop: "+p.currentFile("shop")+" is missing")
	expectReason(t, r, "../shop", "cannot be the name")
	p.says(t, "shop", "slot = 'c'\nprotocol = 'http'")
	expectReason(t, r, "shop", "slot must be a or b")
	p.says(t, "shop", "slot = 'a'\nprotocol = 'gopher'")
	expectReason(t, r, "shop", "protocol must be")
	p.says(t, "shop", "slot = ")
	expectReason(t, r, "shop", p.currentFile("shop"))
	p.says(t, "shop", "slot = 'a'\nprotocol = 'http'")
	expectAddress(t, r, "shop", "unix:/run/cutover-apps/shop:a.sock")
	if err := os.Remove(p.currentFile("shop")); err != nil {
		t.Fatal(err)
	}
	expectReason(t, r, "shop", "is missing")
}

func TestAFileThatOthersCouldHaveWrittenIsNotBelieved(t *testing.T) {
	p, r := here(t)
	p.says(t, "shop", "slot = 'a'\nprotocol = 'http'")
	expectAddress(t, r, "shop", "unix:/run/cutover-apps/shop:a.sock")
	for _, path := range []string{p.currentFile("shop"), p.Apps} {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []os.FileMode{0o020, 0o002} {
			if err := os.Chmod(path, before.Mode()|mode); err != nil {
				t.Fatal(err)
			}
			expectReason(t, r, "shop", path+" could have been written by others than root")
		}
		if err := os.Chmod(path, before.Mode()); err != nil {
			t.Fatal(err)
		}
		expectAddress(t, r, "shop", "unix:/run/cutover-apps/shop:a.sock")
	}
	r.owner++
	p.says(t, "shop", "slot = 'a'\nprotocol = 'http'")
	expectReason(t, r, "shop", "chown root:root")
}

func TestWhatIsNoPlainFileIsNotRead(t *testing.T) {
	p, r := here(t)
	if err := os.Symlink("/dev/zero", p.currentFile("shop")); err != nil {
		t.Fatal(err)
	}
	expectReason(t, r, "shop", "is a symbolic link")
	if err := os.Mkdir(p.currentFile("blog"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Addresses("blog"); err == nil {
		t.Errorf("it is at %q", got)
	}
}

func TestNothingIsReadAnewThatHasNotChanged(t *testing.T) {
	p, r := here(t)
	p.says(t, "shop", "slot = 'a'\nprotocol = 'http'")
	expectAddress(t, r, "shop", "unix:/run/cutover-apps/shop:a.sock")
	asked := testing.AllocsPerRun(100, func() { _, _ = r.Addresses("shop") })
	if asked > 20 {
		t.Errorf("asking again allocates %v times", asked)
	}
}
