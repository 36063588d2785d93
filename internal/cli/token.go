package cli

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// token is what the API tells of a token.
type token struct {
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Region  string    `json:"region"`
	Checks  bool      `json:"checks,omitempty"`
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"`
	Used    []string  `json:"used"`
	Created time.Time `json:"created_at"`
	Expired bool      `json:"expired"`
	Token   string    `json:"token,omitempty"`
	Command string    `json:"command,omitempty"` // made here
}

func tokenCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens that let servers and agents join",
		Example: `  panoptes token create
  panoptes token create --role witness --region c
  panoptes token create --role agent --region eu --ttl 24h --uses 20
  panoptes token create --role agent --region eu --checks
  panoptes token list
  panoptes token revoke 01JD3W…`,
	}
	cmd.AddCommand(tokenCreateCmd(c), tokenListCmd(c), tokenRevokeCmd(c))
	return cmd
}

func tokenCreateCmd(c *client) *cobra.Command {
	var out output
	var role, region, ttl, target string
	var uses int
	var quiet, checks bool
	cmd := &cobra.Command{
		Use: "create", Aliases: []string{"add", "new"}, Args: cobra.NoArgs,
		Short: "Make a token and show the command for the other machine",
		Long: `Make a token that lets another machine join this cluster, and print the command
to run there. The token is shown this once; who has it can join until it has
expired, is used up or is revoked.

With --checks the hosts that join with it run checks: they are given those of
the region, with their passwords, and vote for the region. Without it a host runs
none, whatever its own file says; "panoptes host checks" changes that later.`,
		Example: `  panoptes token create                          # for one server, within an hour
  panoptes token create --role witness --ttl 10m
  panoptes token create --role agent --region eu --uses 20
  panoptes token create --role agent --region eu --checks   # hosts that run checks from there
  panoptes token create --role agent --for kubernetes --quiet | kubectl apply -f -
  TOKEN=$(panoptes token create --quiet)`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if target != "" && role != "agent" {
				return &exitError{exitUsage, errors.New("--for is about agents; add --role agent")}
			}
			if checks && role != "agent" {
				return &exitError{exitUsage, errors.New("--checks is about agents, servers run checks anyway; add --role agent")}
			}
			if checks && region == "" {
				return &exitError{exitUsage, errors.New("--checks: name the region with --region: the hosts vote for it")}
			}
			if _, ok := (install{}).lines(target); !ok {
				return &exitError{exitUsage, fmt.Errorf("--for: %q is not known; there is linux, openrc, docker, kubernetes, windows", target)}
			}
			body := map[string]any{"role": role}
			if region != "" {
				body["region"] = region
			}
			if checks {
				body["checks"] = true
			}
			if ttl != "" {
				body["ttl"] = ttl
			}
			if cmd.Flags().Changed("uses") {
				body["uses"] = uses
			}
			var t token
			if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/tokens", body: body}, &t); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if quiet && target == "" {
				_, err := fmt.Fprintln(w, t.Token)
				return err
			}
			var err error
			if role == "agent" {
				return c.printInstall(cmd, out, t, target)
			}
			if t.Command, err = c.joinCommand(cmd, t); err != nil {
				// The token is made and will not be shown again: it must not be lost to this.
				t.Command = joinCommand(t, "HOST:9701")
			}
			if out.json() {
				return out.printJSON(w, t)
			}
			_, err = fmt.Fprintf(w, "%s\n\nFor %s, until %s. It is shown this once.\nOn the other machine:\n\n  %s\n",
				t.Token, usesOf(t), t.Expires.Local().Format("2006-01-02 15:04"), t.Command)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&role, "role", "server", "what joins with it: server, witness (votes only) or agent")
	f.StringVar(&region, "region", "", "only for this region (default: the machine names its own)")
	f.StringVar(&ttl, "ttl", "", "how long it is good, 1m to 30d (default 1h)")
	f.BoolVar(&checks, "checks", false, "hosts that join with it run the checks of --region, see their passwords and vote")
	f.IntVar(&uses, "uses", 0, "how many may join with it (default 1, for agents 100)")
	f.BoolVarP(&quiet, "quiet", "q", false, "print the token alone")
	f.StringVar(&target, "for", "", "where the agent is to run: linux, openrc, docker, kubernetes or windows (default linux)")
	out.flag(cmd)
	return cmd
}

func usesOf(t token) string {
	what := t.Role
	if t.Uses != 1 {
		what = fmt.Sprintf("%d %s", t.Uses, plural(t.Role))
	} else {
		what = "one " + what
	}
	if t.Region != "" {
		what += " in the region " + printable(t.Region)
	}
	if t.Checks {
		what += ", with the checks of that region"
	}
	return what
}

func plural(role string) string {
	if role == "witness" {
		return "witnesses"
	}
	return role + "s"
}

// joinCommand asks where the servers are reached and returns the command for
// the machine that is to join.
func (c *client) joinCommand(cmd *cobra.Command, t token) (string, error) {
	var l struct{ Items []node }
	if _, err := c.do(cmd.Context(), request{path: "/v1/nodes"}, &l); err != nil {
		return "", err
	}
	addr := ""
	for _, n := range l.Items {
		if n.Role != "agent" && n.State == "alive" && n.Addresses.Cluster != "" && (addr == "" || n.Self) {
			addr = n.Addresses.Cluster
		}
	}
	if addr == "" {
		server, _ := c.where()
		u, err := url.Parse(server)
		if err != nil {
			return "", err
		}
		addr = net.JoinHostPort(u.Hostname(), "9701")
	}
	return joinCommand(t, addr), nil
}

func joinCommand(t token, addr string) string {
	region := quote(first(t.Region, "REGION"))
	switch t.Role {
	case "agent":
		line := fmt.Sprintf("panoptes-agent --region %s --join %s --token %s", region, quote(addr), t.Token)
		if t.Checks {
			line += " --checks"
		}
		return line
	case "witness":
		return fmt.Sprintf("panoptes server --witness --node NAME --region %s --data-dir /var/lib/panoptes --bind ADDRESS --join %s --token %s", region, quote(addr), t.Token)
	}
	return fmt.Sprintf("panoptes server --node NAME --region %s --data-dir /var/lib/panoptes --bind ADDRESS --join %s --token %s", region, quote(addr), t.Token)
}

// quote protects a word of a command line for a POSIX shell where it needs it.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("._-:/@+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}

func tokenListCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List the tokens; their secrets are kept nowhere",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l struct {
				Items []token `json:"items"`
			}
			if _, err := c.do(cmd.Context(), request{path: "/v1/tokens"}, &l); err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), l.Items)
			}
			rows := make([][]string, 0, len(l.Items))
			for _, t := range l.Items {
				expires := ago(t.Expires.Format(time.RFC3339))
				if t.Expired {
					expires = "expired"
				}
				rows = append(rows, []string{t.ID, t.Role, first(t.Region, "*"), yes(t.Checks), expires, fmt.Sprint(t.Uses), fmt.Sprint(len(t.Used))})
			}
			return table(cmd.OutOrStdout(), "no tokens; make one with `panoptes token create`", []string{"ID", "ROLE", "REGION", "CHECKS", "EXPIRES", "USES LEFT", "JOINED"}, rows)
		},
	}
	out.flag(cmd)
	return cmd
}

// yes fills a column of a table that most rows leave empty.
func yes(v bool) string {
	if v {
		return "yes"
	}
	return "-"
}

func tokenRevokeCmd(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID…", Aliases: []string{"remove", "rm", "delete"}, Args: cobra.MinimumNArgs(1),
		Short: "Revoke tokens; who joined with them stays",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				if _, err := c.do(cmd.Context(), request{method: http.MethodDelete, path: "/v1/tokens/" + url.PathEscape(id)}, nil); err != nil {
					return fmt.Errorf("revoke token %s: %w", id, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "token %s revoked\n", printable(id))
			}
			return nil
		},
	}
}
