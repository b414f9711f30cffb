package acme

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"cutover/scripts/e2e/pebble"
	"cutover/tlsbridge"
)

const (
	tsigKey    = "acme-key."
	tsigSecret = "c2VjcmV0IGZvciBhIHRlc3QgYW5kIG5vdGhpbmcgZWxzZQ=="
)

// primary is the primary DNS server of the zone test: it takes updates that are signed with its key.
type primary struct {
	address string

	mu               sync.Mutex
	texts            map[string][]string // by name
	updates, refused int
}

func startPrimary(t *testing.T) *primary {
	t.Helper()
	p := &primary{texts: map[string][]string{}}
	listener := listen(t)
	p.address = listener.Addr().String()
	var config net.ListenConfig
	packets, err := config.ListenPacket(t.Context(), "udp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{tsigKey: tsigSecret}
	for _, server := range []*dns.Server{
		{Listener: listener, Handler: p, TsigSecret: secrets, MsgAcceptFunc: acceptAll},
		{PacketConn: packets, Handler: p, TsigSecret: secrets, MsgAcceptFunc: acceptAll},
	} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = server.ShutdownContext(context.Background())
			<-ended
		})
	}
	return p
}

// acceptAll lets updates through, which miekg/dns by itself refuses.
func acceptAll(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }

func (p *primary) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg).SetReply(question)
	answer.Authoritative = true
	p.mu.Lock()
	defer p.mu.Unlock()
	if question.Opcode == dns.OpcodeUpdate {
		p.update(w, question, answer)
	} else {
		p.answer(question.Question[0], answer)
	}
	_ = w.WriteMsg(answer) // the asker may have left
}

func (p *primary) update(w dns.ResponseWriter, question, answer *dns.Msg) {
	signed := question.IsTsig()
	if signed == nil || w.TsigStatus() != nil || question.Question[0].Name != "test." {
		p.refused++
		answer.Rcode = dns.RcodeRefused
		return
	}
	p.updates++
	for _, rr := range question.Ns {
		text, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		name := strings.ToLower(text.Hdr.Name)
		if text.Hdr.Class == dns.ClassINET {
			p.texts[name] = append(p.texts[name], text.Txt[0])
		} else {
			p.texts[name] = slices.DeleteFunc(p.texts[name], func(t string) bool { return t == text.Txt[0] })
		}
	}
	answer.SetTsig(tsigKey, signed.Algorithm, 300, time.Now().Unix())
}

func (p *primary) answer(q dns.Question, answer *dns.Msg) {
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	name := strings.ToLower(q.Name)
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: "test.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.test.", Mbox: "ops.test."}
	switch {
	case q.Qtype == dns.TypeSOA && name == "test.":
		answer.Answer = append(answer.Answer, soa)
	case q.Qtype == dns.TypeTXT:
		for _, text := range p.texts[name] {
			answer.Answer = append(answer.Answer, &dns.TXT{Hdr: header, Txt: []string{text}})
		}
	}
	if len(answer.Answer) == 0 {
		answer.Ns = append(answer.Ns, soa)
	}
}

// left counts the records that are still there.
func (p *primary) left() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, texts := range p.texts {
		n += len(texts)
	}
	return n
}

func TestNamesAreProvedByTheDNSWithoutAnyTraffic(t *testing.T) {
	s := newSockets(t)
	p := startPrimary(t)
	ca := startPebble(t, s, func(o *pebble.Options) {
		nobody(t)(o)
		o.Resolver = p.address
	})
	queue := &queueInMemory{}
	dir := t.TempDir()
	options := func(o *tlsbridge.CertificateOptions) {
		o.DNS = &tlsbridge.DNSUpdate{Server: p.address, Key: "acme-key", Algorithm: "hmac-sha256", Secret: tsigSecret}
		o.Queue = queue
		o.Allowed = func(name string) bool { return name == "shop.test" }
		o.AllowedWildcard = func(name string) bool { return name == "*.shop.test" }
	}
	e := startEdge(t, s, ca, dir, options)
	if _, err := e.certificates.Prefetch(t.Context(), 0, []string{"shop.test", "*.shop.test"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 60*time.Second, "certificates", func() bool { return len(queue.done()) == 2 })
	if p.updates < 4 || p.left() != 0 {
		t.Errorf("%d updates, and %d records are left behind", p.updates, p.left())
	}
	mustShake(t, e, "any.shop.test", nil)
	e.stop()
	e = startEdge(t, s, ca, dir, options)
	state := mustShake(t, e, "other.shop.test", nil)
	if err := leaf(state).VerifyHostname("other.shop.test"); err != nil || ca.Orders() != 2 {
		t.Errorf("the wildcard certificate is not served: %v, %d orders", err, ca.Orders())
	}
}

func TestAnUpdateWithAWrongSecretIsAFailureOfTheName(t *testing.T) {
	s := newSockets(t)
	p := startPrimary(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Resolver = p.address })
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) {
		o.DNS = &tlsbridge.DNSUpdate{Server: p.address, Key: "acme-key", Algorithm: "hmac-sha256", Secret: "bm90IGl0"}
	})
	if _, err := e.shake("shop.test", nil); err == nil {
		t.Fatal("a certificate was issued")
	}
	waiting := e.certificates.Status().BackedOff
	if len(waiting) != 1 || !strings.Contains(waiting[0].Error, "update test.") || p.refused == 0 {
		t.Errorf("%+v, %d refused", waiting, p.refused)
	}
}

// queueInMemory is a queue that ends with the test.
type queueInMemory struct {
	mu       sync.Mutex
	pending  []string
	finished []string
}

func (q *queueInMemory) Add(_ context.Context, _ int64, names []string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending = append(q.pending, names...)
	return nil
}

func (q *queueInMemory) Pending(context.Context, int64) ([]string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(q.pending), func(name string) bool { return slices.Contains(q.finished, name) }), nil
}

func (q *queueInMemory) Queued(ctx context.Context, name string) (bool, error) {
	pending, err := q.Pending(ctx, 0)
	return slices.Contains(pending, name), err
}

func (q *queueInMemory) Remove(context.Context, []string) ([]string, error) {
	return nil, errors.ErrUnsupported
}
func (q *queueInMemory) RemoveAll(context.Context) (int, error) { return 0, errors.ErrUnsupported }

func (q *queueInMemory) Finish(_ context.Context, name, _ string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finished = append(q.finished, name)
	return nil
}

func (q *queueInMemory) Finished(context.Context, int64) (done, failed int, err error) {
	return len(q.done()), 0, nil
}

func (q *queueInMemory) done() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.finished)
}
