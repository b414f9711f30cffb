package rules

import "strings"

// normalizePath turns an escaped path into the form that rules are matched by: characters that need no escape
// (RFC 3986 §2.3) unescaped, escapes in upper case, dot segments resolved (§5.2.4). An escaped slash stays escaped:
// it is no border of a segment. What is forwarded is always the path as the client sent it.
func normalizePath(path string) string {
	if path == "" || path[0] != '/' {
		return "/" // "*" of OPTIONS, and the authority form of CONNECT
	}
	if strings.IndexByte(path, '%') >= 0 {
		path = unescapeUnreserved(path)
	}
	if strings.Contains(path, "/.") {
		path = resolveDots(path)
	}
	return path
}

func unescapeUnreserved(path string) string {
	var out strings.Builder
	out.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			out.WriteByte(path[i])
			continue
		}
		if c := unhex(path[i+1])<<4 | unhex(path[i+2]); isUnreserved(c) {
			out.WriteByte(c)
		} else {
			out.WriteString(strings.ToUpper(path[i : i+3]))
		}
		i += 2
	}
	return out.String()
}

func isUnreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

// resolveDots removes the segments "." and "..". Empty segments stay as they are.
func resolveDots(path string) string {
	segments := strings.Split(path[1:], "/")
	kept := segments[:0]
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, segment)
			continue
		}
		if last {
			kept = append(kept, "") // "/a/." is "/a/"
		}
	}
	return "/" + strings.Join(kept, "/")
}

// loosePath returns a path in normal form as servers may read it that decode more than they should: every escape, more than
// once, backslashes as slashes, several slashes as one, and without what follows a semicolon in a segment. A path that nobody
// reads otherwise is returned as it is.
func loosePath(path string) string {
	loose := loosened(path)
	if loose == path {
		return path // its dots are resolved
	}
	return resolveDots(loose)
}

// hidesDots reports whether a path in normal form has dot segments for a server that decodes more than it should. What such a
// server takes it for depends on how much more: every part of it may be what counts.
func hidesDots(path string) bool {
	loose := loosened(path)
	return strings.Contains(loose, "/.") && resolveDots(loose) != loose
}

// loosened is loosePath with its dot segments.
func loosened(path string) string {
	if !strings.ContainsAny(path, "%\\;") && !strings.Contains(path, "//") {
		return path
	}
	for range 3 {
		if strings.IndexByte(path, '%') < 0 {
			break
		}
		path = unescapeAll(path)
	}
	path = strings.ReplaceAll(path, "\\", "/")
	segments := strings.Split(path[1:], "/")
	kept := segments[:0]
	for i, segment := range segments {
		segment, _, _ = strings.Cut(segment, ";")
		if segment != "" || i == len(segments)-1 {
			kept = append(kept, segment)
		}
	}
	return "/" + strings.Join(kept, "/")
}

func unescapeAll(path string) string {
	var out strings.Builder
	out.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			out.WriteByte(path[i])
			continue
		}
		out.WriteByte(unhex(path[i+1])<<4 | unhex(path[i+2]))
		i += 2
	}
	return out.String()
}
