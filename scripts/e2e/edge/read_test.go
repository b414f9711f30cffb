package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCountersThatSayWhySomethingWasRefusedAreTold(t *testing.T) {
	const before = "# HELP cutover_refused_total x\ncutover_refused_total{reason=\"a b\"} 3\ncutover_requests_total{code=\"2xx\"} 1\ngo_goroutines 7\n"
	const after = "cutover_refused_total{reason=\"a b\"} 5\ncutover_requests_total{code=\"2xx\"} 9\ncutover_events_total{kind=\"handshake\",outcome=\"ok\"} 9\n" +
		"cutover_events_total{kind=\"handshake\",outcome=\"timeout\"} 2\ncutover_connections 9\n"
	read := func(text string) map[string]float64 {
		values, err := readCounters(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return values
	}
	want := `events_total{kind="handshake",outcome="timeout"} +2, refused_total{reason="a b"} +2`
	if got := tell(moved(read(before), read(after))); got != want {
		t.Errorf("%s", got)
	}
}

// order is a request for a new order, as a CA gets it.
func order(t *testing.T, names ...string) io.Reader {
	t.Helper()
	var identifiers []any
	for _, name := range names {
		identifiers = append(identifiers, map[string]string{"type": "dns", "value": name})
	}
	payload, err := json.Marshal(map[string]any{"identifiers": identifiers})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{"payload": base64.RawURLEncoding.EncodeToString(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(text)
}

func TestTheCACountsOrdersByNameAndFailsAsItIsTold(t *testing.T) {
	behind := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d", r.Host, r.URL.Path, len(text))
	}))
	t.Cleanup(behind.Close)
	ca, err := newAuthority(behind.URL+"/dir", behind.Client().Transport.(*http.Transport))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path string, body io.Reader) (int, string) {
		w := httptest.NewRecorder()
		ca.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "https://ca.test"+path, body))
		return w.Code, w.Body.String()
	}
	if code, text := ask("/dir", nil); code != 200 || text != "ca.test /dir 0" {
		t.Errorf("%d %s", code, text)
	}
	if code, text := ask(newOrderPath, order(t, "A.test", "b.test")); code != 200 || strings.HasSuffix(text, " 0") {
		t.Errorf("%d %s", code, text)
	}
	control := ca.control()
	control.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/mode/"+caRefusing, nil))
	for range 2 { // the second at once is no other
		if code, _ := ask(newOrderPath, order(t, "c.test")); code != http.StatusInternalServerError {
			t.Errorf("%d", code)
		}
	}
	w := httptest.NewRecorder()
	control.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/orders", nil))
	if got := strings.TrimSpace(w.Body.String()); got != `{"a.test":1,"b.test":1,"c.test":1}` {
		t.Errorf("the orders are %s", got)
	}
}

func TestWhatSslscanFindsIsRated(t *testing.T) {
	const text = `<document version="2.0.7"><ssltest host="a">
		<protocol type="ssl" version="3" enabled="0" /><protocol type="tls" version="1.0" enabled="1" /><protocol type="tls" version="1.2" enabled="1" />
		<renegotiation supported="1" secure="1" /><compression supported="0" /><heartbleed sslversion="TLSv1.2" vulnerable="0" />
		<cipher sslversion="TLSv1.2" cipher="GOOD" strength="strong" /><cipher sslversion="TLSv1.2" cipher="POOR" strength="medium" />
	</ssltest></document>`
	var report sslscanReport
	if err := xml.Unmarshal([]byte(text), &report); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, f := range report.findings() {
		ids = append(ids, f.ID)
	}
	if got := strings.Join(ids, " "); got != "tls1.0 POOR" {
		t.Errorf("it found %s", got)
	}
}

func TestWhatTestsslFindsAboveLowIsListed(t *testing.T) {
	list := strings.Repeat(`{"id":"fine","severity":"OK","finding":"x"},`, 20)
	low, found, err := testsslFindings([]byte("[" + list + `{"id":"a","severity":"LOW","finding":"x"},{"id":"b","severity":"MEDIUM","finding":"y"}]`))
	if err != nil || low != 1 || len(found) != 1 || found[0].ID != "b" {
		t.Errorf("%d, %v, %v", low, found, err)
	}
	if _, _, err := testsslFindings([]byte("[]")); err == nil {
		t.Error("a scan that found nothing at all passed")
	}
}
