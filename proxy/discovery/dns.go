package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"cutover/rules"
)

const (
	shortestTTL = time.Second
	longestTTL  = 5 * time.Minute
	hostsTTL    = 5 * time.Second  // of what stands in the file of hosts
	staleTTL    = 30 * time.Second // of addresses of which a server did not say that they still hold
)

// DNS looks names up as the system does: first in the file of hosts, then by the servers and search domains of resolv.conf. Both
// files are read anew for each lookup. Records are asked for here, not by package net, because that keeps their TTL to itself.
type DNS struct {
	ResolvConf string // empty for /etc/resolv.conf
	Hosts      string // empty for /etc/hosts
	Port       string // of the servers; empty for 53
}

// errNone says that the servers have answered, and that there is nothing.
var errNone = errors.New("the DNS has no such name, or no address for it")

// Addresses is a Resolver: a place is an address of the name.
func (d DNS) Addresses(source rules.TargetSource) Lookup {
	known := memory{}
	return func(ctx context.Context) (Answer, error) {
		question, err := d.open()
		if err != nil {
			return Answer{}, err
		}
		found, err := question.addresses(ctx, source.Name, known)
		if err != nil {
			return Answer{}, err
		}
		return Answer{placesAt(source, found.list, source.Port, 1), found.ttl}, nil
	}
}

// Services is a Resolver: the places are those of the SRV records of the name with the lowest priority that has addresses, each
// with the port and the weight of its record (RFC 2782). Others are not used.
func (d DNS) Services(source rules.TargetSource) Lookup {
	known := memory{}
	return func(ctx context.Context) (Answer, error) {
		question, err := d.open()
		if err != nil {
			return Answer{}, err
		}
		records, ttl, err := question.services(ctx, source.Name)
		if err != nil {
			return Answer{}, err
		}
		for _, group := range byPriority(records) {
			answer, err := question.group(ctx, source, group, known)
			if err == nil || !errors.Is(err, errNone) {
				answer.Again = min(answer.Again, ttl)
				return answer, err
			}
		}
		return Answer{}, fmt.Errorf("%s: none of its SRV records leads to an address: %w", source.Name, errNone)
	}
}

// group looks up the addresses of records of one priority, which share the weight of their record. Names that do not exist are
// passed over, unless all are such.
func (q *question) group(ctx context.Context, source rules.TargetSource, group []*dns.SRV, known memory) (Answer, error) {
	answer, none := Answer{Again: longestTTL}, errNone
	lists := make([][]netip.Addr, len(group))
	for i, record := range group {
		found, err := q.addresses(ctx, record.Target, known)
		if errors.Is(err, errNone) {
			none = err
			continue
		}
		if err != nil {
			return Answer{}, err // what was found before is better than a part of what there is
		}
		lists[i] = found.list
		answer.Again = min(answer.Again, found.ttl)
	}
	parts := commonMultiple(lists)
	for i, record := range group {
		if count := len(lists[i]); count > 0 {
			weight := max(1, max(1, int(record.Weight))*parts/count)
			answer.Places = append(answer.Places, placesAt(source, lists[i], fmt.Sprint(record.Port), weight)...)
		}
	}
	if len(answer.Places) == 0 {
		return Answer{}, none
	}
	return answer, nil
}

// commonMultiple returns the least number that the lengths of all lists divide, as long as it is no monster: by it weights are
// multiplied that are to be divided among the addresses of a list.
func commonMultiple(lists [][]netip.Addr) int {
	const most = 5040
	multiple := 1
	for _, list := range lists {
		if n := len(list); n > 0 {
			a, b := multiple, n
			for b != 0 {
				a, b = b, a%b
			}
			multiple = min(multiple/a*n, most)
		}
	}
	return multiple
}

// byPriority returns records in groups, the lowest number first, which is to be preferred.
func byPriority(records []*dns.SRV) (groups [][]*dns.SRV) {
	of := map[uint16][]*dns.SRV{}
	for _, record := range records {
		if record.Target != "." { // the service is decidedly not there
			of[record.Priority] = append(of[record.Priority], record)
		}
	}
	for _, priority := range slices.Sorted(maps.Keys(of)) {
		groups = append(groups, of[priority])
	}
	return groups
}

func placesAt(source rules.TargetSource, list []netip.Addr, port string, weight int) []Place {
	places := make([]Place, 0, len(list))
	for _, address := range list {
		places = append(places, Place{source.URL(net.JoinHostPort(address.String(), port)), weight})
	}
	return places[:min(len(places), mostPlaces)]
}

// found are addresses, and how long they hold.
type found struct {
	list []netip.Addr
	ttl  time.Duration
}

// memory is what servers said last of a name and a type, for the time when they fail to say it again: a server that has no
// answer for AAAA must not take away what A has.
type memory map[dns.Question][]netip.Addr

// question asks the servers that there are at the moment.
type question struct {
	config *dns.ClientConfig
	hosts  string
}

func (d DNS) open() (*question, error) {
	config, err := dns.ClientConfigFromFile(cmp.Or(d.ResolvConf, "/etc/resolv.conf"))
	if err != nil {
		return nil, err
	}
	if len(config.Servers) == 0 {
		config.Servers = []string{"127.0.0.1"} // resolv.conf(5)
	}
	config.Port = cmp.Or(d.Port, config.Port)
	return &question{config, cmp.Or(d.Hosts, "/etc/hosts")}, nil
}

// addresses looks a name up, with the search domains if need be.
func (q *question) addresses(ctx context.Context, name string, known memory) (found, error) {
	if list := inHosts(q.hosts, name); len(list) > 0 {
		return found{list, hostsTTL}, nil
	}
	for _, candidate := range q.config.NameList(name) {
		f, err := q.both(ctx, candidate, known)
		if err != nil || len(f.list) > 0 {
			return f, err
		}
	}
	return found{}, fmt.Errorf("%s: %w", name, errNone)
}

// both asks for the addresses of IPv4 and of IPv6 at once. An error says that no server answered.
func (q *question) both(ctx context.Context, name string, known memory) (found, error) {
	kinds := [...]uint16{dns.TypeA, dns.TypeAAAA}
	replies, errs := [len(kinds)]reply{}, [len(kinds)]error{}
	done := make(chan struct{})
	go func() { defer close(done); replies[1], errs[1] = q.ask(ctx, name, kinds[1]) }()
	replies[0], errs[0] = q.ask(ctx, name, kinds[0])
	<-done
	f := found{ttl: longestTTL}
	for i, kind := range kinds {
		key := dns.Question{Name: name, Qtype: kind, Qclass: dns.ClassINET}
		if errs[i] == nil {
			known[key] = replies[i].addresses()
			f.ttl = min(f.ttl, replies[i].ttl)
		} else {
			f.ttl = min(f.ttl, staleTTL)
		}
		f.list = append(f.list, known[key]...)
	}
	f.list = usable(f.list)
	if err := errors.Join(errs[:]...); err != nil && (len(f.list) == 0 || errs[0] != nil && errs[1] != nil) {
		return found{}, err
	}
	return f, nil
}

func (q *question) services(ctx context.Context, name string) ([]*dns.SRV, time.Duration, error) {
	for _, candidate := range q.config.NameList(name) {
		r, err := q.ask(ctx, candidate, dns.TypeSRV)
		if err != nil {
			return nil, 0, err
		}
		var list []*dns.SRV
		for _, record := range r.records {
			if srv, ok := record.(*dns.SRV); ok {
				list = append(list, srv)
			}
		}
		if len(list) > 0 {
			return list, r.ttl, nil
		}
	}
	return nil, 0, fmt.Errorf("%s: it has no SRV records: %w", name, errNone)
}

// usable leaves out addresses at which nobody can listen, those of IPv6 where this machine has no way to them, and doubles.
func usable(list []netip.Addr) []netip.Addr {
	var good, far []netip.Addr
	for _, address := range list {
		switch address = address.Unmap(); {
		case address.IsUnspecified() || address.IsMulticast() || slices.Contains(good, address):
		case address.Is6() && !hasWayTo(address):
			far = append(far, address)
		default:
			good = append(good, address)
		}
	}
	if len(good) == 0 {
		return far
	}
	return good
}

// hasWayTo asks the kernel; nothing is sent.
func hasWayTo(address netip.Addr) bool {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 9)))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// reply is what a server said.
type reply struct {
	records []dns.RR
	ttl     time.Duration
}

func (r reply) addresses() (list []netip.Addr) {
	for _, record := range r.records {
		var ip net.IP
		switch record := record.(type) {
		case *dns.A:
			ip = record.A
		case *dns.AAAA:
			ip = record.AAAA
		}
		if address, ok := netip.AddrFromSlice(ip); ok {
			list = append(list, address)
		}
	}
	return list
}

// ask asks one server after the other. That a name does not exist is an answer: one without records.
func (q *question) ask(ctx context.Context, name string, kind uint16) (reply, error) {
	message := new(dns.Msg).SetQuestion(name, kind)
	var last error
	for range q.config.Attempts {
		for _, server := range q.config.Servers {
			r, err := q.exchange(ctx, message, net.JoinHostPort(server, q.config.Port))
			if err == nil {
				return replyOf(r), nil
			}
			last = fmt.Errorf("%s %s: %w", name, dns.TypeToString[kind], err)
			if ctx.Err() != nil {
				return reply{}, last
			}
		}
	}
	return reply{}, last
}

// exchange asks by TCP where an answer is too long for UDP.
func (q *question) exchange(ctx context.Context, message *dns.Msg, server string) (r *dns.Msg, err error) {
	for _, network := range []string{"udp", "tcp"} {
		if r, err = q.exchangeBy(ctx, network, message, server); err != nil {
			return nil, err
		}
		if !r.Truncated {
			break
		}
	}
	switch {
	case len(r.Question) != 1 || !strings.EqualFold(r.Question[0].Name, message.Question[0].Name) || r.Question[0].Qtype != message.Question[0].Qtype:
		return nil, fmt.Errorf("%s answers another question", server)
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError:
		return nil, fmt.Errorf("%s answers %s", server, dns.RcodeToString[r.Rcode])
	}
	return r, nil
}

func (q *question) exchangeBy(ctx context.Context, network string, message *dns.Msg, server string) (*dns.Msg, error) {
	client := dns.Client{Net: network, Timeout: time.Duration(min(q.config.Timeout, 5)) * time.Second}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the client looks at the context's deadline alone
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	r, _, err := client.ExchangeWithConnContext(ctx, message, conn)
	return r, err
}

func replyOf(r *dns.Msg) reply {
	ttl := longestTTL
	for _, record := range r.Answer { // aliases included
		ttl = min(ttl, time.Duration(record.Header().Ttl)*time.Second)
	}
	return reply{r.Answer, max(ttl, shortestTTL)}
}
