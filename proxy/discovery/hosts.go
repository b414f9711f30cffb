package discovery

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// inHosts returns the addresses that a file such as /etc/hosts gives a name. A file that cannot be read has none.
func inHosts(file, name string) (list []netip.Addr) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	name = strings.TrimSuffix(name, ".")
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 || !slices.ContainsFunc(fields[1:], func(n string) bool { return strings.EqualFold(n, name) }) {
			continue
		}
		if address, err := netip.ParseAddr(fields[0]); err == nil && address.Zone() == "" {
			list = append(list, address)
		}
	}
	return usable(list)
}
