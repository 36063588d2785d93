package cli

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

// hostChecksCmd lets a host run checks, or does not any more.
func hostChecksCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "checks NAME on|off", Args: cobra.ExactArgs(2),
		Short: "Let a host run checks from where it is, or not any more",
		Long: `Let a host run checks from where it is, or not any more; it learns it at once. A
host that may is given the checks of its region, with their passwords, and votes
for the region: allow it for hosts that you trust with both. Its own file must
offer it as well (--checks, or checks.enabled).

What was taken from a host comes back when it joins with another token that was
made with --checks; see "panoptes token list".`,
		Example: `  panoptes host checks web-1 on
  panoptes host checks web-1 off`,
		RunE: func(cmd *cobra.Command, args []string) error {
			allow := args[1] == "on"
			if !allow && args[1] != "off" {
				return &exitError{exitUsage, errors.New("say on or off: panoptes host checks NAME on")}
			}
			var h host
			if _, err := c.do(cmd.Context(), request{method: http.MethodPatch, path: hostPath(args[0]), body: map[string]any{"checks": allow}}, &h); err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), map[string]any{"id": h.ID, "name": h.Name, "checks": h.Checks, "checks_allowed": h.ChecksAllowed, "checks_offered": h.ChecksOffered})
			}
			msg := "%s may run checks of the region %s\n"
			switch {
			case !allow:
				msg = "%s may not run checks of the region %s any more\n"
			case !h.ChecksOffered:
				msg += "Its agent does not offer it yet: switch it on there with --checks, or checks.enabled in its file.\n"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), msg, printable(h.Name), printable(h.Region))
			return err
		},
	}
	out.flag(cmd)
	return cmd
}

// checks says whether a host runs checks: the servers must allow it, and its own
// file must offer it.
func (h host) checks() string {
	switch {
	case h.ChecksAllowed && h.ChecksOffered:
		return "yes"
	case h.ChecksAllowed:
		return "allowed"
	case h.ChecksOffered:
		return "offered"
	}
	return "-"
}

// checksLong is the same in words.
func (h host) checksLong() string {
	switch h.checks() {
	case "yes":
		return "yes"
	case "allowed":
		return "no: the servers allow it, its agent does not offer it (checks.enabled in its own file)"
	case "offered":
		return "no: its agent offers to, the servers do not allow it (panoptes host checks NAME on)"
	}
	return "no"
}
