// Package dotest is an API of DigitalOcean for tests: droplets and their actions, with the pages, the states, the errors and the
// rate limit of the real one (https://docs.digitalocean.com/reference/api). It keeps an account in memory.
package dotest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Token is what requests must bear.
const Token = "dop_v1_0123456789abcdef"

const (
	limit       = 5000 // requests in an hour
	perPage     = 20
	mostPerPage = 200
	firstID     = 3164444
)

// API is a server with an account. Use New, and Close it.
type API struct {
	*httptest.Server

	mu        sync.Mutex
	droplets  []*Droplet
	actions   map[int]*action
	remaining int
	reset     time.Time
	broken    int // status of every answer; 0 if it works
	requests  int
	looks     int // at a new droplet, until it is active
	fails     bool
}

// Droplet is a machine as the API shows it.
type Droplet struct {
	ID       int            `json:"id"`
	Name     string         `json:"name"`
	Memory   int            `json:"memory"`
	Vcpus    int            `json:"vcpus"`
	Disk     int            `json:"disk"`
	Locked   bool           `json:"locked"`
	Status   string         `json:"status"`
	Created  string         `json:"created_at"`
	Features []string       `json:"features"`
	Region   map[string]any `json:"region"`
	Image    map[string]any `json:"image"`
	SizeSlug string         `json:"size_slug"`
	Networks Networks       `json:"networks"`
	Tags     []string       `json:"tags"`

	looks  int
	action *action
	asked  map[string]any
}

// Networks are the addresses of a droplet.
type Networks struct {
	V4 []Network `json:"v4"`
	V6 []Network `json:"v6"`
}

// Network is one of them.
type Network struct {
	Address string `json:"ip_address"`
	Netmask any    `json:"netmask"`
	Gateway string `json:"gateway"`
	Type    string `json:"type"` // public or private
}

type action struct {
	ID           int     `json:"id"`
	Status       string  `json:"status"`
	Type         string  `json:"type"`
	StartedAt    string  `json:"started_at"`
	CompletedAt  *string `json:"completed_at"`
	ResourceID   int     `json:"resource_id"`
	ResourceType string  `json:"resource_type"`
	RegionSlug   string  `json:"region_slug"`
}

// New starts an API with an empty account, whose new droplets are active after they were looked at twice.
func New() *API {
	a := &API{actions: map[int]*action{}, remaining: limit, reset: time.Now().Add(time.Hour), looks: 2}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/droplets", a.list)
	mux.HandleFunc("POST /v2/droplets", a.create)
	mux.HandleFunc("GET /v2/droplets/{id}", a.get)
	mux.HandleFunc("DELETE /v2/droplets/{id}", a.destroy)
	mux.HandleFunc("GET /v2/droplets/{id}/actions", a.listActions)
	mux.HandleFunc("GET /v2/actions/{id}", a.getAction)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { notFound(w) })
	a.Server = httptest.NewServer(a.guard(mux))
	return a
}

// Add puts an active droplet into the account. Addresses in 10.0.0.0/8 are private ones.
func (a *API) Add(name string, tags []string, addresses ...string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.newDroplet(name, "fra1", "s-1vcpu-1gb", "debian-13-x64", tags)
	d.activate(addresses...)
	return d.ID
}

// SetStatus makes a droplet active, off, new or archive.
func (a *API) SetStatus(id int, status string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := a.find(id); d != nil {
		d.Status = status
	}
}

// Remove takes a droplet away.
func (a *API) Remove(id int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.droplets = slices.DeleteFunc(a.droplets, func(d *Droplet) bool { return d.ID == id })
}

// LimitUntil makes every request one too many until a time.
func (a *API) LimitUntil(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remaining, a.reset = 0, t
}

// Break makes every answer one of a status such as 500; 0 mends it.
func (a *API) Break(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = status
}

// FailCreations makes new droplets vanish when they were looked at, with an action that has errored.
func (a *API) FailCreations() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fails = true
}

// Requests counts those that were made.
func (a *API) Requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// Asked returns the body of the request that made a droplet.
func (a *API) Asked(name string) map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.droplets {
		if d.Name == name {
			return d.asked
		}
	}
	return nil
}

// guard looks at the token and the rate limit, and lets one request in at a time.
func (a *API) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.requests++
		if time.Now().After(a.reset) {
			a.remaining, a.reset = limit, time.Now().Add(time.Hour)
		}
		w.Header().Set("ratelimit-limit", strconv.Itoa(limit))
		w.Header().Set("ratelimit-remaining", strconv.Itoa(max(0, a.remaining-1)))
		w.Header().Set("ratelimit-reset", strconv.FormatInt(a.reset.Unix(), 10))
		switch {
		case a.broken != 0:
			fail(w, a.broken, "server_error", "Unexpected server-side error")
		case r.Header.Get("Authorization") != "Bearer "+Token:
			fail(w, http.StatusUnauthorized, "Unauthorized", "Unable to authenticate you")
		case a.remaining <= 0:
			fail(w, http.StatusTooManyRequests, "too_many_requests", "API Rate limit exceeded.")
		default:
			a.remaining--
			next.ServeHTTP(w, r)
		}
	})
}

func fail(w http.ResponseWriter, status int, id, message string) {
	answer(w, status, map[string]string{"id": id, "message": message, "request_id": "4d9d8375-3c56-4925-a3e7-eb137fed17e9"})
}

func notFound(w http.ResponseWriter) {
	fail(w, http.StatusNotFound, "not_found", "The resource you requested could not be found.")
}

func unprocessable(w http.ResponseWriter, message string) {
	fail(w, http.StatusUnprocessableEntity, "unprocessable_entity", message)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // who has left needs no answer
}

func (a *API) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	chosen := []*Droplet{}
	for _, d := range a.droplets {
		tag, name := query.Get("tag_name"), query.Get("name")
		if (tag == "" || slices.Contains(d.Tags, tag)) && (name == "" || strings.EqualFold(d.Name, name)) {
			d.look(a)
			chosen = append(chosen, d)
		}
	}
	size := min(number(query.Get("per_page"), perPage), mostPerPage)
	page := number(query.Get("page"), 1)
	last := max(1, (len(chosen)+size-1)/size)
	from := min((page-1)*size, len(chosen))
	answer(w, http.StatusOK, map[string]any{
		"droplets": chosen[from:min(from+size, len(chosen))], "links": a.links(r.URL, page, last), "meta": map[string]int{"total": len(chosen)},
	})
}

func number(text string, otherwise int) int {
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// links names the other pages, those that make sense.
func (a *API) links(at *url.URL, page, last int) map[string]any {
	to := func(n int) string {
		query := at.Query()
		query.Set("page", strconv.Itoa(n))
		return a.URL + at.Path + "?" + query.Encode()
	}
	pages := map[string]string{}
	if page > 1 {
		pages["first"], pages["prev"] = to(1), to(page-1)
	}
	if page < last {
		pages["next"], pages["last"] = to(page+1), to(last)
	}
	if len(pages) == 0 {
		return map[string]any{}
	}
	return map[string]any{"pages": pages}
}

func (a *API) find(id int) *Droplet {
	i := slices.IndexFunc(a.droplets, func(d *Droplet) bool { return d.ID == id })
	if i < 0 {
		return nil
	}
	return a.droplets[i]
}

func (a *API) get(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	d := a.find(id)
	if d == nil {
		notFound(w)
		return
	}
	d.look(a)
	answer(w, http.StatusOK, map[string]any{"droplet": d})
}

func (a *API) destroy(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	if a.find(id) == nil {
		notFound(w)
		return
	}
	a.droplets = slices.DeleteFunc(a.droplets, func(d *Droplet) bool { return d.ID == id })
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) getAction(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	if a.actions[id] == nil {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, map[string]any{"action": a.actions[id]})
}

func (a *API) listActions(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(r.PathValue("id"))
	d := a.find(id)
	if d == nil {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, map[string]any{"actions": []*action{d.action}, "links": map[string]any{}, "meta": map[string]int{"total": 1}})
}

func (a *API) newDroplet(name, region, size, image string, tags []string) *Droplet {
	d := &Droplet{
		ID: firstID, Name: name, Memory: 1024, Vcpus: 1, Disk: 25, Locked: true, Status: "new", Created: time.Now().UTC().Format(time.RFC3339),
		Features: []string{}, Region: map[string]any{"slug": region, "name": region, "available": true}, SizeSlug: size,
		Image: map[string]any{"slug": image, "name": image}, Networks: Networks{V4: []Network{}, V6: []Network{}}, Tags: append([]string{}, tags...),
	}
	for id := range a.actions {
		d.ID = max(d.ID, id/10+1)
	}
	d.action = &action{ID: d.ID * 10, Status: "in-progress", Type: "create", StartedAt: d.Created, ResourceID: d.ID, ResourceType: "droplet", RegionSlug: region}
	a.actions[d.action.ID] = d.action
	a.droplets = append(a.droplets, d)
	return d
}

// look lets time go by for a droplet that is being made.
func (d *Droplet) look(a *API) {
	if d.Status != "new" || !d.Locked {
		return
	}
	if d.looks++; d.looks < a.looks {
		return
	}
	if a.fails {
		d.action.Status = "errored"
		return
	}
	d.activate(fmt.Sprintf("10.135.0.%d", d.ID%250+1), fmt.Sprintf("203.0.113.%d", d.ID%250+1))
}

func (d *Droplet) activate(addresses ...string) {
	for _, address := range addresses {
		kind := "public"
		if strings.HasPrefix(address, "10.") {
			kind = "private"
		}
		d.Networks.V4 = append(d.Networks.V4, Network{address, "255.255.0.0", "", kind})
	}
	now := time.Now().UTC().Format(time.RFC3339)
	d.Status, d.Locked = "active", false
	d.action.Status, d.action.CompletedAt = "completed", &now
}

// creation is the body of a request for droplets.
type creation struct {
	Name   string   `json:"name"`
	Names  []string `json:"names"`
	Region string   `json:"region"`
	Size   string   `json:"size"`
	Image  any      `json:"image"`
	Tags   []string `json:"tags"`
}

func (c *creation) problem() string {
	isName := regexp.MustCompile(`^[a-zA-Z0-9.-]+$`).MatchString
	switch {
	case len(c.Names) == 0:
		return "Name is required"
	case len(c.Names) > 10:
		return "Droplet creation is limited to 10 per request"
	case slices.ContainsFunc(c.Names, func(name string) bool { return !isName(name) }):
		return "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"
	case !slices.Contains([]string{"fra1", "nyc3", "ams3"}, c.Region):
		return "You specified an invalid region for Droplet creation."
	case !strings.HasPrefix(c.Size, "s-"):
		return "You specified an invalid size for Droplet creation."
	case c.Image == nil || c.Image == "" || c.Image == 0.0:
		return "You specified an invalid image for Droplet creation."
	}
	return ""
}

func (a *API) create(w http.ResponseWriter, r *http.Request) {
	var asked map[string]any
	var c creation
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		fail(w, http.StatusBadRequest, "bad_request", "error parsing request body")
		return
	}
	text, _ := json.Marshal(asked)
	if err := json.Unmarshal(text, &c); err != nil {
		fail(w, http.StatusBadRequest, "bad_request", "error parsing request body")
		return
	}
	single := c.Name != ""
	if single {
		c.Names = []string{c.Name}
	}
	if problem := c.problem(); problem != "" {
		unprocessable(w, problem)
		return
	}
	var made []*Droplet
	links := []map[string]any{}
	for _, name := range c.Names {
		d := a.newDroplet(name, c.Region, c.Size, cmp.Or(fmt.Sprint(c.Image)), c.Tags)
		d.asked = asked
		made = append(made, d)
		links = append(links, map[string]any{"id": d.action.ID, "rel": "create", "href": fmt.Sprintf("%s/v2/actions/%d", a.URL, d.action.ID)})
	}
	body := map[string]any{"droplets": made, "links": map[string]any{"actions": links}}
	if single {
		body = map[string]any{"droplet": made[0], "links": map[string]any{"actions": links}}
	}
	answer(w, http.StatusAccepted, body)
}
