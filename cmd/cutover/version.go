package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"cutover/rules"
)

// version is set by scripts/build.sh: the release's timestamp and commit. The linker can only set a variable.
var version = "dev"

// build describes the program.
type build struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Schema  int    `json:"schema"` // of rules.db
}

func newVersionCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := build{Version: version, Go: runtime.Version(), Schema: rules.Schema}
			if env.output == "json" {
				return json.NewEncoder(env.stdout).Encode(b)
			}
			_, err := fmt.Fprintf(env.stdout, "cutover %s (%s, rules schema %d)\n", b.Version, b.Go, b.Schema)
			return err
		},
	}
}
