package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// strict makes wrong usage of cmd and all below it end with exitUsage and a
// pointer to the help. A command that only holds others tells its help when
// called alone and refuses words it does not know.
func strict(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
	args := cmd.Args
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		args = knownCommand
	}
	if args == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return &exitError{exitUsage, fmt.Errorf("%w\nSee %q", err, cmd.CommandPath()+" --help")}
		}
		return nil
	}
}

func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2
	}
	near := ""
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		near = fmt.Sprintf("; did you mean %q?", s[0])
	}
	return fmt.Errorf("%q has no command %q%s", cmd.CommandPath(), args[0], near)
}
