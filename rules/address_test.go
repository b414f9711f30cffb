package rules

import "testing"

func TestTheURLOfATargetSaysWhereItListensAndWhatItSpeaks(t *testing.T) {
	for text, want := range map[string]Address{
		"http://10.0.0.5:8080":    {ProtocolHTTP, false, "tcp", "10.0.0.5:8080", "10.0.0.5"},
		"http://app.test":         {ProtocolHTTP, false, "tcp", "app.test:80", "app.test"},
		"https://app.test/":       {ProtocolHTTP, true, "tcp", "app.test:443", "app.test"},
		"https://[2001:db8::1]":   {ProtocolHTTP, true, "tcp", "[2001:db8::1]:443", "2001:db8::1"},
		"h2c://10.0.0.5:50051":    {ProtocolH2C, false, "tcp", "10.0.0.5:50051", "10.0.0.5"},
		"unix:/run/app/app.sock":  {ProtocolHTTP, false, "unix", "/run/app/app.sock", ""},
		"h2c+unix:/run/grpc.sock": {ProtocolH2C, false, "unix", "/run/grpc.sock", ""},
	} {
		if got, err := ParseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

func TestWhatIsNoURLOfATargetIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "app.test:80", "ftp://app.test", "http://", "http://:80", "http:app", "http://u@app.test", "http://app.test/path", "http://app.test?x", "http://app.test#x",
		"unix:", "unix:/", "unix:app.sock", "unix:/run/../app.sock", "unix:/run/app.sock/", "unix://run/app.sock", "unix:/run/a b", "unix:/run/a?b", "unix:/run/\x00",
		"unix:/" + longName(107), "unix:/run/cutover/admin.sock", "h2c+unix:/var/run/cutover/takeover.sock", "app:shop", "HTTP+unix:/run/a",
	} {
		if got, err := ParseAddress(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
}

func longName(length int) string {
	name := make([]byte, length)
	for i := range name {
		name[i] = 'a'
	}
	return string(name)
}
