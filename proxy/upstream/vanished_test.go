package upstream

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unread is a target that takes connections and reads nothing until it is told to; then it reads all, and answers.
func unread(t *testing.T) (url string, read func()) {
	t.Helper()
	reads := make(chan struct{})
	read = sync.OnceFunc(func() { close(reads) })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-reads
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			_, _ = io.WriteString(w, "ok")
		}
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		read()
		_ = server.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String(), read
}

// upload sends what no buffer of the kernel holds.
func upload(t *testing.T, p *Pool) (string, error) {
	t.Helper()
	const length = 32 << 20
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.LimitReader(zeros{}, length))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	response, err := p.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// For the kernel, a target that does not read is like one that is gone. So the time that counts must be one in which every
// application reads.
func TestAnUploadThatIsLeftUnreadForLongerThanAMachineMayBeGoneIsLost(t *testing.T) {
	url, _ := unread(t)
	_, err := upload(t, newSet(t, Options{vanished: 500 * time.Millisecond}).For(upstreamOf(url)))
	if err == nil || isVisitors(err) {
		t.Errorf("got %v", err)
	}
}

func TestAnUploadThatIsLeftUnreadForAWhileArrives(t *testing.T) {
	url, read := unread(t)
	later := time.AfterFunc(time.Second, read)
	defer later.Stop()
	if text, err := upload(t, newSet(t, Options{vanished: time.Minute}).For(upstreamOf(url))); err != nil || text != "ok" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestATargetMayLeaveAnUploadUnreadForTwoMinutes(t *testing.T) {
	s := newScript(t)
	set := newSet(t, Options{})
	conn, err := set.For(upstreamOf(s.URL)).targets[0].connections.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var milliseconds int
	wrong := raw.Control(func(fd uintptr) {
		milliseconds, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	})
	if limit := time.Duration(milliseconds) * time.Millisecond; err != nil || wrong != nil || limit < 2*time.Minute {
		t.Errorf("%v, %v, %v", limit, err, wrong)
	}
}
