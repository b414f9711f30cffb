package main

import (
	"slices"
	"testing"

	"cutover/rules"
)

func TestWhatAnOlderReleaseDoesNotKnowIsCounted(t *testing.T) {
	got := losses(1,
		[]rules.GuardRow{{Enabled: true}, {Enabled: true}, {}},
		[]rules.Host{{TLS: rules.TLSPassthrough, Certificate: rules.CertificateAuto}, {TLS: rules.TLSTerminate, Certificate: rules.CertificateOff}},
		[]rules.Upstream{{ProxyProtocol: rules.ProxyProtocolOff}},
	)
	want := []string{"2 × guard: everybody gets in", "1 × host with tls passthrough: TLS ends here", "1 × host with a certificate other than auto: as auto"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := losses(1, nil, []rules.Host{{Certificate: rules.CertificateAuto}}, nil); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}

func TestAReleaseThatKnowsGuardsDoesNotLoseThem(t *testing.T) {
	guards := []rules.GuardRow{{Enabled: true}}
	if got := losses(2, guards, []rules.Host{{TLS: rules.TLSPassthrough}}, nil); len(got) != 0 {
		t.Errorf("%q", got)
	}
	upstreams := []rules.Upstream{{Targets: []rules.Target{{URL: "unix:/run/app.sock"}, {URL: "h2c://10.0.0.5:1"}, {URL: "http://10.0.0.5:1"}}, Check: rules.Check{Path: "/up"}}}
	want := []string{"2 × target on a socket, or with h2c: it gets no requests", "1 × upstream with check_path: nobody checks"}
	if got := losses(2, guards, nil, upstreams); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestWhatARollbackToSchema3WouldTakeAwayIsSaid(t *testing.T) {
	upstreams := []rules.Upstream{
		{Targets: []rules.Target{{URL: "app:shop"}, {URL: "fcgi://10.0.0.5"}, {URL: "http://10.0.0.5:1"}}, ProxyProtocol: rules.ProxyProtocolV2},
		{TargetsOf: "v1", Room: rules.Room{MaxInFlight: 5}, TargetTLS: rules.TargetTLS{CA: "internal"}, Repair: rules.Repair{StripPrefix: "/shop"}},
		rules.DefaultUpstream(),
	}
	want := []string{
		"2 × target of a kind that came later (FastCGI, HTTP/2 over TLS, programs, discovery): it gets no requests",
		"1 × upstream with targets_of: it has no targets",
		"1 × upstream with proxy_protocol: its targets get requests without the header that they expect",
		"1 × upstream with max_in_flight: there is no limit",
		"1 × upstream with tls_ca, tls_server_name, tls_pin or tls_certificate: its targets are checked as the system does",
		"1 × upstream with changes to paths, cookies or headers: they pass as they are",
	}
	if got := losses(3, nil, nil, upstreams); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
