package rules

import "testing"

func TestAWildcardCertificateIsForARowOfHostsOfThatVeryName(t *testing.T) {
	rows := rowsOf(rule(1, "*.ruled.test", nil), rule(2, "shop.named.test", nil))
	rows.Hosts = []Host{
		hostRow("*.auto.test", nil),
		hostRow("*.any.test", func(h *Host) { h.Certificate = CertificateAny }),
		hostRow("*.off.test", func(h *Host) { h.Certificate = CertificateOff }),
		hostRow("*.filed.test", func(h *Host) { h.Certificate = "file:own" }),
		hostRow("*.raw.test", func(h *Host) { h.TLS = TLSPassthrough }),
		hostRow("*.under_score.test", nil),
		hostRow("*.top", nil),
		hostRow("*", func(h *Host) { h.Certificate = CertificateAny }),
		hostRow("exact.test", nil),
	}
	view := compile(t, rows)
	for name, want := range map[string]bool{
		"*.auto.test": true, "*.any.test": true,
		"*.off.test": false, "*.filed.test": false, "*.raw.test": false, "*.ruled.test": false, "*.named.test": false,
		"*.under_score.test": false, "*.top": false, "*": false, "*.": false, "": false, "*.*.auto.test": false, "*.x.auto.test": false,
		"x.auto.test": false, "exact.test": false, ".auto.test": false, "*auto.test": false,
	} {
		if got := view.AllowsWildcard(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
		if want && view.Allows(name) {
			t.Errorf("%q is allowed to whoever asks for it", name)
		}
	}
	if (*View)(nil).AllowsWildcard("*.auto.test") {
		t.Error("a view without rules allows one")
	}
}
