package rules

import (
	"errors"
	"fmt"
)

// shareTargets gives each upstream with targets_of the targets of the one that it names. One for which that makes no sense is
// served by its last good version; as long as there is none, by what targets it has itself.
func (c *compiler) shareTargets(list []*Upstream) {
	written := make(map[string]Upstream, len(list))
	for _, row := range list {
		written[row.Name] = *row
	}
	for _, row := range list {
		if row.TargetsOf == "" {
			continue
		}
		err := checkSharing(row, written)
		if err == nil {
			row.Targets = written[row.TargetsOf].Targets
			continue
		}
		before, known := c.previous.Upstream(row.Name)
		c.report("upstreams", row.Name, "", err.Error(), known)
		if known {
			*row = lastSharing(before, row, written)
		}
	}
}

// checkSharing returns why an upstream cannot have the targets of the one that it names.
func checkSharing(row *Upstream, written map[string]Upstream) error {
	named, ok := written[row.TargetsOf]
	switch {
	case !ok:
		return fmt.Errorf("targets_of: %w", unknownUpstream(row.TargetsOf))
	case named.TargetsOf != "":
		return fmt.Errorf("targets_of: %q has none of its own either, it uses those of %q: name that", named.Name, named.TargetsOf)
	case len(row.Targets) > 0:
		return errors.New("targets_of: it has targets of its own: remove them, or set targets_of = ''")
	}
	return nil
}

// lastSharing is the last good version of an upstream, with the targets that it would have today.
func lastSharing(before, row *Upstream, written map[string]Upstream) Upstream {
	last := *before
	named, ok := written[before.TargetsOf]
	switch {
	case before.TargetsOf == "" && len(row.Targets) > 0:
		last.Targets = row.Targets
	case ok && named.TargetsOf == "":
		last.Targets = named.Targets
	}
	return last
}
