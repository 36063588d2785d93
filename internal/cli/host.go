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

// host is what the API tells of a host with an agent.
type host struct {
	model.Host
	Groups   []string         `json:"groups"`
	Alerts   int              `json:"alerts"`
	Usage    *model.HostUsage `json:"usage"`
	Settings struct {
		Interval   model.Duration    `json:"interval"`
		Collectors map[string]bool   `json:"collectors"`
		Labels     map[string]string `json:"labels"`
		Processes  []string          `json:"processes"`
	} `json:"settings"`
	Actions bool `json:"actions"`
}

func hostCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "host", Aliases: []string{"hosts"},
		Short: "Show hosts with agents, label and remove them, let them run checks",
		Long: `Show hosts with agents, label and remove them, let them run checks. "panoptes
token create --role agent" makes a token that lets agents join.`,
		Example: `  panoptes host list --status down,unknown
  panoptes host list -q team:web --sort -cpu
  panoptes host show web-1
  panoptes host live web-1                  # until Ctrl-C
  panoptes host labels web-1 rack=7 old-    # sets rack, takes away old
  panoptes host checks web-1 on             # it may run checks from where it is
  panoptes host group list
  panoptes host remove web-1                # for good`,
	}
	cmd.AddCommand(hostListCmd(c), hostShowCmd(c), hostLiveCmd(c), hostLabelsCmd(c), hostChecksCmd(c), hostRemoveCmd(c), hostActionCmd(c), hostGroupCmd(c))
	return cmd
}

func hostPath(name string) string { return "/v1/hosts/" + url.PathEscape(name) }

func hostListCmd(c *client) *cobra.Command {
	var out output
	var q, status, region, group, sort string
	var labels []string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List hosts with their state and how busy they are",
		Example: `  panoptes host list
  panoptes host list --status down,unknown
  panoptes host list --label team=web --region eu --sort -memory
  panoptes host list -q "db prod" -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"label": labels}
			for k, v := range map[string]string{"q": q, "status": status, "region": region, "group": group, "sort": sort} {
				if v != "" {
					query.Set(k, v)
				}
			}
			if out.json() {
				items, err := c.list(cmd.Context(), "/v1/hosts", query)
				if err != nil {
					return err
				}
				if items == nil {
					items = []map[string]any{}
				}
				return out.printJSON(cmd.OutOrStdout(), items)
			}
			var rows [][]string
			query.Set("limit", "500")
			for {
				var page struct {
					Items []host
					Next  string
				}
				if _, err := c.do(cmd.Context(), request{path: "/v1/hosts?" + query.Encode()}, &page); err != nil {
					return err
				}
				for _, h := range page.Items {
					rows = append(rows, h.row())
				}
				if page.Next == "" {
					break
				}
				query.Set("cursor", page.Next)
			}
			return table(cmd.OutOrStdout(), "no hosts; \"panoptes token create --role agent\" makes a token for an agent",
				[]string{"NAME", "REGION", "STATE", "SINCE", "CPU", "MEMORY", "DISK", "LOAD", "IN", "OUT", "ALERTS", "CHECKS", "VERSION", "MESSAGE"}, rows)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q, "query", "q", "", "words that must all occur; -word must not; field:word looks at one field")
	f.StringVar(&status, "status", "", "online, unknown, down, stopped; several with commas")
	f.StringVar(&region, "region", "", "hosts of a region")
	f.StringVar(&group, "group", "", "hosts of a group")
	f.StringArrayVarP(&labels, "label", "l", nil, "a label as name=value; may be repeated")
	f.StringVar(&sort, "sort", "", "name, status, since, cpu, memory, disk, load or network; with - in front for the reverse")
	out.flag(cmd)
	return cmd
}

func (h host) row() []string {
	u := h.Usage
	if u == nil {
		u = &model.HostUsage{}
	}
	return []string{
		h.Name, h.Region, string(h.Status), ago(h.Since.Format(time.RFC3339)), percent(u.CPU), percent(u.Memory), percent(u.Disk), figure(u.Load1),
		perSecond(u.RxBytes), perSecond(u.TxBytes), fmt.Sprint(h.Alerts), h.checks(), cmp.Or(h.Version, "-"), cmp.Or(h.Message, "-"),
	}
}

func percent(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100**v)
}

func figure(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", *v)
}

func perSecond(v *float64) string {
	if v == nil {
		return "-"
	}
	return sizeOf(int64(*v)) + "/s"
}

func hostShowCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "show NAME", Args: cobra.ExactArgs(1),
		Short:   "Show one host: state, evidence, usage, settings",
		Example: "  panoptes host show web-1\n  panoptes host show web-1 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			w := cmd.OutOrStdout()
			if out.json() {
				var m map[string]any
				if _, err := c.do(cmd.Context(), request{path: hostPath(args[0])}, &m); err != nil {
					return err
				}
				return out.printJSON(w, m)
			}
			var h host
			if _, err := c.do(cmd.Context(), request{path: hostPath(args[0])}, &h); err != nil {
				return err
			}
			return h.print(w)
		},
	}
	out.flag(cmd)
	return cmd
}

func pairs(m map[string]string) string {
	list := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, k+"="+m[k])
	}
	return cmp.Or(strings.Join(list, " "), "-")
}

func (h host) print(w io.Writer) error {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprintf("%s (%s ago)", t.Local().Format("2006-01-02 15:04:05"), ago(t.Format(time.RFC3339)))
	}
	u := h.Usage
	if u == nil {
		u = &model.HostUsage{}
	}
	memory := percent(u.Memory)
	if u.MemoryBytes > 0 {
		memory += " of " + sizeOf(int64(u.MemoryBytes))
	}
	processor := percent(u.CPU)
	if u.Cores > 0 {
		processor += fmt.Sprintf(" of %d cores", u.Cores)
	}
	processor += ", load " + figure(u.Load1)
	var collectors []string
	for _, k := range slices.Sorted(maps.Keys(h.Settings.Collectors)) {
		collectors = append(collectors, map[bool]string{true: "+", false: "-"}[h.Settings.Collectors[k]]+k)
	}
	interval := "as its own file says"
	if h.Settings.Interval > 0 {
		interval = h.Settings.Interval.String()
	}
	rows := [][]string{
		{"state", string(h.Status) + ", since " + at(h.Since)}, {"message", cmp.Or(h.Message, "-")}, {"region", h.Region}, {"labels", pairs(h.Labels)},
		{"groups", cmp.Or(strings.Join(h.Groups, " "), "-")}, {"alerts", fmt.Sprint(h.Alerts)}, {"last seen", at(h.LastSeen)},
		{"connected", at(h.Connected)}, {"system", strings.TrimSpace(h.OS + " " + h.Arch)}, {"host name", cmp.Or(h.Hostname, "-")},
		{"addresses", cmp.Or(strings.Join(h.Addresses, " "), "-")}, {"booted", at(h.BootTime)}, {"agent", cmp.Or(h.Version, "-")},
		{"runs checks", h.checksLong()}, {"restarts things", map[bool]string{true: "yes", false: "no"}[h.Actions]},
		{"processor", processor}, {"memory", memory}, {"fullest disk", percent(u.Disk)},
		{"network", perSecond(u.RxBytes) + " in, " + perSecond(u.TxBytes) + " out"}, {"interval", interval},
		{"collectors", cmp.Or(strings.Join(collectors, " "), "as by default")}, {"watched processes", cmp.Or(strings.Join(h.Settings.Processes, " "), "-")}, {"id", h.ID},
	}
	if err := table(w, "", []string{strings.ToUpper(printable(h.Name)), ""}, rows); err != nil {
		return err
	}
	if len(h.Evidence) == 0 {
		return nil
	}
	rows = nil
	for _, e := range h.Evidence {
		rows = append(rows, []string{e.Target, e.Region, e.Prober, map[bool]string{true: "answers", false: "no answer"}[e.Answers], ago(e.At.Format(time.RFC3339)), e.Message})
	}
	fmt.Fprintln(w)
	return table(w, "", []string{"TRIED", "REGION", "FROM", "RESULT", "AGE", "MESSAGE"}, rows)
}

func hostLabelsCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "labels NAME [KEY=VALUE | KEY-]…", Args: cobra.MinimumNArgs(1),
		Short: "Show or change the labels of a host",
		Long: `Show the labels of a host, or change them: KEY=VALUE sets one, KEY- takes one
away. Those of the agent's own file stay; the ones given here override them.`,
		Example: "  panoptes host labels web-1\n  panoptes host labels web-1 team=web rack=7 old-",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"ids": args[:1]}
			set, unset := map[string]string{}, []string{}
			for _, a := range args[1:] {
				k, v, ok := strings.Cut(a, "=")
				switch {
				case ok && k != "":
					set[k] = v
				case !ok && len(a) > 1 && strings.HasSuffix(a, "-"):
					unset = append(unset, strings.TrimSuffix(a, "-"))
				default:
					return &exitError{exitUsage, fmt.Errorf("%q: write KEY=VALUE to set a label, KEY- to take it away", a)}
				}
			}
			body["set_labels"], body["remove_labels"] = set, unset
			if len(args) > 1 {
				var out struct {
					Failed []struct{ Message string }
				}
				if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/hosts/bulk", body: body}, &out); err != nil {
					return err
				}
				if len(out.Failed) > 0 {
					return fmt.Errorf("labels of %s: %s", args[0], out.Failed[0].Message)
				}
			}
			var h host
			if _, err := c.do(cmd.Context(), request{path: hostPath(args[0])}, &h); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), printable(pairs(h.Labels)))
			return err
		},
	}
	return cmd
}

func hostRemoveCmd(c *client) *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use: "remove NAME…", Aliases: []string{"rm", "delete"}, Args: cobra.MinimumNArgs(1),
		Short: "Remove hosts for good: their agents are shut out",
		Long: `Remove hosts for good: the connection of their agents ends and their certificates
are worth nothing any more. What they measured stays. An agent that was removed
joins again with a new token and an empty data directory.

A host whose agent sends is refused; stop the agent first, or use --force.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !yes {
				if err := confirm(cmd, fmt.Sprintf("remove %s for good?", printable(strings.Join(args, ", "))), "nothing removed"); err != nil {
					return err
				}
			}
			for _, name := range args {
				path := hostPath(name)
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
	cmd.Flags().BoolVar(&force, "force", false, "also when its agent sends")
	return cmd
}

func hostActionCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "restart NAME unit|container THING", Args: cobra.ExactArgs(3),
		Short: "Restart a unit or container of a host, if its own file lets it be",
		Example: `  panoptes host restart web-1 unit nginx.service
  panoptes host restart web-1 container shop`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var res map[string]any
			body := map[string]string{"action": "restart", "kind": args[1], "name": args[2]}
			if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: hostPath(args[0]) + "/actions", body: body}, &res); err != nil {
				return err
			}
			if out.json() {
				if err := out.printJSON(cmd.OutOrStdout(), res); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(cmd.OutOrStdout(), printable(strings.TrimSuffix(text(res, "result")+": "+text(res, "message"), ": ")))
			}
			if text(res, "result") != "done" {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	out.flag(cmd)
	return cmd
}

func hostGroupCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "group", Aliases: []string{"groups"},
		Short: "Show the groups of hosts, which tell agents what to do",
		Long: `Show the groups of hosts. A group covers hosts by name, region or label, and
sets the interval, collectors, watched processes and labels of their agents.
Write it to a file and use "panoptes apply":

  kind: hostgroup
  name: databases
  spec:
    hosts: ["db-*"]
    interval: 5s
    labels: {team: data}`,
	}
	var out output
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List the groups and how many hosts each covers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := c.list(cmd.Context(), "/v1/hostgroups", nil)
			if err != nil {
				return err
			}
			if out.json() {
				if items == nil {
					items = []map[string]any{}
				}
				return out.printJSON(cmd.OutOrStdout(), items)
			}
			var rows [][]string
			for _, g := range items {
				var page struct{ Total int }
				query := url.Values{"group": {text(g, "name")}, "limit": {"1"}}
				if _, err := c.do(cmd.Context(), request{path: "/v1/hosts?" + query.Encode()}, &page); err != nil {
					return err
				}
				who := strings.TrimSpace(text(g, "hosts") + " " + text(g, "regions"))
				if m, ok := g["matchers"].(map[string]any); ok {
					for _, k := range slices.Sorted(maps.Keys(m)) {
						who += fmt.Sprintf(" %s=%v", k, m[k])
					}
				}
				rows = append(rows, []string{text(g, "name"), fmt.Sprint(page.Total), cmp.Or(strings.TrimSpace(who), "all"), cmp.Or(text(g, "priority"), "0"), cmp.Or(text(g, "interval"), "-")})
			}
			return table(cmd.OutOrStdout(), "no groups", []string{"NAME", "HOSTS", "COVERS", "PRIORITY", "INTERVAL"}, rows)
		},
	}
	out.flag(list)
	cmd.AddCommand(list)
	return cmd
}
