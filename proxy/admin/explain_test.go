package admin

import (
	"net/http"
	"strings"
	"testing"

	"cutover/rules"
	"cutover/rules/store"
)

// decider decides like the proxy, as far as explain is concerned: by the view, without visitors.
func decider(s *Server) func(*http.Request) rules.Decision {
	return func(r *http.Request) rules.Decision {
		host, err := rules.NormalizeHost(r.Host)
		if err != nil {
			return rules.Decision{Action: rules.Misdirected, Bucket: -1}
		}
		return s.Store.Load().Match(&rules.Request{Method: r.Method, Host: host, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery, Header: r.Header})
	}
}

func explainer(t *testing.T, edits ...store.Edit) *Client {
	t.Helper()
	s := &Server{}
	client := tester(t, s)
	s.Decide = decider(s)
	if len(edits) > 0 {
		mustEdit(t, client, edits...)
	}
	return client
}

func TestExplainNamesTheRuleThatDecides(t *testing.T) {
	client := explainer(t,
		rule(map[string]any{"host": "shop.example.com", "percent": 0}),
		rule(map[string]any{"host": "shop.example.com", "path": "/api", "percent": 100}),
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v2", "url": "http://127.0.0.1:9002"}},
	)
	e, err := client.Explain(t.Context(), ExplainRequest{URL: "https://SHOP.example.com./api/items?q=1#top"})
	if err != nil {
		t.Fatal(err)
	}
	if e.Action != ActionForward || e.Version != "v2" || e.Rule == nil || e.Rule.Path != "/api" || e.Bucket != -1 {
		t.Errorf("got %+v", e)
	}
	if len(e.Targets) != 1 || e.Targets[0].URL != "http://127.0.0.1:9002" || len(e.Warnings) != 0 {
		t.Errorf("targets %v, warnings %v", e.Targets, e.Warnings)
	}
	if e.URL != "https://shop.example.com/api/items?q=1" || len(e.Why) == 0 {
		t.Errorf("url %q, why %v", e.URL, e.Why)
	}
}

func TestExplainWarnsOfAnUpstreamThatCannotAnswer(t *testing.T) {
	client := explainer(t, rule(map[string]any{"host": "shop.example.com", "percent": 100}))
	e, err := client.Explain(t.Context(), ExplainRequest{URL: "http://shop.example.com"})
	if err != nil || len(e.Warnings) != 1 || !strings.Contains(e.Warnings[0], "503") {
		t.Errorf("got %+v, %v", e.Warnings, err)
	}
}

func TestExplainShowsARedirectAndWhatIsGone(t *testing.T) {
	client := explainer(t,
		store.Edit{Table: store.TableRedirects, Row: map[string]any{"host": "shop.example.com", "path": "/old", "to_url": "https://shop.example.com/new", "status": 302}},
		store.Edit{Table: store.TableRedirects, Row: map[string]any{"host": "shop.example.com", "path": "/2019", "to_url": "", "status": 410}},
	)
	e, err := client.Explain(t.Context(), ExplainRequest{URL: "http://shop.example.com/old"})
	if err != nil || e.Action != ActionRedirect || e.Status != 302 || e.Location != "https://shop.example.com/new" || e.Redirect == nil {
		t.Errorf("got %+v, %v", e, err)
	}
	e, err = client.Explain(t.Context(), ExplainRequest{URL: "http://shop.example.com/2019/a"})
	if err != nil || e.Action != ActionGone || e.Status != 410 {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestExplainAsksWithAllThatTheRequestWouldHave(t *testing.T) {
	var seen *http.Request
	s := &Server{Decide: func(r *http.Request) rules.Decision { seen = r; return rules.Decision{Bucket: -1} }}
	_, err := tester(t, s).Explain(t.Context(), ExplainRequest{
		URL: "https://bücher.example:8443/a%2Fb?x=1", Method: "POST", IP: "2001:db8::9",
		Headers: map[string][]string{"accept": {"text/html"}, "Host": {"other.example"}}, Cookie: "a=1; b=2",
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen.Method != "POST" || seen.RemoteAddr != "[2001:db8::9]:1" || seen.TLS == nil || seen.URL.EscapedPath() != "/a%2Fb" || seen.URL.RawQuery != "x=1" {
		t.Errorf("got %+v", seen)
	}
	if seen.URL.Host != "xn--bcher-kva.example:8443" || seen.Host != "other.example" || seen.Header.Get("Host") != "" {
		t.Errorf("host %q, Host header %q %q", seen.URL.Host, seen.Host, seen.Header.Get("Host"))
	}
	if cookie, err := seen.Cookie("b"); err != nil || cookie.Value != "2" || seen.Header.Get("Accept") != "text/html" {
		t.Errorf("headers %v", seen.Header)
	}
}

func TestExplainSaysWhatIsRepaired(t *testing.T) {
	client := explainer(t,
		store.Edit{Table: store.TableUpstreams, Row: map[string]any{"name": "v1", "send_host": "legacy.internal", "strip_prefix": "/shop", "add_prefix": "/app", "response_headers": `{"Server": null}`}},
		rule(map[string]any{"host": "shop.example.com", "percent": 0}),
		rule(map[string]any{"host": "new.example.com", "percent": 100}),
	)
	e, err := client.Explain(t.Context(), ExplainRequest{URL: "https://shop.example.com:8443/shop/a%2Fb?q"})
	if want := "Host legacy.internal, path /app/a%2Fb, legacy.internal in answers becomes https://shop.example.com:8443, 1 of response_headers"; err != nil || e.Repair != want {
		t.Errorf("got %q, %v; want %q", e.Repair, err, want)
	}
	e, err = client.Explain(t.Context(), ExplainRequest{URL: "https://new.example.com/shop/a"})
	if err != nil || e.Repair != "" {
		t.Errorf("v2 is repaired: %q, %v", e.Repair, err)
	}
	e, err = client.Explain(t.Context(), ExplainRequest{URL: "https://shop.example.com/..%2fx"})
	if err != nil || !strings.Contains(strings.Join(e.Warnings, ""), "visitors get 400") {
		t.Errorf("warnings %q, %v", e.Warnings, err)
	}
}
