package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// confirm asks before something that cannot be undone; no answer means no.
func confirm(cmd *cobra.Command, question, undone string) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := readLine(cmd.InOrStdin())
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
		return &exitError{exitFailed, fmt.Errorf("%s (answer y, or give --yes)", undone)}
	}
	return nil
}

func nodeCheckCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "check", Args: cobra.NoArgs,
		Short: "Compare the copies of all servers now and repair what differs; exit code 1 when something stays different",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var raw json.RawMessage
			if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/cluster/check", timeout: 11 * time.Minute}, &raw); err != nil {
				return err
			}
			var r struct {
				Windows, Mismatches, Repaired int
				Seconds                       float64
			}
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("decode report: %w", err)
			}
			w := cmd.OutOrStdout()
			if out.json() {
				if err := out.printJSON(w, raw); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(w, "%d windows compared in %.1f s: %d differed, %d repaired\n", r.Windows, r.Seconds, r.Mismatches, r.Repaired)
			}
			if r.Mismatches > r.Repaired {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	out.flag(cmd)
	return cmd
}

func caCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Show the certificate authority and change its root",
		Long: `All traffic between our processes is mutual TLS under one root certificate. To
change the root: rotate, wait until status says ready (all nodes have got
certificates of the new root, half a day at most), finish. Tokens that were made
before carry the old root and are worth nothing after finish.`,
		Example: "  panoptes node ca status\n  panoptes node ca rotate\n  panoptes node ca finish",
	}
	cmd.AddCommand(
		caDoCmd(c, "status", "Show the roots and whether a change is under way", http.MethodGet, "", ""),
		caDoCmd(c, "rotate", "Begin to change the root; both are believed until finish", http.MethodPost, "/rotate", ""),
		caDoCmd(c, "finish", "End the change: the old root is worth nothing any more", http.MethodPost, "/finish", "end the change of the root? Nodes without a certificate of the new root are locked out."),
	)
	return cmd
}

func caDoCmd(c *client, verb, short, method, path, question string) *cobra.Command {
	var out output
	var yes bool
	cmd := &cobra.Command{
		Use: verb, Args: cobra.NoArgs, Short: short,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if question != "" && !yes {
				if err := confirm(cmd, question, "nothing changed"); err != nil {
					return err
				}
			}
			var raw json.RawMessage
			if _, err := c.do(cmd.Context(), request{method: method, path: "/v1/cluster/ca" + path}, &raw); err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), raw)
			}
			return printCA(cmd.OutOrStdout(), raw)
		},
	}
	if question != "" {
		cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	}
	out.flag(cmd)
	return cmd
}

func printCA(w io.Writer, raw json.RawMessage) error {
	var ca struct {
		Roots []struct {
			Subject  string
			NotAfter time.Time `json:"not_after"`
			KeyHash  string    `json:"key_hash"`
			Current  bool
		}
		State   string
		Ready   bool
		Waiting []string
	}
	if err := json.Unmarshal(raw, &ca); err != nil {
		return fmt.Errorf("decode certificate authority: %w", err)
	}
	say := ca.State
	switch {
	case ca.State == "rotating" && ca.Ready:
		say = "rotating; ready: end it with `panoptes node ca finish`"
	case ca.State == "rotating" && len(ca.Waiting) > 0:
		say = "rotating; these servers have not followed yet: " + printable(strings.Join(ca.Waiting, ", ")) +
			"\nstart them; remove one that is gone, or that never finished joining, with `panoptes node remove NAME`"
	case ca.State == "rotating":
		say = "rotating; not all nodes have a certificate of the new root yet"
	}
	fmt.Fprintln(w, say)
	rows := make([][]string, 0, len(ca.Roots))
	for _, r := range ca.Roots {
		current := "-"
		if r.Current {
			current = "signs"
		}
		rows = append(rows, []string{r.Subject, r.NotAfter.Local().Format("2006-01-02"), r.KeyHash, current})
	}
	return table(w, "no roots", []string{"ROOT", "UNTIL", "KEY", ""}, rows)
}

// clusterView is what status tells of the cluster; nil parts were not told.
type clusterView struct {
	Cluster json.RawMessage
	Nodes   json.RawMessage
}

// clusterOf asks for the cluster. A server without one, and a caller without
// rights, get nothing; that is no error of status.
func (c *client) clusterOf(cmd *cobra.Command) (v clusterView, err error) {
	var l struct{ Items json.RawMessage }
	for _, ask := range []struct {
		path string
		out  any
	}{{"/v1/cluster", &v.Cluster}, {"/v1/nodes", &l}} {
		_, err := c.do(cmd.Context(), request{path: ask.path}, ask.out)
		var e *apiError
		if errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) {
			return clusterView{}, nil
		}
		if err != nil {
			return clusterView{}, err
		}
	}
	v.Nodes = l.Items
	return v, nil
}

// print writes the servers below the health of the one that was asked.
func (v clusterView) print(w io.Writer) error {
	if v.Cluster == nil || v.Nodes == nil {
		return nil
	}
	var info struct {
		Leader, Reason string
		Writable       bool
		Split          bool
		Voters, Quorum int
		Advice         []struct{ Message string }
	}
	if err := json.Unmarshal(v.Cluster, &info); err != nil {
		return fmt.Errorf("decode cluster: %w", err)
	}
	var list []node
	if err := json.Unmarshal(v.Nodes, &list); err != nil {
		return fmt.Errorf("decode nodes: %w", err)
	}
	fmt.Fprintln(w)
	switch {
	case info.Writable:
		fmt.Fprintf(w, "configuration can be changed; %s leads, %d of %d voters are needed\n", printable(info.Leader), info.Quorum, info.Voters)
	default:
		fmt.Fprintf(w, "configuration CANNOT be changed here: %s; watching and warning go on\n", printable(first(info.Reason, "no majority of the voters is reached")))
	}
	if info.Split {
		fmt.Fprintln(w, "NOT ALL SERVERS ARE REACHED: they are down, or the network between is cut; what is reached watches and warns, and all unite afterwards")
	}
	if err := nodeTable(w, list); err != nil {
		return err
	}
	for _, a := range info.Advice {
		fmt.Fprintln(w, "advice:", printable(a.Message))
	}
	return nil
}
