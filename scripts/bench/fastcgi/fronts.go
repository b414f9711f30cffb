package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	workers = 4 // of php-fpm, and connections that are kept to it
	clients = 4
	address = "127.0.0.1:18090"

	targetAddress = "127.0.0.1:18091"
)

// process is a program under measurement, with its children.
type process struct {
	command *exec.Cmd
	said    *bytes.Buffer
}

// start starts a program and waits until it listens.
func start(ctx context.Context, network, address string, command *exec.Cmd) (*process, error) {
	p := &process{command: command, said: &bytes.Buffer{}}
	command.Stdout, command.Stderr = p.said, p.said
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	if err := command.Start(); err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: time.Second}
	for range 1000 {
		if c, err := dialer.DialContext(ctx, network, address); err == nil {
			return p, c.Close()
		}
		<-time.After(10 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("%s does not listen: %s", command.Path, p.said), p.stop())
}

func (p *process) stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended
	if err := p.command.Wait(); err != nil && p.command.ProcessState == nil {
		return err
	}
	return nil
}

// used returns the processor time that the program and its children have taken. Their threads live as long as they do.
func (p *process) used() time.Duration {
	pid := strconv.Itoa(p.command.Process.Pid)
	total := onProcessor(pid)
	children, _ := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children")) //nolint:gosec // of a process that this one started
	for child := range strings.FieldsSeq(string(children)) {
		total += onProcessor(child)
	}
	return total
}

// onProcessor sums up what the kernel's scheduler counts for the threads of a process, to the nanosecond.
func onProcessor(pid string) time.Duration {
	threads, _ := filepath.Glob(filepath.Join("/proc", pid, "task", "*", "schedstat"))
	total := 0
	for _, thread := range threads {
		text, _ := os.ReadFile(thread) //nolint:gosec // as above
		took, _, _ := strings.Cut(string(text), " ")
		n, _ := strconv.Atoi(took)
		total += n
	}
	return time.Duration(total)
}

func (b *bench) write(name, text string) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // workers of nginx may be other users
}

func (b *bench) startPHP(ctx context.Context) (*process, error) {
	for name, size := range map[string]int{"small.php": 1000, "large.php": 100_000} {
		text := fmt.Sprintf("<?php file_get_contents('php://input'); echo str_repeat('x', %d);", size)
		if _, err := b.write(name, text); err != nil {
			return nil, err
		}
	}
	socket := filepath.Join(b.dir, "php.sock")
	config, err := b.write("fpm.conf", fmt.Sprintf("[global]\nerror_log = %s/fpm.log\ndaemonize = no\n[www]\nlisten = %s\nlisten.mode = 0666\npm = static\npm.max_children = %d\n", b.dir, socket, workers))
	if err != nil {
		return nil, err
	}
	return start(ctx, "unix", socket, exec.CommandContext(ctx, b.php, "-n", "-F", "-R", "-y", config)) //nolint:gosec // it is what this program is for
}

// startNginx starts nginx before php-fpm; keep is how many connections it keeps.
func startNginx(keep int) func(*bench, context.Context) (*process, error) {
	kept := ""
	if keep > 0 {
		kept = keepConnections(keep)
	}
	params := ""
	for name, value := range map[string]string{
		"QUERY_STRING": "$query_string", "REQUEST_METHOD": "$request_method", "CONTENT_TYPE": "$content_type", "CONTENT_LENGTH": "$content_length",
		"SCRIPT_NAME": "$fastcgi_script_name", "SCRIPT_FILENAME": "$document_root$fastcgi_script_name", "REQUEST_URI": "$request_uri",
		"DOCUMENT_URI": "$document_uri", "DOCUMENT_ROOT": "$document_root", "SERVER_PROTOCOL": "$server_protocol", "REQUEST_SCHEME": "$scheme",
		"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_SOFTWARE": "nginx/$nginx_version", "REMOTE_ADDR": "$remote_addr", "REMOTE_PORT": "$remote_port",
		"SERVER_PORT": "$server_port", "SERVER_NAME": "$server_name", "REDIRECT_STATUS": "200",
	} {
		params += fmt.Sprintf("fastcgi_param %s %s;\n", name, value)
	}
	return func(b *bench, ctx context.Context) (*process, error) {
		return b.startNginxWith(ctx, fmt.Sprintf("server unix:%s/php.sock; %s", b.dir, kept),
			fmt.Sprintf("try_files $uri =404; fastcgi_pass application; fastcgi_keep_conn %s; %s", map[bool]string{true: "on", false: "off"}[keep > 0], params))
	}
}

func keepConnections(n int) string {
	return fmt.Sprintf("keepalive %d; keepalive_requests 1000000000;", n)
}

// startNginxHTTP starts nginx before a target that speaks HTTP, with the header fields that Cutover adds.
func (b *bench) startNginxHTTP(ctx context.Context) (*process, error) {
	fields := `proxy_set_header Connection ""; `
	for name, value := range map[string]string{
		"Host": "$http_host", "X-Forwarded-For": "$proxy_add_x_forwarded_for", "X-Forwarded-Proto": "$scheme", "X-Forwarded-Host": "$http_host",
		"X-Real-IP": "$remote_addr", "X-Request-Id": "$request_id", "CDN-Loop": "nginx",
	} {
		fields += fmt.Sprintf("proxy_set_header %s %s; ", name, value)
	}
	return b.startNginxWith(ctx, "server "+targetAddress+"; "+keepConnections(clients), "proxy_pass http://application; proxy_http_version 1.1; "+fields)
}

// startNginxWith starts nginx with one worker.
func (b *bench) startNginxWith(ctx context.Context, upstream, location string) (*process, error) {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	config, err := b.write("nginx.conf", fmt.Sprintf(`%[1]s worker_processes 1; daemon off; pid %[2]s/nginx.pid; error_log %[2]s/nginx.log warn;
events { worker_connections 512; }
http { access_log off; keepalive_requests 1000000000; root %[2]s;
client_body_temp_path %[2]s/t1; proxy_temp_path %[2]s/t2; fastcgi_temp_path %[2]s/t3; uwsgi_temp_path %[2]s/t4; scgi_temp_path %[2]s/t5;
upstream application { %[3]s }
server { listen %[4]s; location ~ \.php$ { %[5]s } } }
`, user, b.dir, upstream, address, location))
	if err != nil {
		return nil, err
	}
	return start(ctx, "tcp", address, exec.CommandContext(ctx, b.nginx, "-p", b.dir, "-e", b.dir+"/nginx.log", "-c", config)) //nolint:gosec // as for php-fpm
}

// startCutover starts the program itself before php-fpm; keep is how many connections it keeps.
func startCutover(keep int) func(*bench, context.Context) (*process, error) {
	return func(b *bench, ctx context.Context) (*process, error) {
		return b.startCutoverBefore(ctx, "fcgi+unix:"+filepath.Join(b.dir, "php.sock"), "--fcgi-root", b.dir, "--fcgi-keep", strconv.Itoa(keep))
	}
}

// startCutoverHTTP starts the program itself before a target that speaks HTTP.
func (b *bench) startCutoverHTTP(ctx context.Context) (*process, error) {
	return b.startCutoverBefore(ctx, "http://"+targetAddress)
}

// startCutoverBefore starts the program without a line for each request, as the others.
func (b *bench) startCutoverBefore(ctx context.Context, target string, settings ...string) (*process, error) {
	state, err := os.MkdirTemp(b.dir, "cutover-")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address) //nolint:noctx // it does not wait
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }() // the child has its own
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	environment := append(os.Environ(), "CUTOVER_STATE_DIR="+state, "CUTOVER_RUNTIME_DIR="+state, "CUTOVER_ACME_ISSUER=off", "CUTOVER_ACCESS_LOG=off", "CUTOVER_CONFIG=")
	serve := exec.CommandContext(ctx, "sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, b.cutover) //nolint:gosec // it is what this program is for
	serve.Env, serve.ExtraFiles = append(environment, "LISTEN_FDS=1", "LISTEN_FDNAMES=http"), []*os.File{file}
	p, err := start(ctx, "unix", filepath.Join(state, "admin.sock"), serve)
	if err != nil {
		return nil, err
	}
	set := exec.CommandContext(ctx, b.cutover, append([]string{"upstreams", "set", "v1", target}, settings...)...) //nolint:gosec // as above
	set.Env = environment
	if said, err := set.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, said), p.stop())
	}
	return p, nil
}

// startTarget starts what answers over HTTP as the pages of php-fpm do.
func startTarget(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(ctx, "tcp", targetAddress, exec.CommandContext(ctx, self, "-target")) //nolint:gosec // itself
}

// serveTarget is that, until it is told to end.
func serveTarget(ctx context.Context) error {
	return serveUntil(ctx, targetAddress, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		response, err := canned{}.RoundTrip(r)
		if err != nil {
			return // it never fails
		}
		defer func() { _ = response.Body.Close() }()
		maps.Copy(w.Header(), response.Header)
		_, _ = io.Copy(w, response.Body) // who has left needs no answer
	}))
}

func serveUntil(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	return server.ListenAndServe()
}

// startGo starts Go's HTTP server and reverse proxy, with an answer that is there.
func startGo(ctx context.Context) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(ctx, "tcp", address, exec.CommandContext(ctx, self, "-serve")) //nolint:gosec // itself
}

// serveGo is that, until it is told to end.
func serveGo(ctx context.Context) error {
	handler := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "fcgi", "php", r.In.Host
		},
		Transport:  canned{},
		BufferPool: &buffers{},
	}
	return serveUntil(ctx, address, handler)
}

// buffers are those that the reverse proxy copies with.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return buffer[:]
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put((*[32 << 10]byte)(buffer)) }

// canned answers by itself.
type canned struct{}

func (canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body) // the server needs it read
	}
	size := 1000
	if strings.Contains(r.URL.Path, "large") {
		size = 100_000
	}
	length, header := int64(-1), http.Header{"Content-Type": {"text/html"}, "X-Powered-By": {"PHP"}}
	if size < 10_000 { // proxy/fastcgi knows it then
		length = int64(size)
		header.Set("Content-Length", strconv.Itoa(size))
	}
	return &http.Response{StatusCode: http.StatusOK, Header: header, ContentLength: length, Body: io.NopCloser(io.LimitReader(zeros{}, int64(size))), Request: r}, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// ask sends n requests over a few connections, and checks the answers.
func ask(ctx context.Context, l load, n int) error {
	transport := &http.Transport{MaxIdleConnsPerHost: clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var asking sync.WaitGroup
	for range clients {
		asking.Go(func() {
			for range n / clients {
				if err := askOnce(ctx, transport, l); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	asking.Wait()
	return context.Cause(ctx)
}

func askOnce(ctx context.Context, transport *http.Transport, l load) error {
	method, body := http.MethodGet, io.Reader(nil)
	if l.body > 0 {
		method, body = http.MethodPost, strings.NewReader(strings.Repeat("x", l.body))
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+address+l.path+"?page=7", body)
	if err != nil {
		return err
	}
	r.Header = http.Header{
		"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}, "Accept": {"text/html,application/xhtml+xml"},
		"Accept-Language": {"en-US,en;q=0.5"}, "Accept-Encoding": {"gzip, deflate, br"}, "Cookie": {"session=0123456789abcdef0123456789abcdef"},
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if got, err := io.Copy(io.Discard, response.Body); err != nil || got != int64(l.answer) || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %d bytes, status %d: %w", l.name, got, response.StatusCode, errors.Join(err, errors.New("not the answer")))
	}
	return nil
}
