package tlsbridge

import (
	"hash/maphash"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Reasons for which a Limiter closes a connection at once.
const (
	TooManyConnections       = "connections"         // in all
	TooManyFromNetwork       = "network_connections" // from one client network
	TooManyHandshakes        = "handshakes"          // under way, in all
	TooManyNetworkHandshakes = "network_handshakes"  // under way, from one client network
)

// LimiterOptions bounds what clients may hold at one time; 0 means no bound. A client network is an IPv4 address or an
// IPv6 /64.
type LimiterOptions struct {
	Connections        int // in all
	NetworkConnections int // from one network
	Handshakes         int // under way, in all
	NetworkHandshakes  int // under way, from one network
	// Exempt reports whether an address is bound by the numbers in all alone, as trusted proxies are, which speak for many;
	// nil means none is.
	Exempt func(netip.Addr) bool
	// MakeRoom closes connections that rest, where all there may be are open, and reports whether it has closed any; nil
	// closes none.
	MakeRoom func() bool
	// OnRefused is told why a connection was closed, and whose; may be nil.
	OnRefused func(reason string, client net.Addr)
}

// Limiter counts connections and handshakes in all and by client network. What it remembers is what is open: a network
// without a connection takes no memory. Use NewLimiter.
type Limiter struct {
	options     LimiterOptions
	connections atomic.Int64
	handshakes  atomic.Int64
	room        sync.Mutex // held by the one who makes room
	crowded     time.Time  // until then no room can be made; guarded by room
	seed        maphash.Seed
	shards      [shardCount]shard
}

// NewLimiter returns a limiter that has counted nothing yet.
func NewLimiter(o LimiterOptions) *Limiter {
	return &Limiter{options: o, seed: maphash.MakeSeed()}
}

// Connections returns handle behind the limits on connections.
func (l *Limiter) Connections(handle func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) { l.handle(c, false, handle) }
}

// Handshakes returns handle behind the limits on connections and on handshakes. A connection counts as a handshake until
// its HandshakeDone is called, as a Handshaker does, or it is closed.
func (l *Limiter) Handshakes(handle func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) { l.handle(c, true, handle) }
}

// Open counts the connections that are open.
func (l *Limiter) Open() int { return int(l.connections.Load()) }

// Networks counts the client networks that have connections.
func (l *Limiter) Networks() (sum int) {
	for i := range l.shards {
		sum += l.shards[i].len()
	}
	return sum
}

// handle hands a connection on, or closes it. What is no TCP connection has no client network, and no stranger opens it. One
// that a load balancer has brought is its client's.
func (l *Limiter) handle(c net.Conn, handshake bool, handle func(net.Conn)) {
	connection, ok := socketOf(c).(*net.TCPConn)
	if !ok {
		handle(c)
		return
	}
	counted := &limited{TCPConn: connection, client: c.RemoteAddr(), limiter: l, network: l.countedFor(addressOf(c.RemoteAddr()))}
	counted.handshaking.Store(handshake)
	if reason := l.admit(counted.network, handshake); reason != "" {
		l.refuse(counted, reason)
		return
	}
	handle(counted)
}

// countedFor returns the network that an address is counted for; invalid for none.
func (l *Limiter) countedFor(address netip.Addr) netip.Addr {
	if l.options.Exempt != nil && l.options.Exempt(address) {
		return netip.Addr{}
	}
	return networkOf(address)
}

// networkOf returns what stands for a client: the IPv4 address, or the first one of the IPv6 /64, which one subscriber has.
func networkOf(address netip.Addr) netip.Addr {
	if address.Is6() {
		prefix, _ := address.Prefix(64) // no IPv6 address is too short for it
		return prefix.Addr()
	}
	return address
}

// admit counts a connection, or says why it cannot be let in; then it has counted nothing.
func (l *Limiter) admit(network netip.Addr, handshake bool) (reason string) {
	if handshake && exceeds(l.handshakes.Load()+1, l.options.Handshakes) {
		return TooManyHandshakes
	}
	if network.IsValid() {
		if reason := l.shardOf(network).add(network, handshake, &l.options); reason != "" {
			return reason
		}
	}
	if exceeds(l.connections.Add(1), l.options.Connections) && !l.makeRoom() {
		l.connections.Add(-1)
		l.forget(network, handshake)
		return TooManyConnections
	}
	if handshake {
		l.handshakes.Add(1)
	}
	return ""
}

func exceeds(n int64, limit int) bool { return limit > 0 && n > int64(limit) }

// roomAgain is how long nobody looks for room after there was none, since to look costs something.
const roomAgain = 50 * time.Millisecond

func (l *Limiter) makeRoom() bool {
	l.room.Lock()
	defer l.room.Unlock()
	if !exceeds(l.connections.Load(), l.options.Connections) {
		return true // somebody has made it meanwhile
	}
	if l.options.MakeRoom == nil || time.Now().Before(l.crowded) {
		return false
	}
	if l.options.MakeRoom() {
		return true
	}
	l.crowded = time.Now().Add(roomAgain)
	return false
}

// forget takes back what a network was counted for.
func (l *Limiter) forget(network netip.Addr, handshake bool) {
	if !network.IsValid() {
		return
	}
	gone := usage{connections: 1}
	if handshake {
		gone.handshakes = 1
	}
	l.shardOf(network).remove(network, gone)
}

// refuse closes a connection at once: with a reset, so that neither side keeps anything of it.
func (l *Limiter) refuse(c *limited, reason string) {
	_ = c.SetLinger(0) // what cannot be closed is closed already
	_ = c.TCPConn.Close()
	if l.options.OnRefused != nil {
		l.options.OnRefused(reason, c.client)
	}
}

// limited is a connection that is counted.
type limited struct {
	*net.TCPConn
	client      net.Addr
	limiter     *Limiter
	network     netip.Addr // invalid: counted in all alone
	handshaking atomic.Bool
	closed      atomic.Bool
	succeeded   bool // the handshake has; guarded by the network's shard
}

// RemoteAddr is the client's, behind a load balancer too.
func (c *limited) RemoteAddr() net.Addr { return c.client }

// HandshakeDone says that the connection's handshake is over, and whether it has succeeded.
func (c *limited) HandshakeDone(succeeded bool) {
	if c.handshaking.Swap(false) {
		c.limiter.handshakes.Add(-1)
		if c.network.IsValid() {
			c.limiter.shardOf(c.network).remove(c.network, usage{handshakes: 1})
		}
	}
	if succeeded && c.network.IsValid() {
		c.limiter.shardOf(c.network).succeeded(c)
	}
}

// Close closes the connection and makes room for another.
func (c *limited) Close() error {
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) {
		c.HandshakeDone(false)
		c.limiter.connections.Add(-1)
		if c.network.IsValid() {
			c.limiter.shardOf(c.network).closed(c)
		}
	}
	return err
}

// handshakeDone is for a connection that may be counted.
func handshakeDone(c net.Conn, succeeded bool) {
	if counted, ok := c.(interface{ HandshakeDone(succeeded bool) }); ok {
		counted.HandshakeDone(succeeded)
	}
}

// familiar reports whether a network has a connection whose handshake has succeeded. One without TLS, or that is passed on, costs
// a stranger nothing.
func (l *Limiter) familiar(network netip.Addr) bool {
	if !network.IsValid() {
		return false
	}
	s := l.shardOf(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.networks[network].succeeded > 0
}

// shardCount is how many locks the networks share.
const shardCount = 64

// shard has some of the networks.
type shard struct {
	mu       sync.Mutex
	networks map[netip.Addr]usage
	most     int // networks it had since the map was made
}

// usage is what a network holds.
type usage struct {
	connections, handshakes int32
	succeeded               int32 // of the connections, those whose handshake has
}

func (l *Limiter) shardOf(network netip.Addr) *shard {
	return &l.shards[maphash.Comparable(l.seed, network)%shardCount]
}

func (s *shard) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.networks)
}

func (s *shard) add(network netip.Addr, handshake bool, o *LimiterOptions) (reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.networks[network]
	u.connections++
	if handshake {
		u.handshakes++
	}
	switch {
	case exceeds(int64(u.connections), o.NetworkConnections):
		return TooManyFromNetwork
	case exceeds(int64(u.handshakes), o.NetworkHandshakes):
		return TooManyNetworkHandshakes
	}
	if s.networks == nil {
		s.networks = map[netip.Addr]usage{}
	}
	s.networks[network] = u
	s.most = max(s.most, len(s.networks))
	return ""
}

// succeeded counts a connection whose handshake has succeeded, until it is closed.
func (s *shard) succeeded(c *limited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.succeeded || c.closed.Load() {
		return
	}
	c.succeeded = true
	u := s.networks[c.network]
	u.succeeded++
	s.networks[c.network] = u
}

// closed takes back what a connection was counted for.
func (s *shard) closed(c *limited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := usage{connections: 1}
	if c.succeeded {
		gone.succeeded = 1
	}
	s.take(c.network, gone)
}

func (s *shard) remove(network netip.Addr, gone usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(network, gone)
}

func (s *shard) take(network netip.Addr, gone usage) {
	u := s.networks[network]
	u.connections -= gone.connections
	u.handshakes -= gone.handshakes
	u.succeeded -= gone.succeeded
	if u != (usage{}) {
		s.networks[network] = u
		return
	}
	delete(s.networks, network)
	s.shrink()
}

// shrink gives memory back after a flood: a map keeps the room for the most that it ever had.
func (s *shard) shrink() {
	const few = 64
	if s.most <= few || len(s.networks) > s.most/4 {
		return
	}
	smaller := make(map[netip.Addr]usage, len(s.networks))
	for network, u := range s.networks {
		smaller[network] = u
	}
	s.networks, s.most = smaller, len(smaller)
}
