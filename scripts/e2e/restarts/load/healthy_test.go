package load

import "testing"

func TestNoKindOfClientFailsOnAHealthyServer(t *testing.T) {
	for kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := serve(t, healthy())
			r := run(t, l, kind, asked(kind, 3))
			for _, f := range r.Failed {
				t.Errorf("%s: %s", f.Kind, f.Detail)
			}
			if r.FullHandshakes > 0 {
				t.Errorf("%d handshakes were full that ought to be short", r.FullHandshakes)
			}
			if len(r.Kinds) != 1 || r.Kinds[kind] == nil || r.Kinds[kind].Requests < 3 {
				t.Errorf("it recorded %v", r.Kinds)
			}
		})
	}
}
