package rules

import (
	"reflect"
	"testing"
)

func TestTheURLOfATargetSaysWhereItListensAndWhatItSpeaks(t *testing.T) {
	for text, want := range map[string]Address{
		"http://10.0.0.5:8080":    {ProtocolHTTP, false, "tcp", "10.0.0.5:8080", "10.0.0.5"},
		"http://app.test":         {ProtocolHTTP, false, "tcp", "app.test:80", "app.test"},
		"https://app.test/":       {ProtocolHTTP, true, "tcp", "app.test:443", "app.test"},
		"https://[2001:db8::1]":   {ProtocolHTTP, true, "tcp", "[2001:db8::1]:443", "2001:db8::1"},
		"h2c://10.0.0.5:50051":    {ProtocolH2C, false, "tcp", "10.0.0.5:50051", "10.0.0.5"},
		"h2://app.test":           {ProtocolH2, true, "tcp", "app.test:443", "app.test"},
		"fcgi://10.0.0.5":         {ProtocolFCGI, false, "tcp", "10.0.0.5:9000", "10.0.0.5"},
		"fcgi+unix:/run/php.sock": {ProtocolFCGI, false, "unix", "/run/php.sock", ""},
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
		"http://app.test:0", "fcgi://app.test:70000",
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

func TestATargetMayNameAnotherPlaceWhereItIsWritten(t *testing.T) {
	for text, want := range map[string]TargetSource{
		"http://10.0.0.5:8080":          {Address: Address{ProtocolHTTP, false, "tcp", "10.0.0.5:8080", "10.0.0.5"}},
		"dns+http://app.internal:8080":  {SourceDNS, "app.internal", Address{Protocol: ProtocolHTTP, Network: "tcp"}, "8080"},
		"srv+h2c://_grpc._tcp.app.test": {SourceSRV, "_grpc._tcp.app.test", Address{Protocol: ProtocolH2C, Network: "tcp"}, "80"},
		"droplets+https://web":          {SourceDroplets, "web", Address{Protocol: ProtocolHTTP, TLS: true, Network: "tcp"}, "443"},
		"dns+fcgi://php.internal":       {SourceDNS, "php.internal", Address{Protocol: ProtocolFCGI, Network: "tcp"}, "9000"},
		"file:web":                      {Kind: SourceFile, Name: "web"},
		"app:shop":                      {Kind: SourceApp, Name: "shop"},
		"cgi:report.daily":              {Kind: SourceCGI, Name: "report.daily"},
	} {
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"app:", "app:../x", "app:a/b", "cgi:/bin/sh", "file:/etc/passwd", "file:.hidden", "app:-x", "app:a b",
		"dns+unix:/run/a.sock", "dns+http://10.0.0.5", "dns+dns+http://a.test", "http+dns://a.test", "srv+http://", "exec:ls", "droplets+http://web/x",
	} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
}

func TestEachSettingOfAnUpstreamCountsAsAChange(t *testing.T) {
	base := DefaultUpstream()
	fields := reflect.VisibleFields(reflect.TypeFor[Upstream]())
	for _, field := range fields {
		if field.Anonymous || field.Name == "Name" || field.Name == "Note" || field.Name == "UpdatedAt" || field.Name == "Targets" {
			continue
		}
		other := base
		switch value := reflect.ValueOf(&other).Elem().FieldByIndex(field.Index); value.Kind() {
		case reflect.String:
			value.SetString(value.String() + "x")
		case reflect.Int:
			value.SetInt(value.Int() + 1)
		case reflect.Float64:
			value.SetFloat(value.Float() + 1)
		default:
			t.Fatalf("%s is a %s", field.Name, value.Kind())
		}
		if sameSettings(&base, &other) {
			t.Errorf("%s may change unnoticed", field.Name)
		}
	}
	if len(fields) < 40 {
		t.Errorf("there are only %d fields", len(fields))
	}
}
