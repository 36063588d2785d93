package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"panoptes/internal/model"
)

// snapshot is what an agent tells of its host right now.
type snapshot struct {
	Processes []struct {
		PID      int
		Name     string
		State    string
		CPU      float64
		Resident uint64
		Threads  int
	}
	FailedUnits []struct{ Name, Active string } `json:"failed_units"`
	Connections *struct{ States map[string]int }
}

const (
	liveEvery = time.Second
	liveKeep  = 5 * time.Second // between two words that somebody looks
	liveRows  = 12
)

func hostLiveCmd(c *client) *cobra.Command {
	var out output
	var once bool
	cmd := &cobra.Command{
		Use: "live NAME", Args: cobra.ExactArgs(1),
		Short: "Watch what a host does, each second, until Ctrl-C",
		Example: `  panoptes host live web-1
  panoptes host live web-1 --once -o json    # the snapshot alone`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, w := cmd.Context(), cmd.OutOrStdout()
			if out.json() {
				var m map[string]any
				if _, err := c.do(ctx, request{path: hostPath(args[0]) + "/snapshot"}, &m); err != nil {
					return err
				}
				return out.printJSON(w, m)
			}
			v := liveView{c: c, name: args[0]}
			if once {
				return v.show(ctx, w)
			}
			tick := time.NewTicker(liveEvery)
			defer tick.Stop()
			for {
				var page strings.Builder
				page.WriteString("\x1b[H\x1b[2J")
				err := v.show(ctx, &page)
				switch {
				case ctx.Err() != nil:
					return nil
				case err != nil && !v.shown:
					return err
				case err != nil: // it may come back
					fmt.Fprintf(&page, "%s\n", printable(err.Error()))
				}
				if _, err := io.WriteString(w, page.String()); err != nil {
					return err
				}
				select {
				case <-ctx.Done():
					return nil
				case <-tick.C:
				}
			}
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "show one picture and end")
	out.flag(cmd)
	return cmd
}

// liveView is a host while somebody looks at it.
type liveView struct {
	c     *client
	name  string
	told  time.Time
	shown bool
}

func (v *liveView) show(ctx context.Context, w io.Writer) error {
	if time.Since(v.told) >= liveKeep {
		if _, err := v.c.do(ctx, request{method: http.MethodPost, path: hostPath(v.name) + "/live"}, nil); err != nil {
			return err
		}
		v.told = time.Now()
	}
	var h host
	if _, err := v.c.do(ctx, request{path: hostPath(v.name)}, &h); err != nil {
		return err
	}
	var s snapshot
	if _, err := v.c.do(ctx, request{path: hostPath(v.name) + "/snapshot", timeout: 10 * time.Second}, &s); err != nil {
		return err
	}
	v.shown = true
	now := v.now(ctx, h)
	fmt.Fprintf(w, "%s  %s  %s  up %s\n", printable(h.Name), h.Status, time.Now().Format("15:04:05"), ago(h.BootTime.Format(time.RFC3339)))
	fmt.Fprintf(w, "processor %s of %d   memory %s   fullest disk %s   load %s   in %s   out %s\n", percent(now.CPU), now.Cores, percent(now.Memory), percent(now.Disk),
		figure(now.Load1), perSecond(now.RxBytes), perSecond(now.TxBytes))
	if s.Connections != nil {
		n := 0
		for _, k := range s.Connections.States {
			n += k
		}
		fmt.Fprintf(w, "connections %d, established %d\n", n, s.Connections.States["established"])
	}
	for _, u := range s.FailedUnits {
		fmt.Fprintf(w, "unit %s is %s\n", printable(u.Name), printable(u.Active))
	}
	fmt.Fprintln(w)
	rows := make([][]string, 0, liveRows)
	for _, p := range s.Processes[:min(len(s.Processes), liveRows)] {
		rows = append(rows, []string{strconv.Itoa(p.PID), p.Name, p.State, fmt.Sprintf("%.1f %%", 100*p.CPU), sizeOf(int64(p.Resident)), strconv.Itoa(p.Threads)})
	}
	return table(w, "no processes", []string{"PID", "NAME", "STATE", "CPU", "MEMORY", "THREADS"}, rows)
}

// now asks for the newest samples: the usage of lists is some seconds old.
func (v *liveView) now(ctx context.Context, h host) model.HostUsage {
	u := model.HostUsage{}
	if h.Usage != nil {
		u = *h.Usage
	}
	sel := "host=" + strconv.Quote(h.Name)
	for expr, to := range map[string]**float64{
		`1 - avg(irate(node_cpu_seconds_total{mode="idle",` + sel + `}[30s]))`:         &u.CPU,
		`1 - node_memory_MemAvailable_bytes{` + sel + `} / node_memory_MemTotal_bytes`: &u.Memory,
		`sum(irate(node_network_receive_bytes_total{device!="lo",` + sel + `}[30s]))`:  &u.RxBytes,
		`sum(irate(node_network_transmit_bytes_total{device!="lo",` + sel + `}[30s]))`: &u.TxBytes,
		`node_load1{` + sel + `}`: &u.Load1,
	} {
		if x, err := v.scalar(ctx, expr); err == nil {
			*to = &x
		}
	}
	return u
}

func (v *liveView) scalar(ctx context.Context, expr string) (float64, error) {
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	if _, err := v.c.do(ctx, request{path: "/api/v1/query?query=" + url.QueryEscape(expr), timeout: 5 * time.Second}, &answer); err != nil {
		return 0, err
	}
	if len(answer.Data.Result) == 0 {
		return 0, errors.New("no samples")
	}
	s, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.ParseFloat(s, 64)
}
