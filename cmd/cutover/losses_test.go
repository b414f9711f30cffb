package main

import (
	"slices"
	"testing"

	"cutover/rules"
)

func TestWhatAnOlderReleaseDoesNotKnowIsCounted(t *testing.T) {
	got := losses(
		[]rules.GuardRow{{Enabled: true}, {Enabled: true}, {}},
		[]rules.Host{{TLS: rules.TLSPassthrough, Certificate: rules.CertificateAuto}, {TLS: rules.TLSTerminate, Certificate: rules.CertificateOff}},
		[]rules.Upstream{{ProxyProtocol: rules.ProxyProtocolOff}},
	)
	want := []string{"2 × guard: everybody gets in", "1 × host with tls passthrough: TLS ends here", "1 × host with a certificate other than auto: as auto"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := losses(nil, []rules.Host{{Certificate: rules.CertificateAuto}}, nil); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}
