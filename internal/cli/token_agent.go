package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

// install is what the API tells of installing agents.
type install struct {
	Linux      string   `json:"linux"`
	OpenRC     string   `json:"openrc"`
	Docker     string   `json:"docker"`
	Kubernetes string   `json:"kubernetes"`
	Windows    string   `json:"windows"`
	Warning    string   `json:"warning"`
	Platforms  []string `json:"platforms"`
}

// lines returns what is run on a kind of host.
func (i install) lines(target string) (string, bool) {
	switch target {
	case "", "linux":
		return i.Linux, true
	case "openrc":
		return i.OpenRC, true
	case "docker":
		return i.Docker, true
	case "kubernetes":
		return i.Kubernetes, true
	case "windows":
		return i.Windows, true
	}
	return "", false
}

// printInstall prints the lines that install agents with a token that was just made.
func (c *client) printInstall(cmd *cobra.Command, out output, t token, target string) error {
	var in install
	// In the body: addresses stand in the logs of proxies.
	body := map[string]any{"token": t.Token, "region": t.Region, "checks": t.Checks}
	_, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/agent-install", body: body}, &in)
	t.Command, _ = in.lines(target)
	if err != nil || t.Command == "" {
		// The token is made and will not be shown again: it must not be lost to this.
		if t.Command, err = c.joinCommand(cmd, t); err != nil {
			t.Command = joinCommand(t, "HOST:9701")
		}
	}
	w := cmd.OutOrStdout()
	if in.Warning != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "Warning:", printable(in.Warning))
	}
	if out.json() {
		return out.printJSON(w, t)
	}
	if quiet, err := cmd.Flags().GetBool("quiet"); err == nil && quiet {
		_, err = fmt.Fprintln(w, t.Command)
		return err
	}
	where := "On each host, as root:"
	switch target {
	case "docker":
		where = "On each host with Docker:"
	case "kubernetes":
		where = "For kubectl apply -f -:"
	case "windows":
		where = "On each host, in a PowerShell of an administrator:"
	}
	_, err = fmt.Fprintf(w, "%s\n\nFor %s, until %s. It is shown this once.\n%s\n\n%s\n", t.Token, usesOf(t), t.Expires.Local().Format("2006-01-02 15:04"), where, t.Command)
	return err
}
