package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newConfigCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show every setting, its value and where it comes from",
		Long:  "Show every setting, its value and where it comes from: flags, then CUTOVER_* variables, then the file, then defaults.\n\nThe settings:\n" + describeSettings(),
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := env.config()
			if err != nil {
				return err
			}
			return printConfig(env, c.values)
		},
	}
	addSettingFlags(cmd, env)
	return cmd
}

func describeSettings() string {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, s := range settings() {
		_, _ = fmt.Fprintf(table, "  %s\t%s\t%s\n", s.key, s.env(), s.doc)
	}
	_ = table.Flush() // a strings.Builder does not fail
	return text.String()
}

func printConfig(env *environment, values []configValue) error {
	if env.output == "json" {
		encoder := json.NewEncoder(env.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(values)
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "KEY\tVALUE\tFROM")
	for _, v := range values {
		_, _ = fmt.Fprintf(table, "%s\t%q\t%s\n", v.Key, v.Value, v.Source)
	}
	return table.Flush()
}
