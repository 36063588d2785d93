package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"panoptes/internal/model"
	"panoptes/internal/rules"
	"panoptes/internal/rules/packs"
)

func rulesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rules", Aliases: []string{"rule"},
		Short: "Check and test rule files, print the rule packs",
		Long: `Rules are in Prometheus' format. These commands work on files and need no
server; a file becomes a record with "panoptes rules check FILE --record |
panoptes apply -f -".`,
		Example: `  panoptes rules check rules/*.yml
  panoptes rules test tests/*.yml
  panoptes rules pack
  panoptes rules pack hosts --record | panoptes apply -f -`,
	}
	cmd.AddCommand(rulesCheckCmd(), rulesTestCmd(), rulesPackCmd())
	return cmd
}

// maxRuleFile bounds what is read into memory.
const maxRuleFile = 16 << 20

func readRules(path string) ([]rules.Group, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxRuleFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return rules.ParseFile(data)
}

func rulesCheckCmd() *cobra.Command {
	var record bool
	cmd := &cobra.Command{
		Use: "check FILE…", Args: cobra.MinimumNArgs(1),
		Short: "Say what is wrong with rule files; exit code 1 when anything is",
		RunE: func(cmd *cobra.Command, args []string) error {
			failed := false
			for _, path := range args {
				groups, err := readRules(path)
				if err != nil {
					failed = true
					var inv model.Invalid
					if !errors.As(err, &inv) {
						inv.AddErr("", err)
					}
					for _, f := range inv {
						fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", path, printable(f.Error()))
					}
					continue
				}
				if record {
					name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
					if err := printRecord(cmd.OutOrStdout(), name, groups); err != nil {
						return err
					}
					continue
				}
				n := 0
				for _, g := range groups {
					n += len(g.Rules)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d groups, %d rules, all well\n", path, len(groups), n)
			}
			if failed {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&record, "record", false, "print them as documents for apply")
	return cmd
}

// printRecord prints groups as a document that apply takes.
func printRecord(w io.Writer, name string, groups []rules.Group) error {
	spec, err := json.Marshal(map[string]any{"groups": groups})
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	text, err := model.Document{Kind: model.KindRules, Name: name, Spec: spec}.YAML()
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	_, err = fmt.Fprintf(w, "---\n%s", text)
	return err
}

func rulesTestCmd() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "test FILE…", Args: cobra.MinimumNArgs(1),
		Short: "Run unit tests of rules in promtool's format; exit code 1 when one fails",
		RunE: func(cmd *cobra.Command, args []string) error {
			type line struct {
				File   string   `json:"file"`
				Test   string   `json:"test,omitempty"`
				Passed bool     `json:"passed"`
				Faults []string `json:"faults,omitempty"`
			}
			var lines []line
			failed := 0
			for _, path := range args {
				results, err := rules.TestFile(cmd.Context(), path)
				if err != nil {
					failed++
					lines = append(lines, line{File: path, Faults: []string{err.Error()}})
				}
				for _, r := range results {
					if len(r.Faults) > 0 {
						failed++
					}
					lines = append(lines, line{path, r.Name, len(r.Faults) == 0, r.Faults})
				}
			}
			w := cmd.OutOrStdout()
			if out.json() {
				if err := out.printJSON(w, lines); err != nil {
					return err
				}
			} else {
				for _, l := range lines {
					for _, f := range l.Faults {
						fmt.Fprintf(w, "FAILED  %s  %s\n  %s\n", l.File, l.Test, strings.ReplaceAll(f, "\n", "\n  "))
					}
				}
				fmt.Fprintf(w, "%d tests, %d failed\n", len(lines), failed)
			}
			if failed > 0 {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	out.flag(cmd)
	return cmd
}

func rulesPackCmd() *cobra.Command {
	var record bool
	cmd := &cobra.Command{
		Use: "pack [NAME]", Args: cobra.MaximumNArgs(1),
		Short: "List the rule packs, or print one",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				var rows [][]string
				for _, name := range packs.Names() {
					rows = append(rows, []string{name, packs.About(name)})
				}
				return table(cmd.OutOrStdout(), "there are no packs", []string{"PACK", "RULES ABOUT"}, rows)
			}
			data, err := packs.Read(args[0])
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if !record {
				_, err = cmd.OutOrStdout().Write(data)
				return err
			}
			groups, err := rules.ParseFile(data)
			if err != nil {
				return fmt.Errorf("rule pack %s: %w", args[0], err)
			}
			return printRecord(cmd.OutOrStdout(), args[0], groups)
		},
	}
	cmd.Flags().BoolVar(&record, "record", false, "print it as a document for apply")
	return cmd
}
