package store

import (
	"strconv"
	"strings"

	"cutover/rules"
)

// imageLocation reads where a row of rules or redirects was from its image in the journal, which begins with host, path
// and match as SQLite's quote() writes them.
func imageLocation(image string) (l rules.Location, ok bool) {
	var match string
	for _, to := range []*string{&l.Host, &l.Path, &match} {
		if *to, image, ok = cutLiteral(image); !ok {
			return rules.Location{}, false
		}
	}
	l.Match = rules.Kind(match)
	return l, true
}

// cutLiteral cuts a text such as 'it”s' and the comma after it off.
func cutLiteral(image string) (text, rest string, ok bool) {
	if !strings.HasPrefix(image, "'") {
		return "", "", false
	}
	for i := 1; i < len(image); i++ {
		if image[i] != '\'' {
			continue
		}
		if i+1 < len(image) && image[i+1] == '\'' {
			i++
			continue
		}
		return strings.ReplaceAll(image[1:i], "''", "'"), strings.TrimPrefix(image[i+1:], ","), true
	}
	return "", "", false
}

// parseID returns 0 for a text that is no id: no row has that.
func parseID(text string) int64 {
	id, _ := strconv.ParseInt(text, 10, 64)
	return id
}
