package discovery

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cutover/rules"
)

// nameServer is a DNS server on loopback, by UDP and TCP, whose records a test sets.
type nameServer struct {
	port  string
	heard chan struct{} // gets something for each question, while there is room

	mu      sync.Mutex
	records map[dns.Question][]dns.RR
	codes   map[dns.Question]int // instead of records
	silent  bool
	asked   []string // network, name and type
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	packets, stream := listenTwice(t)
	_, port, _ := net.SplitHostPort(packets.LocalAddr().String())
	s := &nameServer{port: port, heard: make(chan struct{}, 100), records: map[dns.Question][]dns.RR{}, codes: map[dns.Question]int{}}
	for network, server := range map[string]*dns.Server{"udp": {PacketConn: packets}, "tcp": {Listener: stream}} {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { s.answer(network, w, r) })
		begun, ended := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(begun) }
		go func() { ended <- server.ActivateAndServe() }()
		<-begun
		t.Cleanup(func() {
			_ = server.Shutdown()
			<-ended
		})
	}
	return s
}

// listenTwice finds a port that is free for both.
func listenTwice(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		stream, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, stream
		}
		_ = packets.Close()
	}
	t.Fatal("no port is free")
	return nil, nil
}

func (s *nameServer) answer(network string, w dns.ResponseWriter, r *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.heard <- struct{}{}:
	default:
	}
	q := r.Question[0]
	s.asked = append(s.asked, network+" "+q.Name+" "+dns.TypeToString[q.Qtype])
	if s.silent {
		return
	}
	m := new(dns.Msg).SetReply(r)
	if m.Rcode = s.codes[q]; m.Rcode == dns.RcodeSuccess {
		m.Answer = s.records[q]
	}
	if network == "udp" && m.Len() > dns.MinMsgSize {
		m.Answer, m.Truncated = nil, true
	}
	_ = w.WriteMsg(m)
}

// has sets the records of a name and a type, as in a zone file.
func (s *nameServer) has(t *testing.T, name string, kind uint16, records ...string) {
	t.Helper()
	var list []dns.RR
	for _, text := range records {
		record, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, record)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET}
	s.records[key] = list
	delete(s.codes, key)
}

// fails makes the server answer with a code.
func (s *nameServer) fails(name string, kind uint16, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET}] = code
}

func (s *nameServer) fallSilent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

func (s *nameServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// system is what a machine that asks the server has in its files.
func (s *nameServer) system(t *testing.T, resolvConf, hosts string) DNS {
	t.Helper()
	dir := t.TempDir()
	d := DNS{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"), Port: s.port}
	for file, text := range map[string]string{d.ResolvConf: "nameserver 127.0.0.1\n" + resolvConf, d.Hosts: hosts} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func parsed(t *testing.T, url string) rules.TargetSource {
	t.Helper()
	source, err := rules.ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func lookedUp(t *testing.T, lookup Lookup) (list []string, again time.Duration) {
	t.Helper()
	answer, err := lookup(t.Context())
	if err != nil {
		return []string{err.Error()}, answer.Again
	}
	for _, place := range tidy(answer.Places) {
		list = append(list, fmt.Sprintf("%s %d", place.URL, place.Weight))
	}
	return list, answer.Again
}

func TestANameStandsForAllItsAddressesForAsLongAsTheirTTL(t *testing.T) {
	s := newNameServer(t)
	s.has(t, "app.test.", dns.TypeA, "app.test. 300 CNAME real.test.", "real.test. 20 A 10.0.0.2", "real.test. 300 A 10.0.0.1", "real.test. 300 A 0.0.0.0", "real.test. 300 A 224.0.0.1")
	s.has(t, "app.test.", dns.TypeAAAA, "app.test. 30 AAAA ::1")
	d := s.system(t, "", "")
	list, again := lookedUp(t, d.Addresses(parsed(t, "dns+https://app.test:8443")))
	want := []string{"https://10.0.0.1:8443 1", "https://10.0.0.2:8443 1", "https://[::1]:8443 1"}
	if !slices.Equal(list, want) || again != 20*time.Second {
		t.Errorf("%q for %s", list, again)
	}
}

func TestATTLIsKeptWithinBounds(t *testing.T) {
	s := newNameServer(t)
	for ttl, want := range map[int]time.Duration{0: time.Second, 86400: 5 * time.Minute} {
		s.has(t, "app.test.", dns.TypeA, fmt.Sprintf("app.test. %d A 10.0.0.1", ttl))
		if _, again := lookedUp(t, s.system(t, "", "").Addresses(parsed(t, "dns+http://app.test"))); again != want {
			t.Errorf("%d: %s", ttl, again)
		}
	}
}

func TestALongAnswerIsFetchedByTCP(t *testing.T) {
	s := newNameServer(t)
	var records []string
	for n := range 200 {
		records = append(records, fmt.Sprintf("app.test. 60 A 10.0.1.%d", n))
	}
	s.has(t, "app.test.", dns.TypeA, records...)
	list, _ := lookedUp(t, s.system(t, "", "").Addresses(parsed(t, "dns+http://app.test")))
	if len(list) != 200 || !slices.Contains(s.questions(), "tcp app.test. A") {
		t.Errorf("%d targets: %q", len(list), s.questions())
	}
}

func TestSearchDomainsAndTheFileOfHostsCountAsForTheSystem(t *testing.T) {
	s := newNameServer(t)
	s.has(t, "app.corp.test.", dns.TypeA, "app.corp.test. 60 A 10.0.0.1")
	s.fails("app.other.test.", dns.TypeA, dns.RcodeNameError)
	s.fails("app.other.test.", dns.TypeAAAA, dns.RcodeNameError)
	d := s.system(t, "search other.test corp.test\n", "# machines\n10.0.0.9 db DB.test # the database\n::1 db\n")
	for url, want := range map[string][]string{
		"dns+http://app:8080":     {"http://10.0.0.1:8080 1"},
		"dns+http://db.test:8080": {"http://10.0.0.9:8080 1"},
		"dns+http://db:8080":      {"http://10.0.0.9:8080 1", "http://[::1]:8080 1"},
	} {
		if list, _ := lookedUp(t, d.Addresses(parsed(t, url))); !slices.Equal(list, want) {
			t.Errorf("%s: %q", url, list)
		}
	}
}

func TestWhatIsNoAnswerIsAnError(t *testing.T) {
	s := newNameServer(t)
	d := s.system(t, "options attempts:1\n", "")
	both := func(name string, code int) {
		s.fails(name, dns.TypeA, code)
		s.fails(name, dns.TypeAAAA, code)
	}
	both("gone.test.", dns.RcodeNameError)
	both("sick.test.", dns.RcodeServerFailure)
	both("shut.test.", dns.RcodeRefused)
	for url, want := range map[string]string{
		"dns+http://gone.test":           "no such name",
		"dns+http://empty.test":          "no such name",
		"dns+http://sick.test":           "SERVFAIL",
		"dns+http://shut.test":           "REFUSED",
		"srv+http://_web._tcp.none.test": "no SRV records",
	} {
		source := parsed(t, url)
		lookup := d.Addresses(source)
		if source.Kind == rules.SourceSRV {
			lookup = d.Services(source)
		}
		if list, _ := lookedUp(t, lookup); len(list) != 1 || !strings.Contains(list[0], want) || !strings.Contains(list[0], source.Name) {
			t.Errorf("%s: %q", url, list)
		}
	}
}

func TestAServerThatFailsForOneKindOfAddressLeavesTheOthers(t *testing.T) {
	s := newNameServer(t)
	s.has(t, "app.test.", dns.TypeA, "app.test. 60 A 10.0.0.1")
	s.has(t, "app.test.", dns.TypeAAAA, "app.test. 60 AAAA ::1")
	lookup := s.system(t, "options attempts:1\n", "").Addresses(parsed(t, "dns+http://app.test:80"))
	before, _ := lookedUp(t, lookup)
	s.fails("app.test.", dns.TypeAAAA, dns.RcodeServerFailure)
	s.has(t, "app.test.", dns.TypeA, "app.test. 60 A 10.0.0.2")
	after, again := lookedUp(t, lookup)
	if len(before) != 2 || !slices.Equal(after, []string{"http://10.0.0.2:80 1", "http://[::1]:80 1"}) || again != staleTTL {
		t.Errorf("%q, then %q for %s", before, after, again)
	}
}

func TestTheNextServerIsAskedWhereOneFails(t *testing.T) {
	good := newNameServer(t)
	good.has(t, "app.test.", dns.TypeA, "app.test. 60 A 10.0.0.1")
	// Nobody listens at the other address, which is loopback, too.
	d := good.system(t, "", "")
	if err := os.WriteFile(d.ResolvConf, []byte("nameserver 127.0.0.77\nnameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, _ := lookedUp(t, d.Addresses(parsed(t, "dns+http://app.test:80"))); !slices.Equal(list, []string{"http://10.0.0.1:80 1"}) {
		t.Errorf("%q", list)
	}
}

func TestALookupEndsWithItsContextThoughTheServerIsSilent(t *testing.T) {
	s := newNameServer(t)
	s.fallSilent()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	lookup := s.system(t, "options timeout:30\n", "").Addresses(parsed(t, "dns+http://app.test:80"))
	go func() {
		_, err := lookup(ctx)
		ended <- err
	}()
	<-s.heard
	<-s.heard
	cancelled := time.Now()
	cancel()
	if err := <-ended; err == nil || time.Since(cancelled) > 4*time.Second {
		t.Errorf("%v after %s", err, time.Since(cancelled))
	}
}

func TestServiceRecordsGivePortsAndWeightsOfTheFirstPriority(t *testing.T) {
	s := newNameServer(t)
	s.has(t, "_web._tcp.app.test.", dns.TypeSRV,
		"_web._tcp.app.test. 60 SRV 10 5 8001 a.app.test.", "_web._tcp.app.test. 60 SRV 10 0 8002 b.app.test.",
		"_web._tcp.app.test. 60 SRV 20 9 8003 c.app.test.", "_web._tcp.app.test. 60 SRV 5 9 8004 missing.app.test.")
	s.has(t, "a.app.test.", dns.TypeA, "a.app.test. 40 A 10.0.0.1")
	s.has(t, "b.app.test.", dns.TypeA, "b.app.test. 50 A 10.0.0.2", "b.app.test. 50 A 10.0.0.3")
	s.has(t, "c.app.test.", dns.TypeA, "c.app.test. 60 A 10.0.0.4")
	d := s.system(t, "", "")
	lookup := d.Services(parsed(t, "srv+h2c://_web._tcp.app.test"))
	list, again := lookedUp(t, lookup)
	if want := []string{"h2c://10.0.0.1:8001 10", "h2c://10.0.0.2:8002 1", "h2c://10.0.0.3:8002 1"}; !slices.Equal(list, want) || again != 40*time.Second {
		t.Errorf("%q for %s", list, again)
	}
	s.has(t, "a.app.test.", dns.TypeA)
	s.has(t, "b.app.test.", dns.TypeA)
	if list, _ := lookedUp(t, lookup); !slices.Equal(list, []string{"h2c://10.0.0.4:8003 9"}) {
		t.Errorf("without the first: %q", list)
	}
	s.has(t, "_web._tcp.app.test.", dns.TypeSRV, "_web._tcp.app.test. 60 SRV 0 0 0 .")
	if list, _ := lookedUp(t, lookup); len(list) != 1 || !strings.Contains(list[0], "none of its SRV records") {
		t.Errorf("a service that is not there: %q", list)
	}
}

func TestAServiceOfWhichOneNameCannotBeAskedForStaysAsItWas(t *testing.T) {
	s := newNameServer(t)
	s.has(t, "_web._tcp.app.test.", dns.TypeSRV, "_web._tcp.app.test. 60 SRV 0 1 80 a.test.", "_web._tcp.app.test. 60 SRV 0 1 80 b.test.")
	s.has(t, "a.test.", dns.TypeA, "a.test. 60 A 10.0.0.1")
	s.fails("b.test.", dns.TypeA, dns.RcodeServerFailure)
	s.fails("b.test.", dns.TypeAAAA, dns.RcodeServerFailure)
	lookup := s.system(t, "options attempts:1\n", "").Services(parsed(t, "srv+http://_web._tcp.app.test"))
	if list, _ := lookedUp(t, lookup); len(list) != 1 || !strings.Contains(list[0], "SERVFAIL") {
		t.Errorf("%q", list)
	}
}
