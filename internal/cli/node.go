package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"panoptes/internal/model"
)

// node is what the API tells of a server, witness or agent.
type node struct {
	ID        string
	Name      string
	Role      string
	Region    string
	Labels    map[string]string
	Version   string
	Addresses model.Addresses
	State     string
	Since     time.Time
	Started   time.Time
	Joined    time.Time
	Self      bool
	Revoked   bool
	Draining  bool
	Control   string
	Load      float64
	Lag       float64 `json:"lag_seconds"`
	Behind    bool
	Skew      float64 `json:"skew_seconds"`
	Health    *struct {
		Status string
		Score  int
	}
	Views map[string]string
	Relay []struct {
		To        string
		Bytes     int64
		Oldest    *time.Time
		Connected bool
		Dropped   bool
		Error     string
	}
	Copy *struct {
		Copying    bool
		Source     string
		Done       int64
		Total      int64
		Complete   bool
		LastCheck  *time.Time `json:"last_check"`
		Mismatches int
		Repaired   int
	}
	Checks int
}

func nodeCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "node", Aliases: []string{"nodes"},
		Short: "Show, drain and remove servers and agents",
		Example: `  panoptes node list
  panoptes node show n2
  panoptes node drain n2            # before maintenance; --undo afterwards
  panoptes node remove n2           # for good
  panoptes node check               # compare the copies of all servers now
  panoptes node ca status`,
	}
	cmd.AddCommand(nodeListCmd(c), nodeShowCmd(c), nodeDrainCmd(c), nodeRemoveCmd(c),
		nodeDoCmd(c, "promote", "Make a learner of the configuration store a voter", "%s votes now\n"),
		nodeDoCmd(c, "leader", "Make a voter the leader of the configuration store", "%s leads now\n"),
		nodeCheckCmd(c), caCmd(c))
	return cmd
}

func nodeListCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List servers, witnesses and agents with their state",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out.json() {
				var l struct {
					Items []map[string]any `json:"items"`
				}
				if _, err := c.do(cmd.Context(), request{path: "/v1/nodes"}, &l); err != nil {
					return err
				}
				return out.printJSON(cmd.OutOrStdout(), l.Items)
			}
			var l struct{ Items []node }
			if _, err := c.do(cmd.Context(), request{path: "/v1/nodes"}, &l); err != nil {
				return err
			}
			return nodeTable(cmd.OutOrStdout(), l.Items)
		},
	}
	out.flag(cmd)
	return cmd
}

func nodeTable(w io.Writer, list []node) error {
	rows := make([][]string, 0, len(list))
	for _, n := range list {
		score := "-"
		if n.Health != nil {
			score = fmt.Sprint(n.Health.Score)
		}
		load := "-"
		if n.State == "alive" {
			load = fmt.Sprintf("%.0f %%", 100*n.Load)
		}
		rows = append(rows, []string{n.Name, n.Role, n.Region, n.State, n.Control, n.Version, load, sizeOf(n.backlog()), score, fmt.Sprint(n.Checks), n.notes()})
	}
	return table(w, "no servers", []string{"NAME", "ROLE", "REGION", "STATE", "CONTROL", "VERSION", "LOAD", "BACKLOG", "SCORE", "CHECKS", "NOTES"}, rows)
}

// backlog is what a node still holds for others, in bytes.
func (n node) backlog() (sum int64) {
	for _, r := range n.Relay {
		sum += r.Bytes
	}
	return sum
}

// notes tells what is special about a node.
func (n node) notes() string {
	var out []string
	if n.Self {
		out = append(out, "asked")
	}
	if n.State != "alive" && !n.Since.IsZero() {
		out = append(out, n.State+" for "+ago(n.Since.Format(time.RFC3339)))
	}
	if n.Draining {
		out = append(out, "draining")
	}
	if n.Revoked {
		out = append(out, "removed")
	}
	if n.Behind {
		out = append(out, "behind")
	}
	if n.Copy != nil && n.Copy.Copying {
		out = append(out, "copying "+n.progress())
	}
	var cut []string
	for _, other := range slices.Sorted(maps.Keys(n.Views)) {
		if v := n.Views[other]; v == "suspect" || v == "dead" {
			cut = append(cut, other)
		}
	}
	if len(cut) > 0 {
		out = append(out, "does not see "+strings.Join(cut, " "))
	}
	return cmp.Or(strings.Join(out, ", "), "-")
}

func (n node) progress() string {
	if n.Copy.Total <= 0 {
		return "from " + n.Copy.Source
	}
	return fmt.Sprintf("%d %% from %s", 100*n.Copy.Done/n.Copy.Total, n.Copy.Source)
}

func sizeOf(b int64) string {
	switch {
	case b < 1000:
		return fmt.Sprintf("%d B", b)
	case b < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(b)/1e3)
	case b < 1000_000_000:
		return fmt.Sprintf("%.1f MB", float64(b)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(b)/1e9)
}

func nodePath(name string) string { return "/v1/nodes/" + url.PathEscape(name) }

func nodeShowCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "show NAME", Args: cobra.ExactArgs(1),
		Short: "Show one node: addresses, whom it sees, what it holds for others",
		RunE: func(cmd *cobra.Command, args []string) error {
			w := cmd.OutOrStdout()
			if out.json() {
				var m map[string]any
				if _, err := c.do(cmd.Context(), request{path: nodePath(args[0])}, &m); err != nil {
					return err
				}
				return out.printJSON(w, m)
			}
			var n node
			if _, err := c.do(cmd.Context(), request{path: nodePath(args[0])}, &n); err != nil {
				return err
			}
			return n.print(w)
		},
	}
	out.flag(cmd)
	return cmd
}

// print writes everything about a node for people.
func (n node) print(w io.Writer) error {
	score := "it has not answered"
	if n.Health != nil {
		score = fmt.Sprintf("%s, score %d of 100", n.Health.Status, n.Health.Score)
	}
	since := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprintf("%s (%s)", t.Local().Format("2006-01-02 15:04:05"), ago(t.Format(time.RFC3339)))
	}
	labels := make([]string, 0, len(n.Labels))
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		labels = append(labels, k+"="+n.Labels[k])
	}
	rows := [][]string{
		{"role", n.Role}, {"region", n.Region}, {"state", n.State + ", since " + since(n.Since)}, {"notes", n.notes()}, {"health", score},
		{"configuration", n.Control}, {"version", cmp.Or(n.Version, "-")}, {"started", since(n.Started)}, {"joined", since(n.Joined)},
		{"checks", fmt.Sprint(n.Checks)}, {"load", fmt.Sprintf("%.0f %%", 100*n.Load)}, {"oldest undelivered", fmt.Sprintf("%.1f s", n.Lag)},
		{"clock", fmt.Sprintf("%+.3f s", n.Skew)}, {"labels", cmp.Or(strings.Join(labels, " "), "-")}, {"id", n.ID},
	}
	for _, a := range [][2]string{{"cluster", n.Addresses.Cluster}, {"gossip", n.Addresses.Gossip}, {"peer", n.Addresses.Peer}, {"client", n.Addresses.Client}, {"http", n.Addresses.HTTP}} {
		if a[1] != "" {
			rows = append(rows, []string{a[0] + " address", a[1]})
		}
	}
	if cp := n.Copy; cp != nil {
		whole := "complete"
		switch {
		case cp.Copying:
			whole = "copying " + n.progress()
		case !cp.Complete:
			whole = "not complete"
		}
		if cp.LastCheck != nil {
			whole += fmt.Sprintf("; compared %s ago: %d differed, %d repaired", ago(cp.LastCheck.Format(time.RFC3339)), cp.Mismatches, cp.Repaired)
		}
		rows = append(rows, []string{"copies", whole})
	}
	if err := table(w, "", []string{strings.ToUpper(printable(n.Name)), ""}, rows); err != nil {
		return err
	}
	if len(n.Views) > 0 {
		rows = nil
		for _, other := range slices.Sorted(maps.Keys(n.Views)) {
			rows = append(rows, []string{other, n.Views[other]})
		}
		fmt.Fprintln(w)
		if err := table(w, "", []string{"SEES", "STATE"}, rows); err != nil {
			return err
		}
	}
	if len(n.Relay) == 0 {
		return nil
	}
	rows = nil
	for _, r := range n.Relay {
		oldest, state := "-", "connected"
		if r.Oldest != nil {
			oldest = ago(r.Oldest.Format(time.RFC3339))
		}
		switch {
		case !r.Connected:
			state = cmp.Or(r.Error, "not connected")
		case r.Error != "":
			state = "takes nothing: " + r.Error
		}
		if r.Dropped {
			state += "; some was dropped, it copies that"
		}
		rows = append(rows, []string{r.To, sizeOf(r.Bytes), oldest, state})
	}
	fmt.Fprintln(w)
	return table(w, "", []string{"HOLDS FOR", "BYTES", "OLDEST", "STATE"}, rows)
}

func nodeDrainCmd(c *client) *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use: "drain NAME…", Args: cobra.MinimumNArgs(1),
		Short: "Take the work from nodes, before maintenance",
		Long: `Take the work from nodes: their checks, decisions and rules move to others within
seconds. They go on storing and answering. --undo gives them work again.`,
		Example: "  panoptes node drain n2\n  panoptes node drain n2 --undo",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: nodePath(name) + "/drain", body: map[string]any{"draining": !undo}}, nil); err != nil {
					return fmt.Errorf("drain %s: %w", name, err)
				}
				msg := "%s gets no work any more\n"
				if undo {
					msg = "%s gets work again\n"
				}
				fmt.Fprintf(cmd.OutOrStdout(), msg, printable(name))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "give it work again")
	return cmd
}

func nodeRemoveCmd(c *client) *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use: "remove NAME…", Aliases: []string{"rm", "delete"}, Args: cobra.MinimumNArgs(1),
		Short: "Remove nodes for good: their certificates are worth nothing any more",
		Long: `Remove nodes for good, for example machines that will not come back. They leave
the configuration store and their certificates are revoked. A machine that was
removed joins again with a new token and an empty data directory.

A node that is alive is refused; drain and stop it first, or use --force.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := confirm(cmd, fmt.Sprintf("remove %s for good?", printable(strings.Join(args, ", "))), "nothing removed"); err != nil {
					return err
				}
			}
			for _, name := range args {
				path := nodePath(name)
				if force {
					path += "?force=true"
				}
				if _, err := c.do(cmd.Context(), request{method: http.MethodDelete, path: path}, nil); err != nil {
					return fmt.Errorf("remove %s: %w", name, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s removed\n", printable(name))
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "also when it is alive")
	return cmd
}

func nodeDoCmd(c *client, verb, short, done string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME", Args: cobra.ExactArgs(1), Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: nodePath(args[0]) + "/" + verb}, nil); err != nil {
				return fmt.Errorf("%s %s: %w", verb, args[0], err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), done, printable(args[0]))
			return err
		},
	}
}
