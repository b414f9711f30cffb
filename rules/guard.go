package rules

import (
	"cmp"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// GuardRow is a row of the table guards: who may come to a host and a path, how often, and with which password.
type GuardRow struct {
	ID    int64  `json:"id"`
	Host  string `json:"host"`  // shop.example.com, *.example.com or *
	Path  string `json:"path"`  // it and what is below it on a segment border
	Allow string `json:"allow"` // addresses and ranges, separated by commas or spaces; empty: all
	Deny  string `json:"deny"`  // as Allow, and goes before it; empty: none
	// Rate is how many requests a second one client may make, 0 for any number, and Burst how many of them at once; 0 means
	// as many as Rate, and at least 1. A client is an address, of IPv6 its /64 network.
	Rate      float64 `json:"rate"`
	Burst     int64   `json:"burst"`
	Users     string  `json:"users"` // name:hash by bcrypt, separated by spaces; empty: no password is asked for
	Realm     string  `json:"realm"` // what a browser says that the password is for; empty: the host
	Enabled   bool    `json:"enabled"`
	Needs     int     `json:"needs"`
	Note      string  `json:"note"`
	UpdatedAt string  `json:"updated_at"`
}

// Guard is a row of guards made ready. It is immutable.
type Guard struct {
	ID          int64
	Host, Path  string // as rows have them
	Allow, Deny []netip.Prefix
	Rate        float64           // requests a second; 0 for any number
	Burst       int               // at least 1
	Users       map[string]string // names to hashes by bcrypt; empty: no password is asked for
	Realm       string
	// Closed says that the row makes no sense and never did: what it was to let in is not known, so nobody is.
	Closed bool

	row    GuardRow
	host   string // as places name it
	prefix string // the path in normal form, without a slash at its end
	loose  string // the same as whoever decodes more than we do may read it
}

// ReasonClosed is part of the reason of a Problem whose guard is closed.
const ReasonClosed = "until that is mended nobody is let in (503)"

// Permits reports whether a client may come at all: deny goes before allow, and an allow that is not empty excludes all
// others. An address that is not known is in no list.
func (g *Guard) Permits(client netip.Addr) bool {
	if g.Closed {
		return false
	}
	client = client.Unmap()
	has := func(p netip.Prefix) bool { return p.Contains(client) }
	if slices.ContainsFunc(g.Deny, has) {
		return false
	}
	return len(g.Allow) == 0 || slices.ContainsFunc(g.Allow, has)
}

// Validate returns why the row makes no sense by itself, nil if it does.
func (r *GuardRow) Validate() error {
	_, err := r.guard()
	return err
}

const (
	maxRate      = 1_000_000
	maxGuardText = 20_000
	maxRealm     = 200
)

// guard makes a row ready.
func (r *GuardRow) guard() (*Guard, error) {
	pattern, err := patternKey(r.Host)
	if err = firstError(needsErr(r.Needs), err, validatePath(r.Path), r.validateRate(), validateRealm(r.Realm)); err != nil {
		return nil, err
	}
	path := strings.TrimRight(normalizePath(r.Path), "/")
	g := &Guard{
		ID: r.ID, Host: r.Host, Path: r.Path, Rate: r.Rate, Burst: int(r.Burst), Realm: r.Realm, row: *r,
		host: hostPart(pattern), prefix: path, loose: strings.TrimRight(loosePath(path+"/"), "/"),
	}
	if g.Burst == 0 {
		g.Burst = max(1, int(math.Ceil(r.Rate)))
	}
	if g.Allow, err = parsePrefixes("allow", r.Allow); err != nil {
		return nil, err
	}
	if g.Deny, err = parsePrefixes("deny", r.Deny); err != nil {
		return nil, err
	}
	g.Users, err = parseUsers(r.Users)
	return g, err
}

func (r *GuardRow) validateRate() error {
	if !(r.Rate >= 0 && r.Rate <= maxRate) {
		return errors.New("rate must be a number of requests a second from 0 (no limit) to 1000000")
	}
	if r.Burst < 0 || r.Burst > maxRate {
		return errors.New("burst must be a whole number from 0 (as rate) to 1000000")
	}
	return nil
}

func validateRealm(realm string) error {
	for i := range len(realm) {
		if c := realm[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return errRealm
		}
	}
	if len(realm) > maxRealm {
		return errRealm
	}
	return nil
}

var errRealm = errors.New(`realm must be at most 200 characters of printable ASCII, without " and \`)

// isSeparator reports whether a character stands between the entries of a list.
func isSeparator(r rune) bool { return r == ',' || r == ' ' }

func parsePrefixes(column, text string) (list []netip.Prefix, err error) {
	if len(text) > maxGuardText {
		return nil, errors.New(column + " is longer than 20000 characters")
	}
	for _, word := range strings.FieldsFunc(text, isSeparator) {
		prefix, err := parseClients(word)
		if err != nil {
			return nil, errors.New(column + ": " + strconv.Quote(word) + " is no address and no range such as 10.0.0.0/8 or 2001:db8::/32")
		}
		list = append(list, prefix)
	}
	return list, nil
}

// parseClients reads an address or a range. One of IPv4 within IPv6 is that of IPv4, as clients' addresses are.
func parseClients(word string) (netip.Prefix, error) {
	if !strings.Contains(word, "/") {
		address, err := netip.ParseAddr(word)
		if err == nil && address.Zone() != "" {
			err = errors.New("a zone means nothing here")
		}
		address = address.Unmap()
		return netip.PrefixFrom(address, address.BitLen()), err
	}
	prefix, err := netip.ParsePrefix(word)
	if err == nil && prefix.Addr().Is4In6() {
		if prefix.Bits() < 96 {
			return prefix, errors.New("it is neither of IPv4 nor of IPv6")
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), err
}

var errUsers = errors.New("users must be name:hash pairs separated by spaces, each as 'cutover guards password NAME' prints it")

func parseUsers(text string) (map[string]string, error) {
	if len(text) > maxGuardText {
		return nil, errors.New("users is longer than 20000 characters")
	}
	var users map[string]string
	for word := range strings.SplitSeq(text, " ") {
		if word == "" {
			continue
		}
		name, hash, ok := strings.Cut(word, ":")
		if !ok || name == "" || !isBcrypt(hash) {
			return nil, errUsers
		}
		if users == nil {
			users = map[string]string{}
		}
		if _, twice := users[name]; twice {
			return nil, errors.New("users names " + strconv.Quote(name) + " twice")
		}
		users[name] = hash
	}
	return users, nil
}

// maxBcryptCost bounds what a check of a password costs: this one takes about a second.
const maxBcryptCost = 14

// isBcrypt reports whether text is a hash such as $2a$10$… with 53 characters after it.
func isBcrypt(text string) bool {
	if len(text) != 60 || text[:2] != "$2" || text[3] != '$' || text[6] != '$' || strings.IndexByte("aby", text[2]) < 0 {
		return false
	}
	cost, err := strconv.Atoi(text[4:6])
	if err != nil || cost < 4 || cost > maxBcryptCost {
		return false
	}
	for i := 7; i < len(text); i++ {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '/':
		default:
			return false
		}
	}
	return true
}

// guards is all guards in force; nil is none. It is immutable. There are few, so every change makes it anew.
type guards struct {
	list   []*Guard            // by id
	byHost map[string][]*Guard // by hosts as places name them: the longest path first, then the lowest id
}

func newGuards(list []*Guard) *guards {
	if len(list) == 0 {
		return nil
	}
	slices.SortFunc(list, func(a, b *Guard) int { return cmp.Compare(a.ID, b.ID) })
	g := &guards{list: list, byHost: map[string][]*Guard{}}
	for _, guard := range list {
		g.byHost[guard.host] = append(g.byHost[guard.host], guard)
	}
	for _, of := range g.byHost {
		slices.SortStableFunc(of, func(a, b *Guard) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	}
	return g
}

func (g *guards) count() int {
	if g == nil {
		return 0
	}
	return len(g.list)
}

func (g *guards) rows() []GuardRow {
	if g == nil {
		return nil
	}
	rows := make([]GuardRow, len(g.list))
	for i, guard := range g.list {
		rows[i] = guard.row
	}
	return rows
}

func (g *guards) byID(id int64) *Guard {
	if g == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(g.list, id, func(guard *Guard, id int64) int { return cmp.Compare(guard.ID, id) })
	if !ok {
		return nil
	}
	return g.list[i]
}

// differences notes the guards of which g and other say different things.
func (g *guards) differences(other *guards, note func(key string)) {
	for _, row := range g.rows() {
		if same := other.byID(row.ID); same == nil || !same.row.sameMeaning(row) {
			note("guard " + strconv.FormatInt(row.ID, 10))
		}
	}
	for _, row := range other.rows() {
		if g.byID(row.ID) == nil {
			note("guard " + strconv.FormatInt(row.ID, 10))
		}
	}
}

func (r GuardRow) sameMeaning(other GuardRow) bool {
	r.Note, r.UpdatedAt = other.Note, other.UpdatedAt
	return r == other
}

// closed makes of a row that makes no sense a guard that lets nobody in. Where its path cannot be told either, that is so for all
// of its host; it returns nil where not even that can be told.
func (r *GuardRow) closed() *Guard {
	pattern, err := patternKey(r.Host)
	if err != nil {
		return nil
	}
	g := &Guard{ID: r.ID, Host: r.Host, Path: r.Path, Closed: true, row: *r, host: hostPart(pattern)}
	if validatePath(r.Path) == nil {
		g.prefix, g.loose = strings.TrimRight(normalizePath(r.Path), "/"), strings.TrimRight(loosePath(normalizePath(r.Path)), "/")
	}
	return g
}

// orClosed is guard for rows of which it was said already what is wrong.
func (r *GuardRow) orClosed() *Guard {
	guard, err := r.guard()
	if err != nil {
		return r.closed()
	}
	return guard
}

// guards makes all rows of guards ready. A bad one is served by its last good version; without one it lets nobody in. One that is
// as it was keeps its pointer.
func (c *compiler) guards(rows []GuardRow) *guards {
	for key := range c.problems {
		if key.table == "guards" {
			delete(c.problems, key)
		}
	}
	var last *guards
	if c.previous != nil {
		last = c.previous.guards
	}
	var list []*Guard
	for i := range rows {
		if guard := c.guard(&rows[i], last.byID(rows[i].ID)); guard != nil {
			list = append(list, guard)
		}
	}
	return newGuards(list)
}

// guard makes a row ready; last is the row's guard before, or nil. It returns nil where none is in force.
func (c *compiler) guard(row *GuardRow, last *Guard) *Guard {
	if last != nil && last.Closed {
		last = nil // there is no good version
	}
	if last != nil && row.Enabled && last.row.sameMeaning(*row) {
		return last
	}
	guard, err := row.guard()
	if err != nil {
		guard = c.badGuard(row, last, err)
	}
	if !row.Enabled {
		return nil
	}
	return guard
}

// badGuard says what is wrong with a row, and returns what holds in its place.
func (c *compiler) badGuard(row *GuardRow, last *Guard, cause error) *Guard {
	reason, guard := cause.Error(), last
	if guard == nil && row.Enabled {
		if guard = row.closed(); guard != nil {
			reason += "; " + ReasonClosed
		}
	}
	c.report("guards", strconv.FormatInt(row.ID, 10), row.Host, reason, last != nil && row.Enabled)
	return guard
}

// thawGuards makes the guards of a snapshot ready.
func thawGuards(rows []GuardRow) *guards {
	var list []*Guard
	for i := range rows {
		if guard := rows[i].orClosed(); guard != nil && rows[i].Enabled {
			list = append(list, guard)
		}
	}
	return newGuards(list)
}

// Guard returns the guard of a request: of its host before that of *.parent before that of *, and of those the one with the
// longest path. host is in normal form, path the escaped path as the client sent it. It returns nil if there is none, which
// costs next to nothing.
func (v *View) Guard(host, path string) *Guard {
	if v == nil || v.guards == nil {
		return nil
	}
	return v.guards.find(host, normalizePath(path), func(g *Guard) string { return g.prefix })
}

// Guarded reports whether a guard may hold for some path of a host.
func (v *View) Guarded(host string) bool {
	if v == nil || v.guards == nil {
		return false
	}
	of := v.guards.byHost
	dot := strings.IndexByte(host, '.')
	return len(of[host]) > 0 || len(of["*"]) > 0 || dot >= 0 && len(of[host[dot:]]) > 0
}

// GuardIsDoubtful reports whether another guard, or none, would hold for a request if its path were read by a server that
// decodes more than RFC 3986 says are the same: %2F as a border, a backslash as a slash, several slashes as one, and ;x as no
// part of a segment. Who is to keep something from strangers must then assume the worst.
func (v *View) GuardIsDoubtful(host, path string) bool {
	if v == nil || v.guards == nil {
		return false
	}
	plain := normalizePath(path)
	loose := loosePath(plain)
	if v.guards.tellPathsApart(host) && hidesDots(plain) {
		return true
	}
	if loose == plain {
		return false
	}
	return v.guards.find(host, plain, func(g *Guard) string { return g.prefix }) != v.guards.find(host, loose, func(g *Guard) string { return g.loose })
}

// tellPathsApart reports whether a guard that may hold for a host does not hold for all of it.
func (g *guards) tellPathsApart(host string) bool {
	partial := func(guard *Guard) bool { return guard.prefix != "" }
	dot := strings.IndexByte(host, '.')
	return slices.ContainsFunc(g.byHost[host], partial) || slices.ContainsFunc(g.byHost["*"], partial) ||
		dot >= 0 && slices.ContainsFunc(g.byHost[host[dot:]], partial)
}

// find returns the most specific guard for a path; prefixOf says which form of a guard's path it is compared with.
func (g *guards) find(host, path string, prefixOf func(*Guard) string) *Guard {
	if found := covering(g.byHost[host], path, prefixOf); found != nil {
		return found
	}
	if dot := strings.IndexByte(host, '.'); dot >= 0 {
		if found := covering(g.byHost[host[dot:]], path, prefixOf); found != nil {
			return found
		}
	}
	return covering(g.byHost["*"], path, prefixOf)
}

func covering(list []*Guard, path string, prefixOf func(*Guard) string) *Guard {
	for _, g := range list {
		prefix := prefixOf(g)
		if rest, ok := strings.CutPrefix(path, prefix); ok && (rest == "" || rest[0] == '/') {
			return g
		}
	}
	return nil
}
