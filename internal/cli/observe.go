package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"panoptes/internal/model"
)

func queryCmd(c *client) *cobra.Command {
	var out output
	var at, from, to, step string
	cmd := &cobra.Command{
		Use: "query EXPR", Args: cobra.ExactArgs(1),
		Short: "Evaluate a PromQL expression",
		Example: `  panoptes query 'probe_success == 0'
  panoptes query 'avg by (region) (probe_duration_seconds)' --from 1h --step 5m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			v := url.Values{"query": {args[0]}}
			path := "/api/v1/query"
			if from != "" {
				path = "/api/v1/query_range"
				begin, err := moment(from)
				if err != nil {
					return err
				}
				end, err := moment(first(to, "0s"))
				if err != nil {
					return err
				}
				if step == "" {
					step = max(end.Sub(begin)/250, time.Second).Round(time.Second).String()
				}
				d, err := model.ParseDuration(step)
				if err != nil {
					return &exitError{exitUsage, fmt.Errorf("--step: %w", err)}
				}
				v.Set("start", begin.Format(time.RFC3339))
				v.Set("end", end.Format(time.RFC3339))
				v.Set("step", fmt.Sprint(d.D().Seconds()))
			} else if at != "" {
				t, err := moment(at)
				if err != nil {
					return err
				}
				v.Set("time", t.Format(time.RFC3339))
			}
			var raw json.RawMessage
			if _, err := c.do(cmd.Context(), request{path: path + "?" + v.Encode()}, &raw); err != nil {
				return err
			}
			if out.json() {
				_, err := cmd.OutOrStdout().Write(append(raw, '\n'))
				return err
			}
			return printQuery(cmd, raw)
		},
	}
	f := cmd.Flags()
	f.StringVar(&at, "time", "", "instant: RFC 3339, or how long ago, for example 5m")
	f.StringVar(&from, "from", "", "evaluate over a range from here: RFC 3339 or how long ago")
	f.StringVar(&to, "to", "", "end of the range (default now)")
	f.StringVar(&step, "step", "", "resolution of the range (default a 250th of it)")
	out.flag(cmd)
	return cmd
}

// moment reads RFC 3339 or a duration before now.
func moment(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		return time.Time{}, &exitError{exitUsage, fmt.Errorf("%q is not a time; write RFC 3339 (2026-11-20T08:00:00Z) or how long ago (5m)", s)}
	}
	return time.Now().Add(-d.D()), nil
}

func printQuery(cmd *cobra.Command, raw []byte) error {
	var answer struct {
		Warnings []string `json:"warnings"`
		Data     struct {
			Type   string          `json:"resultType"`
			Result json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	for _, warning := range answer.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", printable(warning))
	}
	w := cmd.OutOrStdout()
	if answer.Data.Type == "scalar" || answer.Data.Type == "string" {
		var pair []any
		if err := json.Unmarshal(answer.Data.Result, &pair); err != nil || len(pair) != 2 {
			return fmt.Errorf("decode answer: unexpected %s", answer.Data.Result)
		}
		_, err := fmt.Fprintln(w, pair[1])
		return err
	}
	var series []struct {
		Metric map[string]string `json:"metric"`
		Value  []any             `json:"value"`
		Values [][]any           `json:"values"`
	}
	if err := json.Unmarshal(answer.Data.Result, &series); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	var rows [][]string
	for _, s := range series {
		name := seriesName(s.Metric)
		if len(s.Value) == 2 {
			rows = append(rows, []string{name, fmt.Sprint(s.Value[1])})
		}
		for _, v := range s.Values {
			if len(v) == 2 {
				sec, _ := v[0].(float64)
				rows = append(rows, []string{name, time.UnixMilli(int64(sec * 1000)).Format(time.RFC3339), fmt.Sprint(v[1])})
			}
		}
	}
	head := []string{"SERIES", "VALUE"}
	if answer.Data.Type == "matrix" {
		head = []string{"SERIES", "TIME", "VALUE"}
	}
	return table(w, "the expression selects nothing at that time", head, rows)
}

func seriesName(metric map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(metric)) {
		if k != "__name__" {
			parts = append(parts, fmt.Sprintf("%s=%q", k, metric[k]))
		}
	}
	return metric["__name__"] + "{" + strings.Join(parts, ", ") + "}"
}

func silenceCmd(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "silence", Short: "List, add and end silences",
		Example: `  panoptes silence add 'check="shop"' --for 2h --comment "database move"
  panoptes silence list
  panoptes silence end 0f1e…`,
	}
	cmd.AddCommand(silenceListCmd(c), silenceAddCmd(c), silenceEndCmd(c))
	return cmd
}

func silenceListCmd(c *client) *cobra.Command {
	var out output
	var all bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs, Short: "List silences",
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := c.list(cmd.Context(), "/v1/silences", nil)
			if err != nil {
				return err
			}
			if !all {
				items = slices.DeleteFunc(items, func(m map[string]any) bool { return text(m, "status") == "expired" })
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), items)
			}
			rows := make([][]string, 0, len(items))
			for _, m := range items {
				rows = append(rows, []string{text(m, "id"), text(m, "status"), text(m, "matchers"), ago(text(m, "ends_at")), text(m, "created_by"), text(m, "comment")})
			}
			return table(cmd.OutOrStdout(), "no silences", []string{"ID", "STATUS", "MATCHERS", "ENDS", "BY", "COMMENT"}, rows)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "expired ones too")
	out.flag(cmd)
	return cmd
}

func silenceAddCmd(c *client) *cobra.Command {
	var out output
	var length, comment string
	cmd := &cobra.Command{
		Use: "add MATCHER…", Args: cobra.MinimumNArgs(1), Short: "Mute the alerts that match",
		Example: `  panoptes silence add 'check="shop"' --for 2h --comment "database move"
  panoptes silence add 'severity=~"warning|info"' 'team="web"' --for 1d --comment "migration"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := model.ParseDuration(length)
			if err != nil || d <= 0 {
				return &exitError{exitUsage, fmt.Errorf("--for: %q is not a length of time; write for example 2h", length)}
			}
			if strings.TrimSpace(comment) == "" {
				return &exitError{exitUsage, fmt.Errorf("--comment: say why, for example --comment \"database move\"")}
			}
			now := time.Now().UTC()
			body := map[string]any{"matchers": args, "starts_at": now, "ends_at": now.Add(d.D()), "comment": comment}
			var m map[string]any
			if _, err := c.do(cmd.Context(), request{method: http.MethodPost, path: "/v1/silences", body: body}, &m); err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), m)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "silence %s until %s\n", text(m, "id"), now.Add(d.D()).Local().Format("2006-01-02 15:04"))
			return err
		},
	}
	cmd.Flags().StringVar(&length, "for", "1h", "how long")
	cmd.Flags().StringVar(&comment, "comment", "", "why (required)")
	out.flag(cmd)
	return cmd
}

func silenceEndCmd(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "end ID…", Aliases: []string{"expire"}, Args: cobra.MinimumNArgs(1), Short: "End silences now",
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, id := range args {
				if _, err := c.do(cmd.Context(), request{method: http.MethodDelete, path: "/v1/silences/" + url.PathEscape(id)}, nil); err != nil {
					return fmt.Errorf("end silence %s: %w", id, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "silence %s ended\n", printable(id))
			}
			return nil
		},
	}
}

func alertCmd(c *client) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use: "alerts", Aliases: []string{"alert"}, Args: cobra.NoArgs, Short: "List the alerts that fire now",
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, err := c.list(cmd.Context(), "/v1/alerts", nil)
			if err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), items)
			}
			rows := make([][]string, 0, len(items))
			for _, m := range items {
				rows = append(rows, []string{text(m, "labels.alertname"), first(text(m, "labels.check"), text(m, "labels.instance"), "-"), text(m, "labels.severity"), text(m, "status"), ago(text(m, "starts_at")), text(m, "annotations.summary")})
			}
			return table(cmd.OutOrStdout(), "no alerts: all is well", []string{"ALERT", "SUBJECT", "SEVERITY", "STATUS", "SINCE", "SUMMARY"}, rows)
		},
	}
	out.flag(cmd)
	return cmd
}

func eventCmd(c *client) *cobra.Command {
	var out output
	var kind, subject, q, from string
	var limit int
	cmd := &cobra.Command{
		Use: "events", Aliases: []string{"event"}, Args: cobra.NoArgs, Short: "Show what happened, newest first",
		Example: "  panoptes events --kind state,delivery --from 2h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := url.Values{"limit": {fmt.Sprint(limit)}}
			for k, s := range map[string]string{"kind": kind, "subject": subject, "q": q} {
				if s != "" {
					v.Set(k, s)
				}
			}
			if from != "" {
				t, err := moment(from)
				if err != nil {
					return err
				}
				v.Set("from", t.UTC().Format(time.RFC3339))
			}
			var page struct {
				Items []model.Event `json:"items"`
			}
			if _, err := c.do(cmd.Context(), request{path: "/v1/events?" + v.Encode()}, &page); err != nil {
				return err
			}
			if out.json() {
				return out.printJSON(cmd.OutOrStdout(), page.Items)
			}
			rows := make([][]string, 0, len(page.Items))
			for _, e := range page.Items {
				rows = append(rows, []string{e.Time.Local().Format("2006-01-02 15:04:05"), string(e.Kind), first(e.Name, e.Subject), first(e.Actor, "-"), e.Message})
			}
			return table(cmd.OutOrStdout(), "nothing happened that matches", []string{"TIME", "KIND", "SUBJECT", "ACTOR", "MESSAGE"}, rows)
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "kind", "", "only these kinds: state, alert, delivery, audit, node")
	f.StringVar(&subject, "subject", "", "only of this subject, for example check/01J…")
	f.StringVarP(&q, "query", "q", "", "only with these words")
	f.StringVar(&from, "from", "", "not older than this: RFC 3339 or how long ago")
	f.IntVar(&limit, "limit", 50, "how many, up to 1000")
	out.flag(cmd)
	return cmd
}
