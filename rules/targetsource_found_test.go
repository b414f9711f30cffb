package rules

import "testing"

func TestATargetThatWasFoundIsKnownByTheNameOfItsRow(t *testing.T) {
	for url, want := range map[string][2]string{
		"dns+https://app.internal:8443":      {"app.internal", "https://10.0.0.1:8443"},
		"dns+h2://app.internal":              {"app.internal", "h2://10.0.0.1:8443"},
		"srv+https://_web._tcp.app.internal": {"app.internal", "https://10.0.0.1:8443"},
		"srv+fcgi://_php._tcp.app.internal":  {"app.internal", "fcgi://10.0.0.1:8443"},
		"srv+http://plain.app.internal":      {"plain.app.internal", "http://10.0.0.1:8443"},
		"droplets+h2c://web_1:8080":          {"", "h2c://10.0.0.1:8443"},
	} {
		source, err := ParseTarget(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := [2]string{source.Host(), source.URL("10.0.0.1:8443")}; got != want {
			t.Errorf("%s: %q", url, got)
		}
		if _, err := ParseAddress(source.URL("[::1]:80")); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
