package rules

import (
	"slices"
	"testing"
)

const pinOfNothing = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

func TestPinsAreReadWithAndWithoutCurlsPrefix(t *testing.T) {
	tls := TargetTLS{Pin: pinOfNothing + ", sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	pins, err := tls.Pins()
	if err != nil || len(pins) != 2 || pins[0].String() != "sha256//"+pinOfNothing || pins[1] != (Pin{}) {
		t.Errorf("%v, %v", pins, err)
	}
}

func TestWhatIsNoPinIsRefused(t *testing.T) {
	for _, text := range []string{",", "x", pinOfNothing + ",", "sha1//" + pinOfNothing, "sha256//AAAA", "sha256//" + pinOfNothing + ";sha256//" + pinOfNothing, pinOfNothing + "\n\n."} {
		if pins, err := (&TargetTLS{Pin: text}).Pins(); err == nil || !slices.Equal(pins, nil) {
			t.Errorf("%q is read as %v", text, pins)
		}
	}
}
