package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// VisitorCookie is the name of the cookie by which Cutover knows a visitor. No row may speak of it.
const VisitorCookie = "cutover_visitor"

// HeaderEdits says what becomes of header fields: those of Remove go, those of Set take the place of all of their name, and
// those of Add come beside them, in this order. Names are canonical.
type HeaderEdits struct {
	Remove   []string
	Set, Add []HeaderField
}

// HeaderField is a name and a value.
type HeaderField struct{ Name, Value string }

// Len returns how many edits there are.
func (e *HeaderEdits) Len() int { return len(e.Remove) + len(e.Set) + len(e.Add) }

const (
	maxHeaderEdits     = 50
	maxHeaderEditsText = 8 << 10
)

var errHeaderEdits = errors.New(`must be a JSON object such as {"X-Env": "live", "+Vary": "Origin", "Server": null}`)

// ParseHeaderEdits reads request_headers or response_headers: a JSON object in which "Name": "value" sets, "+Name": "value"
// adds and "Name": null removes. An empty text is an empty object. An error begins so that the name of the column can stand
// before it.
func ParseHeaderEdits(text string) (HeaderEdits, error) {
	var edits HeaderEdits
	if text == "" {
		return edits, nil
	}
	if len(text) > maxHeaderEditsText {
		return edits, errors.New("must be at most 8192 bytes")
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return HeaderEdits{}, errHeaderEdits
	}
	known := map[string]bool{}
	for decoder.More() {
		if err := edits.read(decoder, known); err != nil {
			return HeaderEdits{}, err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return HeaderEdits{}, errHeaderEdits
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return HeaderEdits{}, errHeaderEdits
	}
	return edits, nil
}

// read reads one member of the object.
func (e *HeaderEdits) read(decoder *json.Decoder, known map[string]bool) error {
	key, err := decoder.Token()
	if err != nil {
		return errHeaderEdits
	}
	value, err := decoder.Token()
	if err != nil {
		return errHeaderEdits
	}
	text, _ := key.(string) // JSON has no other keys
	name, adds := strings.CutPrefix(text, "+")
	name = textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !isToken(name):
		return fmt.Errorf("has %q, which is no name of a header", text)
	case refusal(name) != "":
		return fmt.Errorf("must leave %s alone: %s", name, refusal(name))
	case known[text[:len(text)-len(name)]+name]:
		return fmt.Errorf("has %s twice", name)
	case e.Len() == maxHeaderEdits:
		return fmt.Errorf("must have at most %d headers", maxHeaderEdits)
	}
	known[text[:len(text)-len(name)]+name] = true
	return e.put(name, value, adds)
}

func (e *HeaderEdits) put(name string, value json.Token, adds bool) error {
	text, isText := value.(string)
	field := HeaderField{name, text}
	switch {
	case value == nil && adds:
		return fmt.Errorf(`has "+%s": null, which adds nothing: to remove it, write it without the +`, name)
	case value == nil:
		e.Remove = append(e.Remove, name)
		return nil
	case !isText:
		return fmt.Errorf("must give %s a text in quotes, or null", name)
	case !httpguts.ValidHeaderFieldValue(text) || strings.Trim(text, " \t") != text:
		return fmt.Errorf("has a value of %s that no header can have: no line ends or other control characters, and no space around it", name)
	case name == "Set-Cookie" && isVisitorCookie(text):
		return errors.New("must leave the cookie " + VisitorCookie + " alone: it is Cutover's own")
	case adds:
		e.Add = append(e.Add, field)
	default:
		e.Set = append(e.Set, field)
	}
	return nil
}

func isVisitorCookie(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	return strings.EqualFold(textproto.TrimString(name), VisitorCookie)
}

// refusal returns why a header may not be edited; empty if it may. An underscore is read as the hyphen that CGI and its heirs
// take it for.
func refusal(name string) string {
	lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
	switch lower {
	case "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings":
		return "it belongs to the connection, not to the message"
	case "content-length":
		return "it follows from the body"
	case "host":
		return "send_host says what targets are asked for"
	case "expect":
		return "the visitor waits for what it asks for"
	case "via", "cdn-loop":
		return "loops are found by it"
	case "proxy":
		return "programs take it for the proxy that they are to use"
	}
	if IsForwardingHeader(lower) {
		return "Cutover says it itself"
	}
	return ""
}

// IsForwardingHeader reports whether a header, whatever the case of its name, is one that only a proxy may set.
func IsForwardingHeader(name string) bool {
	for _, whole := range [...]string{"forwarded", "x-real-ip", "x-request-id"} {
		if strings.EqualFold(name, whole) {
			return true
		}
	}
	return hasPrefixFold(name, "x-forwarded-") || hasPrefixFold(name, "x-cutover-")
}

func hasPrefixFold(text, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}
