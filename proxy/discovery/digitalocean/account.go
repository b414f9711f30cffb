// Package digitalocean lists, makes and destroys the droplets of an account, and finds targets among them by their tags.
package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/digitalocean/godo"
)

// API is where DigitalOcean answers.
const API = "https://api.digitalocean.com"

const (
	requestTime = 20 * time.Second // of one request
	pageSize    = 200              // the most that the API gives at once
	mostPages   = 100
)

// Droplet is a machine of the account.
type Droplet struct {
	ID          int       `json:"id"`
	Name        string    `json:"name"`
	Status      string    `json:"status"` // new, active, off or archive
	Region      string    `json:"region"`
	Size        string    `json:"size"`
	Image       string    `json:"image"`
	Tags        []string  `json:"tags"`
	PrivateIPv4 string    `json:"private_ipv4,omitempty"`
	PublicIPv4  string    `json:"public_ipv4,omitempty"`
	PublicIPv6  string    `json:"public_ipv6,omitempty"`
	Created     time.Time `json:"created_at,omitzero"`
}

// Wish is what droplets are made of.
type Wish struct {
	Names    []string
	Region   string
	Size     string
	Image    string // slug or id
	Tags     []string
	SSHKeys  []string // ids or fingerprints
	UserData string
}

// Account speaks with the API. Any number of goroutines may use it at once. Use Open, and Close it.
type Account struct {
	client    *godo.Client
	transport *http.Transport
}

// Open returns the account of a token, which stands in a file that others may not read. The file is read for each request, so
// that a token can be replaced at any time.
func Open(api, tokenFile string) (*Account, error) {
	base, err := url.Parse(api)
	if err != nil || base.Host == "" || base.Scheme != "https" && !isLoopback(base) {
		return nil, fmt.Errorf("%q is no https:// URL", api)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: requestTime, IdleConnTimeout: time.Minute}
	client, err := godo.New(&http.Client{
		Transport: &bearer{transport, base.Host, tokenFile}, Timeout: requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, godo.SetBaseURL(api), godo.SetUserAgent("cutover"))
	if err != nil {
		return nil, err
	}
	return &Account{client, transport}, nil
}

// Close closes connections.
func (a *Account) Close() { a.transport.CloseIdleConnections() }

func isLoopback(u *url.URL) bool {
	return u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "localhost")
}

// List returns all droplets, or those with a tag, as they are in one moment.
func (a *Account) List(ctx context.Context, tag string) ([]Droplet, error) {
	list, _, err := a.list(ctx, tag)
	return list, err
}

// errMoved says that a list of several pages is of several moments.
var errMoved = errors.New("the list of droplets has changed while it was read")

func (a *Account) list(ctx context.Context, tag string) (list []Droplet, rate godo.Rate, err error) {
	for page := 1; page <= mostPages; page++ {
		droplets, response, err := a.page(ctx, tag, &godo.ListOptions{Page: page, PerPage: pageSize})
		if err != nil {
			return nil, rate, explain(err)
		}
		rate = response.Rate
		for i := range droplets {
			list = append(list, dropletOf(&droplets[i]))
		}
		if response.Links == nil || response.Links.IsLastPage() {
			if response.Meta != nil && response.Meta.Total != len(list) {
				return nil, rate, errMoved
			}
			return list, rate, nil
		}
	}
	return nil, rate, fmt.Errorf("there are more than %d droplets", mostPages*pageSize)
}

func (a *Account) page(ctx context.Context, tag string, page *godo.ListOptions) ([]godo.Droplet, *godo.Response, error) {
	if tag == "" {
		return a.client.Droplets.List(ctx, page)
	}
	if err := checkTag(tag); err != nil { // godo puts it into the URL as it is
		return nil, nil, err
	}
	return a.client.Droplets.ListByTag(ctx, tag, page)
}

// Get returns a droplet; an *Error with status 404 if there is none.
func (a *Account) Get(ctx context.Context, id int) (Droplet, error) {
	found, _, err := a.client.Droplets.Get(ctx, id)
	if err != nil {
		return Droplet{}, explain(err)
	}
	return dropletOf(found), nil
}

// Create asks for droplets, which are new for a while; see AwaitActive.
func (a *Account) Create(ctx context.Context, wish Wish) (list []Droplet, err error) {
	var made []godo.Droplet
	if len(wish.Names) == 1 { // then the API answers with one, and takes more of them in an hour
		request := &godo.DropletCreateRequest{
			Name: wish.Names[0], Region: wish.Region, Size: wish.Size, Image: imageOf(wish.Image), Tags: wish.Tags, SSHKeys: keysOf(wish.SSHKeys), UserData: wish.UserData,
		}
		var one *godo.Droplet
		if one, _, err = a.client.Droplets.Create(ctx, request); err == nil {
			made = append(made, *one)
		}
	} else {
		request := &godo.DropletMultiCreateRequest{
			Names: wish.Names, Region: wish.Region, Size: wish.Size, Image: imageOf(wish.Image), Tags: wish.Tags, SSHKeys: keysOf(wish.SSHKeys), UserData: wish.UserData,
		}
		made, _, err = a.client.Droplets.CreateMultiple(ctx, request)
	}
	for i := range made {
		list = append(list, dropletOf(&made[i]))
	}
	return list, explain(err)
}

// Destroy takes a droplet away for good.
func (a *Account) Destroy(ctx context.Context, id int) error {
	_, err := a.client.Droplets.Delete(ctx, id)
	return explain(err)
}

// AwaitActive returns the droplet once it is active. Each time it was looked at, it is shown.
func (a *Account) AwaitActive(ctx context.Context, id int, every time.Duration, show func(Droplet)) (Droplet, error) {
	again := time.NewTicker(every)
	defer again.Stop()
	last := Droplet{ID: id, Status: "new"}
	for {
		d, err := a.Get(ctx, id)
		if err == nil {
			last = d
			show(d)
			if d.Status == "active" {
				return d, nil
			}
			err = a.creation(ctx, id)
		}
		if err != nil && !isPassing(err) {
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("droplet %d is still %s: %w", id, last.Status, errors.Join(ctx.Err(), err))
		case <-again.C:
		}
	}
}

// isPassing reports whether an error of the API says nothing of a droplet: it may be another at the next look.
func isPassing(err error) bool {
	var answer *Error
	if errors.As(err, &answer) {
		return answer.Status == http.StatusTooManyRequests || answer.Status >= http.StatusInternalServerError
	}
	var network net.Error
	return errors.As(err, &network)
}

// creation returns why a droplet will never be active.
func (a *Account) creation(ctx context.Context, id int) error {
	actions, _, err := a.client.Droplets.Actions(ctx, id, &godo.ListOptions{PerPage: pageSize})
	if err != nil {
		return explain(err)
	}
	for _, action := range actions {
		if action.Type == "create" && action.Status == "errored" {
			return fmt.Errorf("DigitalOcean could not make droplet %d (action %d)", id, action.ID)
		}
	}
	return nil
}

func imageOf(text string) godo.DropletCreateImage {
	if id, err := strconv.Atoi(text); err == nil {
		return godo.DropletCreateImage{ID: id}
	}
	return godo.DropletCreateImage{Slug: text}
}

func keysOf(list []string) (keys []godo.DropletCreateSSHKey) {
	for _, text := range list {
		if id, err := strconv.Atoi(text); err == nil {
			keys = append(keys, godo.DropletCreateSSHKey{ID: id})
		} else {
			keys = append(keys, godo.DropletCreateSSHKey{Fingerprint: text})
		}
	}
	return keys
}

func dropletOf(d *godo.Droplet) Droplet {
	out := Droplet{ID: d.ID, Name: d.Name, Status: d.Status, Size: d.SizeSlug, Tags: d.Tags}
	out.Created, _ = time.Parse(time.RFC3339, d.Created)
	if d.Region != nil {
		out.Region = d.Region.Slug
	}
	if d.Image != nil {
		out.Image = d.Image.Slug
		if out.Image == "" {
			out.Image = strconv.Itoa(d.Image.ID)
		}
	}
	out.PrivateIPv4, _ = d.PrivateIPv4() // empty without networks
	out.PublicIPv4, _ = d.PublicIPv4()
	out.PublicIPv6, _ = d.PublicIPv6()
	return out
}
