package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func checkCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "List, add, test, pause and remove checks",
		Example: `  panoptes check list --status down,degraded
  panoptes check add shop https://shop.example/ --interval 20s --label team=web
  panoptes check add db tcp://10.0.0.5:5432
  panoptes check show shop
  panoptes check run shop
  panoptes check pause shop`,
	}
	cmd.AddCommand(checkListCmd(c), checkShowCmd(c), checkAddCmd(c), checkRunCmd(c),
		checkPauseCmd(c, "pause", true), checkPauseCmd(c, "resume", false), removeCmd(c, "checks", "check"))
	return cmd
}

func checkListCmd(c *client) *cobra.Command {
	var out output
	var status, typ, label, q string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List checks with their state",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := url.Values{}
			for k, s := range map[string]string{"status": status, "type": typ, "label": label, "q": q} {
				if s != "" {
					v.Set(k, s)
				}
			}
			items, err := c.list(cmd.Context(), "/v1/checks", v)
			if err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), items)
			}
			rows := make([][]string, 0, len(items))
			for _, m := range items {
				rows = append(rows, []string{text(m, "name"), text(m, "type"), text(m, "state.status"), ago(text(m, "state.since")), text(m, "target"), text(m, "state.message")})
			}
			return table(cmd.OutOrStdout(), "no checks; add one with `panoptes check add NAME URL`", []string{"NAME", "TYPE", "STATE", "SINCE", "TARGET", "MESSAGE"}, rows)
		},
	}
	f := cmd.Flags()
	f.StringVar(&status, "status", "", "only these states, comma separated: up, down, degraded, unknown, maintenance, paused, pending")
	f.StringVar(&typ, "type", "", "only this type")
	f.StringVar(&label, "label", "", "only with this label, NAME:VALUE")
	f.StringVarP(&q, "query", "q", "", "only where name, target or description contain these words")
	out.flag(cmd)
	return cmd
}

func checkShowCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "show NAME", Args: cobra.ExactArgs(1),
		Short: "Show one check: state by region, uptime, record",
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/v1/checks/" + url.PathEscape(args[0])
			var m map[string]any
			if _, err := c.do(cmd.Context(), request{path: path}, &m); err != nil {
				return err
			}
			var uptime map[string]any
			if _, err := c.do(cmd.Context(), request{path: path + "/uptime"}, &uptime); err != nil {
				return err
			}
			m["uptime"] = uptime
			w := cmd.OutOrStdout()
			if out.json() {
				return out.printJSON(w, m)
			}
			fmt.Fprintf(w, "%s  %s  %s\n", printable(text(m, "name")), text(m, "type"), printable(text(m, "target")))
			fmt.Fprintf(w, "%s for %s: %s\n\n", text(m, "state.status"), ago(text(m, "state.since")), printable(text(m, "state.message")))
			var rows [][]string
			if state, ok := m["state"].(map[string]any); ok {
				if regions, ok := state["regions"].(map[string]any); ok {
					for name, r := range regions {
						if rm, ok := r.(map[string]any); ok {
							rows = append(rows, []string{name, text(rm, "status"), ago(text(rm, "at")), text(rm, "prober"), text(rm, "message")})
						}
					}
				}
			}
			if err := table(w, "no region has voted yet", []string{"REGION", "STATE", "AGE", "PROBER", "MESSAGE"}, rows); err != nil {
				return err
			}
			rows = nil
			for _, win := range []string{"24h", "7d", "30d", "90d", "1y"} {
				up := "-"
				if wm, ok := uptime["windows"].(map[string]any)[win].(map[string]any); ok {
					if f, ok := wm["uptime"].(float64); ok {
						up = fmt.Sprintf("%.3f %%", 100*f)
					}
					rows = append(rows, []string{win, up, text(wm, "outages")})
				}
			}
			fmt.Fprintln(w)
			return table(w, "", []string{"WINDOW", "UPTIME", "OUTAGES"}, rows)
		},
	}
	out.flag(cmd)
	return cmd
}

// targetOf splits "tcp://host:port" into the type and what that type calls its target.
func targetOf(target string) (typ, rest string) {
	scheme, host, ok := strings.Cut(target, "://")
	if !ok {
		return "", target
	}
	switch scheme {
	case "http", "https":
		return "http", target
	case "ws", "wss":
		return "websocket", target
	case "ping":
		return "icmp", host
	}
	return scheme, host
}

func checkAddCmd(c *client) *cobra.Command {
	var out output
	var typ, interval, timeout, policy, block string
	var labels map[string]string
	var regions []string
	var test bool
	cmd := &cobra.Command{
		Use: "add NAME TARGET", Args: cobra.RangeArgs(1, 2),
		Short: "Add a check",
		Example: `  panoptes check add shop https://shop.example/ --interval 20s --label team=web
  panoptes check add db tcp://10.0.0.5:5432 --timeout 3s
  panoptes check add name dns://example.org --set '{"type":"A"}'
  panoptes check add backup --type push --interval 24h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			spec := map[string]any{"name": args[0]}
			if len(args) == 2 {
				t, target := targetOf(args[1])
				spec["target"] = target
				typ = first(typ, t)
			}
			if typ == "" {
				return &exitError{exitUsage, fmt.Errorf("%q does not tell the type of check; write for example https://…, tcp://host:port, dns://name, icmp://host, or give --type", args[len(args)-1])}
			}
			spec["type"] = typ
			for k, s := range map[string]string{"interval": interval, "timeout": timeout, "policy": policy} {
				if s != "" {
					spec[k] = s
				}
			}
			if len(labels) > 0 {
				spec["labels"] = labels
			}
			if len(regions) > 0 {
				spec["regions"] = regions
			}
			if block != "" {
				if !json.Valid([]byte(block)) {
					return &exitError{exitUsage, fmt.Errorf("--set: not valid JSON; write for example '{\"method\":\"HEAD\"}'")}
				}
				spec[typ] = json.RawMessage(block)
			}
			if test {
				return c.testResult(cmd, request{method: http.MethodPost, path: "/v1/checks/test", body: spec}, &out)
			}
			var m map[string]any
			if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/checks", body: spec}, &m); err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), m)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "check %s added (%s)\n", printable(text(m, "name")), text(m, "id"))
			if typ == "push" {
				server, _ := c.where()
				fmt.Fprintf(cmd.OutOrStdout(), "send its heartbeats to %s/ping/%s\n", server, text(m, "push.token"))
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&typ, "type", "", "type of check; default: from the target")
	f.StringVar(&interval, "interval", "", "time between two runs, for example 20s (default 60s)")
	f.StringVar(&timeout, "timeout", "", "time limit of one run (default 10s)")
	f.StringVar(&policy, "policy", "", "how many regions make it down: majority, any, all, a number or a percentage")
	f.StringToStringVar(&labels, "label", nil, "label NAME=VALUE; may be repeated")
	f.StringSliceVar(&regions, "region", nil, "regions to check from (default all)")
	f.StringVar(&block, "set", "", "settings of the type as JSON")
	f.BoolVar(&test, "test", false, "only try it, do not store it")
	out.flag(cmd)
	return cmd
}

func (c *client) testResult(cmd *cobra.Command, r request, out *output) error {
	var answer struct {
		Results []struct {
			Region     string           `json:"region"`
			Success    bool             `json:"success"`
			Degraded   bool             `json:"degraded"`
			Message    string           `json:"message"`
			Duration   float64          `json:"duration_seconds"`
			Assertions []map[string]any `json:"assertions"`
		} `json:"results"`
	}
	var raw json.RawMessage
	if _, err := c.do(cmd.Context(), r, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("decode result: %w", err)
	}
	w := cmd.OutOrStdout()
	failed := false
	for _, res := range answer.Results {
		failed = failed || !res.Success
	}
	if out.json() {
		if _, err := w.Write(append(raw, '\n')); err != nil {
			return err
		}
	} else if err := printResults(w, func(yield func(region, state, took, message string, assertions []map[string]any)) {
		for _, res := range answer.Results {
			state := "up"
			switch {
			case !res.Success:
				state = "down"
			case res.Degraded:
				state = "degraded"
			}
			yield(res.Region, state, fmt.Sprintf("%.0f ms", res.Duration*1000), res.Message, res.Assertions)
		}
	}); err != nil {
		return err
	}
	if failed {
		return &exitError{code: exitFailed}
	}
	return nil
}

func printResults(w io.Writer, each func(func(region, state, took, message string, assertions []map[string]any))) error {
	var rows [][]string
	each(func(region, state, took, message string, assertions []map[string]any) {
		rows = append(rows, []string{region, state, took, message})
		for _, a := range assertions {
			mark := "ok"
			if a["passed"] != true {
				mark = "FAILED"
			}
			rows = append(rows, []string{"", mark, "", text(a, "text") + "  (found " + text(a, "found") + ")"})
		}
	})
	return table(w, "no worker answered", []string{"REGION", "STATE", "TOOK", "MESSAGE"}, rows)
}

func checkRunCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "run NAME", Args: cobra.ExactArgs(1),
		Short: "Run a check now and show what it finds; exit code 1 when it fails",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.testResult(cmd, request{method: http.MethodPost, path: "/v1/checks/" + url.PathEscape(args[0]) + "/run"}, &out)
		},
	}
	out.flag(cmd)
	return cmd
}

func checkPauseCmd(c *client, verb string, paused bool) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME…", Args: cobra.MinimumNArgs(1),
		Short: strings.ToUpper(verb[:1]) + verb[1:] + " checks",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				r := request{method: http.MethodPatch, path: "/v1/checks/" + url.PathEscape(name), body: map[string]any{"paused": paused}}
				if _, err := c.do(cmd.Context(), r, nil); err != nil {
					return fmt.Errorf("%s %s: %w", verb, name, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "check %s %sd\n", printable(name), verb)
			}
			return nil
		},
	}
}

// removeCmd deletes records of one resource after asking.
func removeCmd(c *client, plural, singular string) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "remove NAME…", Aliases: []string{"rm", "delete"}, Args: cobra.MinimumNArgs(1),
		Short: "Remove " + plural,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.remove(cmd, plural, singular, args, yes)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (c *client) remove(cmd *cobra.Command, plural, singular string, names []string, yes bool) error {
	if !yes {
		if err := confirm(cmd, fmt.Sprintf("remove %s %s?", singular, printable(strings.Join(names, ", "))), "nothing removed"); err != nil {
			return err
		}
	}
	for _, name := range names {
		if _, err := c.do(cmd.Context(), request{method: http.MethodDelete, path: "/v1/" + plural + "/" + url.PathEscape(name)}, nil); err != nil {
			return fmt.Errorf("remove %s %s: %w", singular, name, err)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s removed\n", singular, printable(name))
	}
	return nil
}
