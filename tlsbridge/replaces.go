package tlsbridge

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// replacing is a context that tells certmagic's issuer which certificate an order renews (RFC 9773 §5): the CA counts such an
// order towards no limit. certmagic would tell it by itself, but only to an issuer that is not behind a gate.
type replacing struct {
	context.Context //nolint:containedctx // it is a context
	old             *x509.Certificate
}

// Value answers for the key that certmagic keeps to itself.
func (r replacing) Value(key any) any {
	if fmt.Sprintf("%T %v", key, key) == "certmagic.ctxKey ari_replaces" {
		return r.old
	}
	return r.Context.Value(key)
}

// refusesReplacement reports whether the CA may have refused an order for what it renews: a certificate of another account, or
// one that was renewed before. Nothing was spent on such an order.
func refusesReplacement(err error) bool {
	var problem acme.Problem
	return errors.As(err, &problem) && problem.Type != acme.ProblemTypeRateLimited && strings.Contains(err.Error(), "creating new order")
}

// replaced returns the certificate that an order for name renews. An imported one does not count: it belongs to an account
// that is not ours.
func (c *Certificates) replaced(name string) *x509.Certificate {
	file := filepath.Join(c.options.Dir, certmagic.StorageKeys.SiteCert(c.issuerKeys[0], name))
	leaf, err := readLeaf(file)
	if err != nil {
		return nil
	}
	if m, ok := readMark(strings.TrimSuffix(file, ".crt")); ok && m.Serial == leaf.SerialNumber.Text(16) {
		return nil
	}
	return leaf
}
