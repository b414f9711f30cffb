package acme

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"cutover/scripts/e2e/pebble"
)

// playV1 is a web server that gets its certificate by itself, as v1 may do: it says where it listens for clear text and for
// TLS, waits for a line, asks for the certificate, and says what became of it.
func playV1() int {
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return say(err)
	}
	secure, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return say(err)
	}
	config, issuer, err := ownCertificates(portOf(web), portOf(secure))
	if err != nil {
		return say(err)
	}
	go func() { _ = http.Serve(web, issuer.HTTPChallengeHandler(http.NotFoundHandler())) }() //nolint:gosec // it ends with the test
	go answerHandshakes(secure, config)
	_, _ = fmt.Fprintln(os.Stdout, web.Addr(), secure.Addr())
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return say(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := config.ObtainCertSync(ctx, os.Getenv("V1_NAME")); err != nil {
		return say(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, "obtained")
	return 0
}

func say(err error) int {
	_, _ = fmt.Fprintln(os.Stdout, "failed:", strings.ReplaceAll(err.Error(), "\n", " "))
	return 1
}

// ownCertificates is certmagic with one kind of challenge.
func ownCertificates(webPort, securePort int) (*certmagic.Config, *certmagic.ACMEIssuer, error) {
	pem, err := os.ReadFile(os.Getenv("V1_ROOT"))
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	var config *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return config, nil }})
	config = certmagic.New(cache, certmagic.Config{Storage: &certmagic.FileStorage{Path: os.Getenv("V1_DIR")}})
	issuer := certmagic.NewACMEIssuer(config, certmagic.ACMEIssuer{
		CA: os.Getenv("V1_CA"), Email: "v1@example.test", Agreed: true, TrustedRoots: roots, ListenHost: "127.0.0.1",
		AltHTTPPort: webPort, AltTLSALPNPort: securePort,
		DisableHTTPChallenge: os.Getenv("V1_CHALLENGE") != "http", DisableTLSALPNChallenge: os.Getenv("V1_CHALLENGE") != "tls",
	})
	config.Issuers = []certmagic.Issuer{issuer}
	return config, issuer, nil
}

func answerHandshakes(listener net.Listener, config *certmagic.Config) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			_ = tls.Server(c, config.TLSConfig()).HandshakeContext(context.Background()) // the CA says how it went
			_ = c.Close()
		}()
	}
}

// v1 is that server, in a process of its own.
type v1 struct {
	web, secure string
	obtain      func() string // asks for the certificate and returns what it says of it
}

func startV1(t *testing.T, ca *pebble.Server, name, challenge string) v1 {
	t.Helper()
	dir := t.TempDir()
	root := dir + "/root.pem"
	if err := os.WriteFile(root, ca.Root(), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), "V1_NAME="+name, "V1_CHALLENGE="+challenge, "V1_CA="+ca.Directory(), "V1_ROOT="+root, "V1_DIR="+dir+"/certs")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := sync.OnceFunc(func() { cancel(); _ = cmd.Wait() })
	t.Cleanup(ended)
	lines := bufio.NewReader(out)
	read := func() string {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("v1: %q, %v", line, err)
		}
		return strings.TrimSpace(line)
	}
	v := v1{obtain: func() string { _, _ = io.WriteString(in, "\n"); return read() }}
	if _, err := fmt.Sscan(read(), &v.web, &v.secure); err != nil {
		t.Fatal(err)
	}
	return v
}
