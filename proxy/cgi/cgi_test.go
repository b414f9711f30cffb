package cgi

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served runs a script for each request to the server that it returns. Its first line says by which program.
func served(t *testing.T, script string, change func(*Options)) *httptest.Server {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Program: []string{path}, Environment: []string{"PATH=" + os.Getenv("PATH"), "GIVEN=1"}, Processes: 4, Waiting: 10,
		TimeLimit: time.Minute, Spool: 1 << 20, Stderr: os.Stderr, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	server := httptest.NewServer(New(o))
	t.Cleanup(server.Close)
	return server
}

// send sends a request and returns the answer, whose body is read.
func send(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const printsEnvironment = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'; env\n"

func TestAProgramIsToldWhoAsksForWhat(t *testing.T) {
	server := served(t, printsEnvironment, nil)
	r := request(t, http.MethodPost, server.URL+"/a%20b/c?x=1&y=%20z", strings.NewReader("12345"))
	r.Host = "shop.test:8443"
	for name, value := range map[string]string{
		"X-Real-Ip": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.test:8443", "X-Forwarded-Prefix": "/app",
		"Content-Type": "text/x", "X-Other": "yes", "Authorization": "Basic abc",
	} {
		r.Header.Set(name, value)
	}
	r.Header["Cookie"] = []string{"a=1", "b=2"}
	_, got := send(t, r)
	for _, want := range []string{
		"GATEWAY_INTERFACE=CGI/1.1", "SERVER_PROTOCOL=HTTP/1.1", "SERVER_NAME=shop.test", "SERVER_PORT=8443", "REQUEST_METHOD=POST", "REQUEST_URI=/app/a%20b/c?x=1&y=%20z",
		"QUERY_STRING=x=1&y=%20z", "SCRIPT_NAME=/app", "PATH_INFO=/a b/c", "REMOTE_ADDR=203.0.113.9", "HTTPS=on", "CONTENT_LENGTH=5", "CONTENT_TYPE=text/x",
		"HTTP_X_OTHER=yes", "HTTP_HOST=shop.test:8443", "HTTP_COOKIE=a=1; b=2", "HTTP_AUTHORIZATION=Basic abc", "GIVEN=1",
	} {
		if !strings.Contains("\n"+got, "\n"+want+"\n") {
			t.Errorf("%s is missing in:\n%s", want, got)
		}
	}
}

func TestAHeaderCannotBeTakenForWhatItIsNot(t *testing.T) {
	server := served(t, printsEnvironment, nil)
	r := request(t, http.MethodGet, server.URL+"/", nil)
	r.Header["Proxy"] = []string{"http://evil.test"}
	r.Header["X_Real_Ip"] = []string{"evil"}
	r.Header["Remote.Addr"] = []string{"evil"}
	r.Header["Te"] = []string{"trailers"}
	_, got := send(t, r)
	for _, bad := range []string{"evil", "HTTP_PROXY", "HTTP_TE", "CONTENT_LENGTH", "HTTPS="} {
		if strings.Contains(got, bad) {
			t.Errorf("%s is in:\n%s", bad, got)
		}
	}
}

const echoes = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s ' \"$CONTENT_LENGTH\"; cat\n"

func TestABodyIsReadFromStandardInputAndItsLengthIsKnown(t *testing.T) {
	server := served(t, echoes, nil)
	body := strings.Repeat("0123456789", 50_000)
	for what, reader := range map[string]io.Reader{"of known length": strings.NewReader(body), "in chunks": struct{ io.Reader }{strings.NewReader(body)}} {
		if _, got := send(t, request(t, http.MethodPost, server.URL, reader)); got != strconv.Itoa(len(body))+" "+body {
			t.Errorf("%s: it echoes %d bytes that begin with %.20q", what, len(got), got)
		}
	}
}

func TestABodyOfUnknownLengthHasABound(t *testing.T) {
	server := served(t, echoes, func(o *Options) { o.Spool = 100 })
	r := request(t, http.MethodPost, server.URL, struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 101))})
	if response, _ := send(t, r); response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %s", response.Status)
	}
}

func TestAProgramNeedNotReadTheBody(t *testing.T) {
	server := served(t, "#!/bin/sh\necho 'Status: 403 No'; echo; echo no\n", nil)
	for range 20 { // a connection that was closed with some of the body unread lost the answer now and then
		response, got := send(t, request(t, http.MethodPost, server.URL, strings.NewReader(strings.Repeat("x", 600_000))))
		if response.StatusCode != http.StatusForbidden || got != "no\n" {
			t.Errorf("got %s %q", response.Status, got)
		}
	}
}

func TestTheHeaderOfAProgramBecomesThatOfTheAnswer(t *testing.T) {
	for script, want := range map[string]struct {
		status   int
		location string
	}{
		"echo 'Status: 404 Not Found'; echo 'Content-Type: text/x'; echo; echo gone":               {404, ""},
		"echo 'Location: https://other.test/x'; echo":                                              {302, "https://other.test/x"},
		"echo 'Status: 301'; echo 'Location: /y'; echo":                                            {301, "/y"},
		"echo 'Content-Type: text/x'; echo 'Connection: close'; echo 'Transfer-Encoding: x'; echo": {200, ""},

		"echo 'no header'; echo":                     {502, ""},
		"echo 'X-Alone: 1'; echo":                    {502, ""},
		"echo 'Status: 101 Switch'; echo":            {502, ""},
		"echo 'Status: many'; echo":                  {502, ""},
		"echo 'Content-Type: text/x'":                {502, ""},
		"exit 1":                                     {502, ""},
		"head -c 100000 /dev/zero | tr '\\0' x":      {502, ""},
		"printf 'Content-Type: a\\001b\\n\\n'; echo": {502, ""},
	} {
		server := served(t, "#!/bin/sh\n"+script+"\n", nil)
		response, _ := send(t, request(t, http.MethodGet, server.URL, nil))
		if response.StatusCode != want.status || response.Header.Get("Location") != want.location {
			t.Errorf("%s: %s to %q", script, response.Status, response.Header.Get("Location"))
		}
		server.Close()
	}
}

func TestAProgramThatIsNotThereIsABadGateway(t *testing.T) {
	server := served(t, "", func(o *Options) { o.Program = []string{"/no/such/program"} })
	if response, _ := send(t, request(t, http.MethodGet, server.URL, nil)); response.StatusCode != http.StatusBadGateway {
		t.Errorf("got %s", response.Status)
	}
}

func TestScriptsInOtherLanguagesWork(t *testing.T) {
	for _, script := range []string{
		"#!/usr/bin/env perl\nread(STDIN, my $body, $ENV{CONTENT_LENGTH});\nprint \"Content-Type: text/plain\\r\\n\\r\\nhello $body\";\n",
		"#!/usr/bin/env python3\nimport os, sys\nbody = sys.stdin.read(int(os.environ['CONTENT_LENGTH']))\nprint('Content-Type: text/plain\\n\\nhello ' + body, end='')\n",
	} {
		server := served(t, script, func(o *Options) { o.Environment = append(o.Environment, "HOME="+os.Getenv("HOME")) })
		if response, got := send(t, request(t, http.MethodPost, server.URL, strings.NewReader("you"))); got != "hello you" {
			t.Errorf("%.30s: %s %q", script, response.Status, got)
		}
	}
}

func TestAnAnswerIsSentAsItComes(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "go-on")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	server := served(t, "#!/bin/sh\nprintf 'Content-Type: text/event-stream\\n\\nfirst'; read x <"+fifo+"; printf second\n", nil)
	response, err := server.Client().Do(request(t, http.MethodGet, server.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 5)
	if _, err := io.ReadFull(response.Body, first); err != nil || string(first) != "first" {
		t.Fatalf("%q, %v", first, err)
	}
	if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "second" {
		t.Errorf("%q, %v", rest, err)
	}
}

// lingering tells the pids of two processes, one the child of the other, and never ends.
const lingering = "#!/bin/sh\nsleep 1000 &\nprintf 'Content-Type: text/plain\\n\\n%s %s\\n' $$ $!\nwait\n"

func expectGone(t *testing.T, pids ...string) {
	t.Helper()
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		deadline := time.After(time.Minute)
		for lives(pid) {
			select {
			case <-deadline:
				t.Fatalf("process %d lives on", pid)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// lives reports whether a process runs. One that was killed and has no parent to ask for it does not.
func lives(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !bytes.Contains(text, []byte(") Z "))
}

func firstLine(t *testing.T, body io.Reader) []string {
	t.Helper()
	var line []byte
	for one := make([]byte, 1); ; line = append(line, one[0]) {
		if _, err := io.ReadFull(body, one); err != nil {
			t.Fatal(err)
		}
		if one[0] == '\n' {
			return strings.Fields(string(line))
		}
	}
}

func TestAProgramAndItsChildrenAreKilledWhenTheVisitorLeaves(t *testing.T) {
	server := served(t, lingering, nil)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	response, err := server.Client().Do(request(t, http.MethodGet, server.URL, nil).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	pids := firstLine(t, response.Body)
	leave()
	expectGone(t, pids...)
}

func TestAProgramIsKilledWhenItsTimeIsUp(t *testing.T) {
	server := served(t, lingering, func(o *Options) { o.TimeLimit = time.Second })
	response, err := server.Client().Do(request(t, http.MethodGet, server.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	pids := firstLine(t, response.Body)
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("half an answer looks like a whole one")
	}
	expectGone(t, pids...)
	silent := served(t, "#!/bin/sh\nexec sleep 1000\n", func(o *Options) { o.TimeLimit = 50 * time.Millisecond })
	if response, _ := send(t, request(t, http.MethodGet, silent.URL, nil)); response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("without a header: %s", response.Status)
	}
}

func TestAnAnswerThatASignalEndsIsNoWholeOne(t *testing.T) {
	server := served(t, "#!/bin/sh\nprintf 'Content-Type: text/plain\n\nhalf'; kill -9 $$\n", nil)
	response, err := server.Client().Do(request(t, http.MethodGet, server.URL, nil))
	if err == nil {
		_, err = io.ReadAll(response.Body)
	}
	if err == nil {
		t.Error("half an answer looks like a whole one")
	}
}

func TestAProcessThatLeavesItsGroupDoesNotHoldTheAnswerForLong(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Fatal(err)
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	server := served(t, "#!/bin/sh\nsetsid sh -c 'echo $$ >"+pidFile+".new; mv "+pidFile+".new "+pidFile+"; exec sleep 1000' &\nuntil [ -e "+pidFile+" ]; do sleep 0.01; done\n", func(o *Options) { o.TimeLimit = time.Second })
	t.Cleanup(func() {
		text, _ := os.ReadFile(pidFile)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if response, _ := send(t, request(t, http.MethodGet, server.URL, nil)); response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("got %s", response.Status)
	}
}

func TestProcessesAndWaitingRequestsAreBounded(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "go-on")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	var h *Handler
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread x <"+fifo+"\nprintf 'Content-Type: text/plain\\n\\nok'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	h = New(Options{
		Program: []string{script}, Environment: []string{"PATH=" + os.Getenv("PATH")}, Processes: 1, Waiting: 1, TimeLimit: time.Minute,
		Stderr: os.Stderr, Log: slog.New(slog.DiscardHandler),
	})
	server.Start()
	t.Cleanup(server.Close)
	var both sync.WaitGroup
	answers := make(chan string, 2)
	for range 2 {
		both.Go(func() {
			response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request(t, http.MethodGet, server.URL, nil))
			if err != nil {
				answers <- err.Error()
				return
			}
			_ = response.Body.Close()
			answers <- response.Status
		})
	}
	deadline := time.After(time.Minute)
	for len(h.running) != 1 || h.waiting.Load() != 1 {
		select {
		case <-deadline:
			t.Fatal("no request waits")
		case <-time.After(time.Millisecond):
		}
	}
	if response, _ := send(t, request(t, http.MethodGet, server.URL, nil)); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many got %s", response.Status)
	}
	for range 2 {
		if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := <-answers; got != "200 OK" {
			t.Errorf("one that waited got %s", got)
		}
	}
	both.Wait()
}

// stalled sends the beginning of a request, and returns the status line of the answer.
func stalled(t *testing.T, server *httptest.Server, text string) (status func() string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\n"+text); err != nil {
		t.Fatal(err)
	}
	return func() string {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		return strings.TrimSpace(line)
	}
}

const partOfChunked = "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"

func TestTimeIsUpForABodyThatStallsAndTheVisitorIsTold(t *testing.T) {
	for what, text := range map[string]string{"in chunks": partOfChunked, "of known length": "Content-Length: 100\r\n\r\nx"} {
		server := served(t, echoesLate, func(o *Options) { o.TimeLimit = 100 * time.Millisecond })
		if got := stalled(t, server, text)(); got != "HTTP/1.1 504 Gateway Timeout" {
			t.Errorf("%s: %s", what, got)
		}
	}
}

// echoesLate says nothing before it has read everything.
const echoesLate = "#!/bin/sh\nbody=$(cat)\nprintf 'Content-Type: text/plain\n\n%s' \"$body\"\n"

func TestABodyThatStallsKeepsNoOtherVisitorWaiting(t *testing.T) {
	server := served(t, echoesLate, func(o *Options) { o.Processes, o.Waiting = 1, 0 })
	h := server.Config.Handler.(*Handler)
	stalled(t, server, partOfChunked)
	deadline := time.After(time.Minute)
	for len(h.running)+len(h.stored) == 0 {
		select {
		case <-deadline:
			t.Fatal("no request is under way")
		case <-time.After(time.Millisecond):
		}
	}
	if response, got := send(t, request(t, http.MethodPost, server.URL, strings.NewReader("you"))); got != "you" {
		t.Errorf("another visitor got %s %q", response.Status, got)
	}
	r := request(t, http.MethodPost, server.URL, struct{ io.Reader }{strings.NewReader("x")})
	if response, _ := send(t, r); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a second body in chunks got %s", response.Status)
	}
}

func TestABodyThatNobodyReadsDoesNotDisturbTheNextRequest(t *testing.T) {
	for what, change := range map[string]func(*Options){"not read": nil, "not even started": func(o *Options) { o.Program = []string{"/no/such"} }} {
		server := served(t, "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nok'\n", change)
		var said bytes.Buffer
		server.Config.ErrorLog = log.New(&said, "", 0)
		for _, size := range []int{10, 100_000, 300_000} {
			for range 5 {
				response, err := server.Client().Do(request(t, http.MethodPost, server.URL, strings.NewReader(strings.Repeat("x", size))))
				if err != nil {
					t.Fatalf("%s, %d bytes: %v", what, size, err)
				}
				if _, err := io.ReadAll(response.Body); err != nil {
					t.Errorf("%s, %d bytes: %v", what, size, err)
				}
			}
		}
		server.Close()
		if said.Len() > 0 {
			t.Errorf("%s: the server says %.300s", what, said.String())
		}
	}
}

func TestAConnectionIsKeptForTheNextRequest(t *testing.T) {
	server := served(t, "#!/bin/sh\nbody=$(cat)\nprintf 'Content-Type: text/plain\n\n%s %s' \"$CONTENT_LENGTH\" \"$body\"\n", nil)
	client := server.Client()
	var mu sync.Mutex
	connections := 0
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		connections++
		mu.Unlock()
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	for range 5 {
		response, err := client.Do(request(t, http.MethodPost, server.URL, strings.NewReader("you")))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(response.Body); err != nil || string(got) != "3 you" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if connections != 1 {
		t.Errorf("%d connections", connections)
	}
}

func TestWhatAProgramComplainsOfIsNotInTheAnswer(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	server := served(t, "#!/bin/sh\necho 'Content-Type: text/plain'; echo; echo fine; echo oops >&2\n", func(o *Options) { o.Stderr = file })
	if _, got := send(t, request(t, http.MethodGet, server.URL, nil)); got != "fine\n" {
		t.Errorf("got %q", got)
	}
	if text, err := os.ReadFile(file.Name()); err != nil || string(text) != "oops\n" {
		t.Errorf("stderr has %q (%v)", text, err)
	}
}
