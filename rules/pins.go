package rules

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
)

// Pin is the SHA-256 sum of a public key (SubjectPublicKeyInfo), by which a target is known (RFC 7469 §2.4).
type Pin [sha256.Size]byte

// pinPrefix is what curl's --pinnedpubkey wants before each pin.
const pinPrefix = "sha256//"

// String returns the pin as curl takes it.
func (p Pin) String() string { return pinPrefix + base64.StdEncoding.EncodeToString(p[:]) }

// errPin says how pins are written.
var errPin = errors.New("tls_pin must be SHA-256 sums in base64, separated by commas, as curl --pinnedpubkey takes them: sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")

// Pins reads the column tls_pin.
func (t *TargetTLS) Pins() ([]Pin, error) {
	if t.Pin == "" {
		return nil, nil
	}
	var pins []Pin
	for text := range strings.SplitSeq(t.Pin, ",") {
		sum, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(strings.TrimSpace(text), pinPrefix))
		if err != nil || len(sum) != sha256.Size {
			return nil, errPin
		}
		pins = append(pins, Pin(sum))
	}
	return pins, nil
}
