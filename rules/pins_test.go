package rules

import (
	"crypto/sha256"
	"encoding/base64"
	"testing"
)

const pinOfNothing = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

func TestPinsAreReadWithAndWithoutCurlsPrefix(t *testing.T) {
	tls := TargetTLS{Pin: pinOfNothing + ",sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	pins, err := tls.Pins()
	if err != nil || len(pins) != 2 || base64.StdEncoding.EncodeToString(pins[0][:]) != pinOfNothing || pins[1] != [sha256.Size]byte{} {
		t.Errorf("%v, %v", pins, err)
	}
}

func TestWhatIsNoPinIsRefused(t *testing.T) {
	for _, text := range []string{",", "x", pinOfNothing + ",", "sha1//" + pinOfNothing, "sha256//AAAA", "sha256//" + pinOfNothing + ";sha256//" + pinOfNothing, pinOfNothing + "\n\n."} {
		if pins, err := (&TargetTLS{Pin: text}).Pins(); err == nil || len(pins) > 0 {
			t.Errorf("%q is read as %v", text, pins)
		}
	}
}
