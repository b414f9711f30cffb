package main_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport is the import table of the design: which of our packages a package may import, itself and what is below
// it aside. A name stands for the package and all below it, unless it ends in "$".
var mayImport = map[string][]string{
	"cutover/cmd":             {"cutover/"},
	"cutover/proxy/admin":     {"cutover/proxy$", "cutover/proxy/upstream", "cutover/proxy/metrics", "cutover/proxy/repair", "cutover/proxy/shadow", "cutover/rules"},
	"cutover/proxy/cgi":       {},
	"cutover/proxy/discovery": {"cutover/rules$"},
	"cutover/proxy/fastcgi":   {},
	"cutover/proxy/frontend":  {},
	"cutover/proxy/metrics":   {},
	"cutover/proxy/repair":    {"cutover/rules$"},
	"cutover/proxy/upstream":  {"cutover/rules$", "cutover/proxy/fastcgi"},
	"cutover/proxy/websocket": {},
	"cutover/proxy":           {"cutover/rules$", "cutover/proxy/upstream", "cutover/proxy/metrics", "cutover/proxy/repair", "cutover/proxy/websocket"},
	"cutover/rules/store":     {"cutover/rules$"},
	"cutover/rules/transfer":  {"cutover/rules$"},
	"cutover/rules":           {},
	"cutover/tlsbridge":       {},
	"cutover/systemd":         {},
}

type listed struct {
	ImportPath string
	Imports    []string
}

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < len(mayImport) {
		t.Fatalf("go list named %d packages, fewer than the table's %d lines", len(packages), len(mayImport))
	}
	for _, p := range packages {
		line := tableLine(p.ImportPath)
		if line == "" {
			t.Errorf("%s stands in no line of the table: add one, or put it below a package that has one", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "cutover/") && !allowed(line, imported) {
				t.Errorf("%s imports %s; the line %q allows only %q", p.ImportPath, imported, line, mayImport[line])
			}
		}
	}
}

// tableLine returns the longest line of the table that covers a package.
func tableLine(path string) string {
	best := ""
	for line := range mayImport {
		if below(path, line) && len(line) > len(best) {
			best = line
		}
	}
	return best
}

func allowed(line, imported string) bool {
	if tableLine(imported) == line {
		return true
	}
	return slices.ContainsFunc(mayImport[line], func(name string) bool {
		if exact, ok := strings.CutSuffix(name, "$"); ok {
			return imported == exact
		}
		return below(imported, strings.TrimSuffix(name, "/"))
	})
}

func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func listPackages(t *testing.T) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "cutover/...")
	output, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	var packages []listed
	for {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
