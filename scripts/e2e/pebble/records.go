package pebble

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// records are the TXT records of the name server. They are managed by HTTP in the manner of pebble-challtestsrv, with JSON
// objects that have a host and a value: POST /set-txt adds one, POST /clear-txt removes that one.
type records struct {
	mu      sync.Mutex
	texts   map[string][]string // by name, with a dot at the end
	set     int
	server  *http.Server
	address string
	served  chan struct{}
}

func (r *records) serve(on string) error {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", on)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /set-txt", r.change(func(list []string, value string) []string {
		r.set++
		return append(list, value)
	}))
	mux.HandleFunc("POST /clear-txt", r.change(func(list []string, value string) []string {
		return slices.DeleteFunc(list, func(text string) bool { return text == value })
	}))
	r.server, r.address, r.served = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}, listener.Addr().String(), make(chan struct{})
	go func() {
		defer close(r.served)
		_ = r.server.Serve(listener) // ends with close
	}()
	return nil
}

func (r *records) change(do func(list []string, value string) []string) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		var record struct{ Host, Value string }
		if err := json.NewDecoder(request.Body).Decode(&record); err != nil || !strings.HasSuffix(record.Host, ".") || record.Value == "" {
			http.Error(w, "send a host that ends with a dot, and a value", http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.texts == nil {
			r.texts = map[string][]string{}
		}
		host := strings.ToLower(record.Host)
		r.texts[host] = do(r.texts[host], record.Value)
	}
}

func (r *records) close() error {
	if r.server == nil {
		return nil
	}
	err := r.server.Close()
	<-r.served
	return err
}

// count returns how many records were set, and how many are left.
func (r *records) count() (set, left int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, texts := range r.texts {
		left += len(texts)
	}
	return r.set, left
}

// of returns the texts of a name.
func (r *records) of(name string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.texts[strings.ToLower(name)])
}

// answers are the records that there are for a question. Each name of two labels is a zone, with one name server.
func (s *Server) answers(q dns.Question, name string) (list []dns.RR) {
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	zone := strings.Count(name, ".") == 1
	switch {
	case q.Qtype == dns.TypeA:
		list = append(list, &dns.A{Hdr: header, A: s.answer})
	case q.Qtype == dns.TypeSOA && zone:
		list = append(list, &dns.SOA{Hdr: header, Ns: "ns." + q.Name, Mbox: "ops." + q.Name})
	case q.Qtype == dns.TypeNS && zone:
		list = append(list, &dns.NS{Hdr: header, Ns: "ns." + q.Name})
	case q.Qtype == dns.TypeTXT:
		for _, text := range s.texts.of(q.Name) {
			list = append(list, &dns.TXT{Hdr: header, Txt: []string{text}})
		}
	}
	return list
}

// Names is the address of the DNS server.
func (s *Server) Names() (string, error) {
	if len(s.names) == 0 {
		return "", errors.New("there is no DNS server")
	}
	return s.names[0].Listener.Addr().String(), nil
}

// Manage is the address where TXT records are set and cleared.
func (s *Server) Manage() string { return s.texts.address }

// Texts counts the TXT records that were set, and those that are left.
func (s *Server) Texts() (set, left int) { return s.texts.count() }
