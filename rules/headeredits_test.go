package rules

import (
	"fmt"
	"strings"
	"testing"
)

func TestHeaderEditsSetAddAndRemove(t *testing.T) {
	edits, err := ParseHeaderEdits(` {"x-env": "live", "+vary": "Origin", "Server": null, "X-Empty": "", "Vary": "Accept", "+X-Env": "b", "Strict-Transport-Security": "max-age=1", "Alt-Svc": "clear"} `)
	if err != nil {
		t.Fatal(err)
	}
	if want := "{[Server] [{X-Env live} {X-Empty } {Vary Accept} {Strict-Transport-Security max-age=1} {Alt-Svc clear}] [{Vary Origin} {X-Env b}]}"; fmt.Sprint(edits) != want {
		t.Errorf("got %v, want %s", edits, want)
	}
}

func TestNoHeaderEditsAreNone(t *testing.T) {
	for _, text := range []string{"", "{}", " { } "} {
		if edits, err := ParseHeaderEdits(text); err != nil || edits.Len() != 0 {
			t.Errorf("%q: %v, %v", text, edits, err)
		}
	}
}

func TestHeaderEditsThatMakeNoSenseAreRefusedWithAReason(t *testing.T) {
	many := make([]string, maxHeaderEdits+1)
	for i := range many {
		many[i] = fmt.Sprintf(`"X-%d": "x"`, i)
	}
	for text, reason := range map[string]string{
		`[]`:                          "JSON object",
		`{"A": "b"`:                   "JSON object",
		`{"A": "b"} x`:                "JSON object",
		`{"A": "b"}{}`:                "JSON object",
		`{"A" "b"}`:                   "JSON object",
		`{"A": 1}`:                    "text in quotes",
		`{"A": ["b"]}`:                "text in quotes",
		`{"A": {"b": "c"}}`:           "text in quotes",
		`{"": "b"}`:                   "no name",
		`{"+": "b"}`:                  "no name",
		`{"A B": "c"}`:                "no name",
		`{"++A": "c", "A:": "x"}`:     "no name",
		`{"Ä": "c"}`:                  "no name",
		`{"A": "b\r\nC: d"}`:          "no line ends",
		`{"A": "b\u0000"}`:            "no line ends",
		`{"A": " b"}`:                 "no space around",
		`{"+A": null}`:                "without the +",
		`{"X-A": "b", "x-a": null}`:   "twice",
		`{"+X-A": "b", "+x-a": "c"}`:  "twice",
		`{"Connection": "close"}`:     "belongs to the connection",
		`{"Keep-Alive": null}`:        "belongs to the connection",
		`{"TE": "trailers"}`:          "belongs to the connection",
		`{"Upgrade": "h2c"}`:          "belongs to the connection",
		`{"+Trailer": "X"}`:           "belongs to the connection",
		`{"Transfer-Encoding": null}`: "belongs to the connection",
		`{"transfer_encoding": "x"}`:  "belongs to the connection",
		`{"Content-Length": "0"}`:     "follows from the body",
		`{"Host": "x"}`:               "send_host",
		`{"Via": "x"}`:                "loops",
		`{"Cdn-Loop": null}`:          "loops",
		`{"Proxy": "x"}`:              "programs",
		`{"X-Forwarded-For": "x"}`:    "Cutover says it",
		`{"X_Forwarded_Proto": "x"}`:  "Cutover says it",
		`{"Forwarded": null}`:         "Cutover says it",
		`{"X-Request-Id": "x"}`:       "Cutover says it",
		`{"X-Real-IP": "x"}`:          "Cutover says it",
		`{"X-Cutover-Version": "x"}`:  "Cutover says it",
		`{"Set-Cookie": " x"}`:        "no space around",
		`{"+Set-Cookie": "` + VisitorCookie + `=x; Path=/"}`:       "Cutover's own",
		`{"A": "` + strings.Repeat("x", maxHeaderEditsText) + `"}`: "8192 bytes",
		"{" + strings.Join(many, ",") + "}":                        "at most 50",
	} {
		if _, err := ParseHeaderEdits(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.80s: %v, want one that says %q", text, err, reason)
		}
	}
}
