package tlsbridge

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// ProfileError says that the CA does not have the profile that is wanted: it would refuse every order.
type ProfileError struct {
	Profile string
	Offered []string // sorted; none if the CA has no profiles
}

// Error names the profiles there are.
func (e *ProfileError) Error() string {
	if len(e.Offered) == 0 {
		return fmt.Sprintf("the CA has no profiles, and acme.profile is %q", e.Profile)
	}
	return fmt.Sprintf("the CA has no profile %q: acme.profile must be one of %s", e.Profile, strings.Join(e.Offered, ", "))
}

// checkProfile asks the CA whether it has the profile, until it answers. A wrong one costs new certificates, not the service:
// what is stored is served.
func (c *Certificates) checkProfile(ctx context.Context) {
	if c.options.Profile == "" || c.options.Issuer != IssuerACME {
		return
	}
	transport := newTransport(c.options.Root)
	defer transport.CloseIdleConnections()
	for ctx.Err() == nil {
		directory, err := c.newClient(transport).GetDirectory(ctx)
		if err != nil {
			c.options.Log.Debug("whether the CA has the profile is not known", slog.Any("error", err))
			sleep(ctx, time.Minute)
			continue
		}
		wrong := &ProfileError{Profile: c.options.Profile}
		if directory.Meta != nil {
			wrong.Offered = slices.Sorted(maps.Keys(directory.Meta.Profiles))
		}
		if !slices.Contains(wrong.Offered, c.options.Profile) {
			c.profile.Store(wrong)
			c.options.Log.Error("no certificate will be issued or renewed; stored ones are served", slog.Any("error", wrong),
				slog.String("hint", "correct acme.profile, then: systemctl restart cutover"))
		}
		return
	}
}
