package smuggle

import (
	"fmt"
	"strings"
)

// smuggledRequest must never arrive as a request.
const smuggledRequest = "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"

// post is a request with a body.
func post(fields, body string) string {
	return "POST /PATH HTTP/1.1\r\nHost: HOST\r\n" + fields + "\r\n" + body
}

// get is a request without.
func get(fields string) string { return "GET /PATH HTTP/1.1\r\nHost: HOST\r\n" + fields + "\r\n" }

func chunk(text string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(text), text) }

// covering is the length of a body of which HOST is part: who reads Transfer-Encoding instead sees less.
func covering(body string) string {
	return fmt.Sprintf("Content-Length: %d\r\n", len(strings.ReplaceAll(body, "HOST", Host)))
}

const lastChunk = "0\r\n\r\n"

// Vectors lists all vectors of HTTP/1.1.
func Vectors() []Vector {
	var list []Vector
	for _, some := range [][]Vector{good(), bothLengths(), encodings(), lengths(), lines(), requestLines(), hosts(), chunks(), hops()} {
		list = append(list, some...)
	}
	return list
}

// good ones must arrive, or the rest proves nothing.
func good() []Vector {
	return []Vector{
		{Name: "no body", Raw: get(""), Want: One},
		{Name: "a body with its length", Raw: post("Content-Length: 5\r\n", "hello"), Want: One, Body: "hello"},
		{Name: "a body in chunks", Raw: post("Transfer-Encoding: chunked\r\n", chunk("hello")+lastChunk), Want: One, Body: "hello"},
		{Name: "two requests at once", Raw: get("") + get(""), Want: Two},
		{Name: "a body that looks like a request", Raw: post(covering(smuggledRequest), smuggledRequest), Want: One},
		{Name: "GET with a body", Raw: get("Content-Length: 5\r\n") + "hello", Want: One, Body: "hello"},
		{Name: "DELETE in chunks", Raw: "DELETE /PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk("hello") + lastChunk, Want: One, Body: "hello"},
	}
}

func bothLengths() []Vector {
	return []Vector{
		{Name: "CL.TE: a request behind the last chunk", Raw: post(covering(lastChunk+smuggledRequest)+"Transfer-Encoding: chunked\r\n", lastChunk+smuggledRequest), Want: Either},
		{Name: "TE.CL: a request in a chunk", Raw: post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", chunk(smuggledRequest)+lastChunk), Want: Either},
		{Name: "CL.0 and TE", Raw: post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunk("hello")+lastChunk), Want: Either},
		{Name: "HTTP/1.0 with Transfer-Encoding, kept", Raw: "POST /PATH HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + lastChunk + smuggledRequest, Want: Either},
		{Name: "HTTP/1.0 with both, kept", Raw: "POST /PATH HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n" + covering(lastChunk+smuggledRequest) + "Transfer-Encoding: chunked\r\n\r\n" + lastChunk + smuggledRequest, Want: Either},
	}
}

// encodings are spellings of Transfer-Encoding that some servers take for chunked and others do not.
func encodings() []Vector {
	list := []Vector{
		{Name: "Transfer-Encoding: Chunked", Raw: post("Transfer-Encoding: Chunked\r\n", chunk("hello")+lastChunk), Want: One, Body: "hello"},
		{Name: "Transfer-Encoding behind a tab", Raw: post("Transfer-Encoding:\tchunked\r\n", chunk("hello")+lastChunk), Want: One, Body: "hello"},
	}
	for _, field := range []string{
		"Transfer-Encoding: xchunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity", "Transfer-Encoding: chunked, chunked",
		"Transfer-Encoding: \x0bchunked", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked;a=b",
		"Transfer-Encoding:\r\n chunked", "X: y\r\n Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "Transfer_Encoding: chunked", "X: y\nTransfer-Encoding: chunked", "Transfer-Encoding:",
		"TE: chunked", "Transfer-Encodin\x67\x00: chunked",
	} {
		name := strings.NewReplacer("\r\n", "⏎", "\n", "␊", "\x0b", "␋", "\x00", "␀").Replace(field)
		list = append(list, Vector{Name: name + " beside a length", Raw: post(field+"\r\n"+covering(lastChunk+smuggledRequest), lastChunk+smuggledRequest), Want: Either})
	}
	for _, field := range []string{"Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", "Transfer-Encoding: chunked\x00", "Transfer Encoding: chunked"} {
		name := strings.NewReplacer("\t", "␉", "\x00", "␀").Replace(field)
		list = append(list, Vector{Name: name, Raw: post(field+"\r\nContent-Length: 5\r\n", lastChunk+smuggledRequest), Want: Refused})
	}
	return list
}

// lengths are Content-Lengths that some servers read and others do not.
func lengths() []Vector {
	var list []Vector
	for _, value := range []string{"+5", "-5", "0x5", "5 5", "5_0", "5;a", "5.0", "1e1", "", "٥", "5\x00", "99999999999999999999", "18446744073709551621", "4294967301 "} {
		want := Refused
		if strings.HasPrefix(value, "4294967301") {
			want = Either // more than 2^32, which is not there
		}
		list = append(list, Vector{Name: fmt.Sprintf("Content-Length: %q", value), Raw: post("Content-Length: "+value+"\r\n", "hello"+smuggledRequest), Want: want})
	}
	return append(list,
		Vector{Name: "two lengths that differ", Raw: post("Content-Length: 5\r\nContent-Length: 0\r\n", "hello"+smuggledRequest), Want: Refused},
		Vector{Name: "two lengths that differ in a line", Raw: post("Content-Length: 5, 0\r\n", "hello"), Want: Refused},
		Vector{Name: "two lengths that agree", Raw: post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), Want: Either, Body: "hello"},
		Vector{Name: "two lengths that agree in a line", Raw: post("Content-Length: 5, 5\r\n", "hello"), Want: Either, Body: "hello"},
		Vector{Name: "a length with zeros before it", Raw: post("Content-Length: 005\r\n", "hello"), Want: Either, Body: "hello"},
		Vector{Name: "a length within white space", Raw: post("Content-Length: \t5 \t\r\n", "hello"), Want: One, Body: "hello"},
		Vector{Name: "a length with a space before the colon", Raw: post("Content-Length : 5\r\n", "hello"), Want: Refused},
		Vector{Name: "a length on a folded line", Raw: post("Content-Length:\r\n 5\r\n", "hello"), Want: Either, Body: "hello"},
		Vector{Name: "Content_Length beside Content-Length", Raw: post("Content_Length: 0\r\nContent-Length: 5\r\n", "hello"), Want: Either, Body: "hello"},
	)
}

// lines are header lines that end, or begin, where some servers see it and others do not.
func lines() []Vector {
	return []Vector{
		{Name: "lines that end with LF alone", Raw: "GET /PATH HTTP/1.1\nHost: HOST\n\n", Want: Either},
		{Name: "a bare CR in a value", Raw: get("X: a\rTransfer-Encoding: chunked\r\n"), Want: Either},
		{Name: "a bare CR before the colon", Raw: get("X\r: a\r\n"), Want: Refused},
		{Name: "NUL in a value", Raw: get("X: a\x00b\r\n"), Want: Refused},
		{Name: "NUL in a name", Raw: get("X\x00: a\r\n"), Want: Refused},
		{Name: "a name with a space", Raw: get("X Y: a\r\n"), Want: Refused},
		{Name: "a line without a colon", Raw: get("nonsense\r\n"), Want: Refused},
		{Name: "an empty name", Raw: get(": a\r\n"), Want: Refused},
		{Name: "a first line that is folded", Raw: "GET /PATH HTTP/1.1\r\n X: y\r\nHost: HOST\r\n\r\n", Want: Refused},
		{Name: "CR CR LF", Raw: get("X: a\r\r\n"), Want: Either},
		{Name: "LF CR LF ends the head for some", Raw: "GET /PATH HTTP/1.1\r\nHost: HOST\r\nX: a\n\r\n" + smuggledRequest[:0], Want: Either},
		{Name: "DEL in a value", Raw: get("X: a\x7fb\r\n"), Want: Refused},
		{Name: "letters beyond ASCII in a name", Raw: get("Ünï: a\r\n"), Want: Refused},
	}
}

func requestLines() []Vector {
	var list []Vector
	for _, line := range []string{
		"GET  /PATH HTTP/1.1", "GET /PATH  HTTP/1.1", "GET\t/PATH HTTP/1.1", " GET /PATH HTTP/1.1", "GET /PATH HTTP/1.1 ", "GET /PATH HTTP/1.1 x",
		"GET /PATH http/1.1", "GET /PATH HTTP/1.10", "GET /PATH HTTP/2.0", "GET /PATH HTTP/1,1", "GET /PATH HTTP/01.1", "GET /PATH", "GET /PA TH HTTP/1.1",
		"GE(T /PATH HTTP/1.1", " /PATH HTTP/1.1", "GET PATH HTTP/1.1", "GET /PATH\x00 HTTP/1.1", "GET /PATH\x7f HTTP/1.1", "GET * HTTP/1.1",
	} {
		list = append(list, Vector{Name: fmt.Sprintf("%q", line), Raw: line + "\r\nHost: HOST\r\n\r\n", Want: Refused})
	}
	return append(list,
		Vector{Name: "CONNECT", Raw: "CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n\r\n" + smuggledRequest, Want: Refused},
		Vector{Name: "CONNECT with a path", Raw: "CONNECT /PATH HTTP/1.1\r\nHost: HOST\r\n\r\n" + smuggledRequest, Want: Refused},
		Vector{Name: "PRI * HTTP/2.0", Raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Want: Refused},
		Vector{Name: "an empty line before", Raw: "\r\n" + get(""), Want: Either},
	)
}

func hosts() []Vector {
	line := "GET /PATH HTTP/1.1\r\n"
	return []Vector{
		{Name: "no Host", Raw: line + "\r\n", Want: Refused},
		{Name: "two Hosts", Raw: line + "Host: HOST\r\nHost: HOST\r\n\r\n", Want: Refused},
		{Name: "two Hosts that differ", Raw: line + "Host: HOST\r\nHost: other.test\r\n\r\n", Want: Refused},
		{Name: "a list of Hosts", Raw: line + "Host: HOST, other.test\r\n\r\n", Want: Refused},
		{Name: "a Host with a user", Raw: line + "Host: a@HOST\r\n\r\n", Want: Refused},
		{Name: "a Host with a path", Raw: line + "Host: HOST/x\r\n\r\n", Want: Refused},
		{Name: "a Host with a space before the colon", Raw: line + "Host : HOST\r\n\r\n", Want: Refused},
		{Name: "a Host on a folded line", Raw: line + "Host:\r\n HOST\r\n\r\n", Want: Either},
		{Name: "absolute form with another Host", Raw: "GET http://HOST/PATH HTTP/1.1\r\nHost: other.test\r\n\r\n", Want: Either},
		{Name: "absolute form with a user", Raw: "GET http://a@HOST/PATH HTTP/1.1\r\nHost: HOST\r\n\r\n", Want: Refused},
		{Name: "absolute form of another scheme", Raw: "GET gopher://HOST/PATH HTTP/1.1\r\nHost: HOST\r\n\r\n", Want: Refused},
	}
}

func chunks() []Vector {
	chunked := func(body string) string { return post("Transfer-Encoding: chunked\r\n", body) }
	list := []Vector{
		{Name: "a chunk with zeros before its size", Raw: chunked("0000005\r\nhello\r\n" + lastChunk), Want: One, Body: "hello"},
		{Name: "a chunk with an extension", Raw: chunked("5;a=b\r\nhello\r\n" + lastChunk), Want: One, Body: "hello"},
		{Name: "a chunk with a space behind its size", Raw: chunked("5 \r\nhello\r\n" + lastChunk), Want: Either, Body: "hello"},
		{Name: "sizes that end with LF alone", Raw: chunked("5\nhello\n0\n\n"), Want: Either, Body: "hello"},
		{Name: "an extension with a bare LF", Raw: chunked("5;\nhello\r\n" + lastChunk + smuggledRequest), Want: Either},
		{Name: "an extension with a bare CR", Raw: chunked("5;a\rb\r\nhello\r\n" + lastChunk), Want: Either, Body: "hello"},
		{Name: "an extension of 64 KB", Raw: chunked("5;" + strings.Repeat("a", 64<<10) + "\r\nhello\r\n" + lastChunk), Want: Either, Body: "hello"},
		{Name: "a trailer with a length", Raw: chunked(chunk("hello") + "0\r\nContent-Length: 50\r\n\r\n"), Want: Either, Body: "hello"},
		{Name: "a trailer with Transfer-Encoding and Host", Raw: chunked(chunk("hello") + "0\r\nTransfer-Encoding: chunked\r\nHost: other.test\r\n\r\n"), Want: Either, Body: "hello"},
		{Name: "a last chunk with no empty line", Raw: chunked(chunk("hello") + "0\r\n" + smuggledRequest), Want: Either},
	}
	for _, size := range []string{"0x5", "+5", "-5", "", "g", "5,5", "10000000000000005", "ffffffffffffffffff", " 5", "5\x00"} {
		list = append(list, Vector{Name: fmt.Sprintf("a chunk of size %q", size), Raw: chunked(size + "\r\nhello\r\n" + lastChunk), Want: Refused})
	}
	return append(list,
		Vector{Name: "a chunk longer than its size", Raw: chunked("3\r\nhello\r\n" + lastChunk), Want: Refused},
		Vector{Name: "a chunk that does not end", Raw: chunked("5\r\nhello" + lastChunk), Want: Refused},
	)
}

// hops are fields that the proxy itself must not obey blindly.
func hops() []Vector {
	return []Vector{
		{Name: "Connection: Content-Length", Raw: post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"), Want: Either, Body: "hello"},
		{Name: "Connection: Transfer-Encoding", Raw: post("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", chunk("hello")+lastChunk), Want: Either, Body: "hello"},
		{Name: "Connection: Host", Raw: get("Connection: Host\r\n"), Want: Either},
		{Name: "Upgrade with a body that looks like a request", Raw: post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n", "hello"+get("")[:0]), Want: Either, Body: "hello"},
		{Name: "Upgrade that the server does not want, with a request behind it", Raw: get("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n") + get(""), Want: Two},
		{Name: "Upgrade: h2c", Raw: get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"), Want: Either},
		{Name: "Expect with a body sent at once", Raw: post("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"), Want: One, Body: "hello"},
		{Name: "Expect of something else", Raw: post("Expect: wonders\r\nContent-Length: 5\r\n", "hello"), Want: Either},
		{Name: "Content-Length behind Connection: close", Raw: post("Connection: close\r\nContent-Length: 5\r\n", "hello"+smuggledRequest), Want: One, Body: "hello"},
	}
}
