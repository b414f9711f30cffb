package tlsbridge

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cutover/tlsbridge/importing/layouts"
)

// noConn is the connection of a ClientHello that nobody sent: certmagic asks it for its address.
type noConn struct{ net.Conn }

func (noConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (noConn) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// fromFolder opens certificates where shop.example.com is served the pair "shop" of a folder.
func fromFolder(t *testing.T) (c *Certificates, folder string) {
	t.Helper()
	folder = t.TempDir()
	return openKeeper(t, func(o *CertificateOptions) {
		o.FilesDir = folder
		o.Files = func(name string) (string, bool) { return "shop", name == "shop.example.com" }
	}), folder
}

// later makes files look as though they were written at another time.
func later(t *testing.T, folder string, by time.Duration) {
	t.Helper()
	at := time.Now().Add(by)
	for _, name := range []string{"shop.crt", "shop.key"} {
		must(t, os.Chtimes(filepath.Join(folder, name), at, at))
	}
}

func TestAPairOfTheOperatorsOwnIsServedBeforeAllElse(t *testing.T) {
	c, folder := fromFolder(t)
	ca := newTestCA(t)
	imported(t, c, issue(t, ca, -day, 60*day, "shop.example.com"))
	own := issue(t, ca, -day, 60*day, "shop.example.com")
	must(t, layouts.Folder(folder, "shop", own))
	expectServed(t, c, "shop.example.com", own)
	if !c.Ready("shop.example.com") {
		t.Error("it is not taken for ready")
	}
}

func TestANewPairTakesThePlaceOfTheOldOneAndABrokenOneDoesNot(t *testing.T) {
	c, folder := fromFolder(t)
	ca := newTestCA(t)
	first, second := issue(t, ca, -day, 60*day, "shop.example.com"), issue(t, ca, -day, 80*day, "shop.example.com")
	must(t, layouts.Folder(folder, "shop", first))
	expectServed(t, c, "shop.example.com", first)

	must(t, os.WriteFile(filepath.Join(folder, "shop.crt"), second.Chain(), 0o600)) // the key is still the old one
	later(t, folder, time.Second)
	c.files.look()
	expectServed(t, c, "shop.example.com", first)
	if list := c.List(); len(list) != 1 || !strings.Contains(list[0].Problem, "shop.crt") || list[0].NotAfter.IsZero() {
		t.Errorf("%+v", list)
	}

	must(t, os.Remove(filepath.Join(folder, "shop.key")))
	c.files.look()
	expectServed(t, c, "shop.example.com", first)

	must(t, layouts.Folder(folder, "shop", second))
	later(t, folder, 2*time.Second)
	c.files.look()
	expectServed(t, c, "shop.example.com", second)
	if list := c.List(); list[0].Problem != "" {
		t.Errorf("%+v", list)
	}
}

func TestNothingIsServedForAPairThatWasNeverWholeUntilItIs(t *testing.T) {
	c, folder := fromFolder(t)
	if served(t, c, "shop.example.com") != nil {
		t.Error("something is served")
	}
	if list := c.List(); len(list) != 1 || list[0].Problem == "" {
		t.Errorf("%+v", list)
	}
	own := issue(t, newTestCA(t), -day, 60*day, "shop.example.com")
	must(t, layouts.Folder(folder, "shop", own))
	c.files.look()
	expectServed(t, c, "shop.example.com", own)
}

func TestFilesAreLookedAtWithinSeconds(t *testing.T) {
	ca := newTestCA(t)
	folder := t.TempDir()
	first, second := issue(t, ca, -day, 60*day, "shop.example.com"), issue(t, ca, -day, 80*day, "shop.example.com")
	must(t, layouts.Folder(folder, "shop", first))
	synctest.Test(t, func(t *testing.T) {
		p := newPairs(folder, openRing(t, filepath.Join(t.TempDir(), "tickets.json")).log)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.run(ctx) }()
		before := p.get("shop")
		must(t, layouts.Folder(folder, "shop", second))
		later(t, folder, time.Hour)
		time.Sleep(filesEvery + time.Second)
		synctest.Wait()
		if after := p.get("shop"); after == before || after == nil {
			t.Error("the old pair is served still")
		}
		cancel()
		<-ended
	})
}

func TestPairsAreForgottenWhenThereAreTooMany(t *testing.T) {
	folder := t.TempDir()
	p := newPairs(folder, openRing(t, filepath.Join(t.TempDir(), "tickets.json")).log)
	p.most = 3
	for i := range 10 {
		p.get("pair" + strconv.Itoa(i))
	}
	if len(p.loaded) != 3 {
		t.Errorf("%d are in memory", len(p.loaded))
	}
}

func TestTheNameOfAPairCannotLeadElsewhere(t *testing.T) {
	outside, folder := t.TempDir(), t.TempDir()
	must(t, layouts.Folder(outside, "shop", issue(t, newTestCA(t), -day, 60*day, "shop.example.com")))
	p := newPairs(folder, openRing(t, filepath.Join(t.TempDir(), "tickets.json")).log)
	for _, base := range []string{"", "../" + filepath.Base(outside) + "/shop", outside + "/shop", ".shop", "a/b", "a\x00b"} {
		if p.get(base) != nil {
			t.Errorf("%q was read", base)
		}
	}
}

// stuck is a file that cannot be read until somebody writes to it, as on a disk that hangs.
func stuck(t *testing.T, path string) (release func()) {
	t.Helper()
	_ = os.Remove(path) // it need not be there
	must(t, syscall.Mkfifo(path, 0o600))
	return func() {
		must(t, os.WriteFile(path, []byte("no certificate"), 0o600))
	}
}

// awaitReading waits until files of a pair are being read.
func awaitReading() {
	for stacks := make([]byte, 1<<20); !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "(*pairs).readFiles"); {
		runtime.Gosched()
	}
}

func TestADiskThatHangsHoldsUpNoOtherPair(t *testing.T) {
	c, folder := fromFolder(t)
	ca := newTestCA(t)
	own := issue(t, ca, -day, 60*day, "shop.example.com")
	must(t, layouts.Folder(folder, "shop", own))
	must(t, layouts.Folder(folder, "slow", issue(t, ca, -day, 60*day, "slow.example.com")))
	var reading sync.WaitGroup
	release := stuck(t, filepath.Join(folder, "slow.crt"))
	t.Cleanup(reading.Wait)
	t.Cleanup(release)
	reading.Go(func() { c.files.get("slow") })
	awaitReading()
	served := make(chan struct{})
	reading.Go(func() {
		defer close(served)
		expectServed(t, c, "shop.example.com", own)
	})
	select {
	case <-served:
	case <-time.After(20 * time.Second):
		t.Error("a handshake waits for files that it does not need")
	}
}

func TestTheLastGoodPairIsServedWhileANewOneIsRead(t *testing.T) {
	c, folder := fromFolder(t)
	own := issue(t, newTestCA(t), -day, 60*day, "shop.example.com")
	must(t, layouts.Folder(folder, "shop", own))
	expectServed(t, c, "shop.example.com", own)
	var work sync.WaitGroup
	release := stuck(t, filepath.Join(folder, "shop.crt"))
	t.Cleanup(work.Wait)
	t.Cleanup(release)
	work.Go(c.files.look)
	awaitReading()
	served := make(chan struct{})
	work.Go(func() {
		defer close(served)
		expectServed(t, c, "shop.example.com", own)
	})
	select {
	case <-served:
	case <-time.After(20 * time.Second):
		t.Error("a handshake waits for the disk")
	}
}
