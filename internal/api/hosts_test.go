package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// memHosts has one host called n, or as many as rows says.
type memHosts struct{ rows []api.HostRow }

func (m memHosts) Rows(context.Context) []api.HostRow {
	if m.rows != nil {
		return m.rows
	}
	share := 0.5
	return []api.HostRow{{
		Host:   model.Host{ID: "n", Name: "n", Region: "eu", Status: model.HostOnline, Since: time.Now(), Evidence: []model.HostEvidence{{Region: "eu"}}},
		Groups: []string{"all"}, Usage: &model.HostUsage{CPU: &share, At: time.Now()},
	}}
}

func (m memHosts) Find(ref string) (string, error) {
	for _, r := range m.Rows(context.Background()) {
		if r.ID == ref || r.Name == ref {
			return r.ID, nil
		}
	}
	return "", fmt.Errorf("host %q: %w", ref, model.ErrNotFound)
}

func (m memHosts) Detail(ctx context.Context, id string) (api.HostDetail, error) {
	for _, r := range m.Rows(ctx) {
		if r.ID == id {
			return api.HostDetail{HostRow: r, Update: &api.HostUpdate{Wanted: "2", State: "waits"}}, nil
		}
	}
	return api.HostDetail{}, model.ErrNotFound
}

func (memHosts) Labels(string) map[string]string { return map[string]string{"team": "web"} }

func (memHosts) KeepLive(_ context.Context, id string) error {
	if id == "h-0001" {
		return fmt.Errorf("%w: agent web-1 talks to no server", model.ErrUnavailable)
	}
	return nil
}

func (memHosts) Snapshot(context.Context, string) (json.RawMessage, error) {
	return json.RawMessage(`{"processes":[]}`), nil
}

func (memHosts) Restart(_ context.Context, _, actor, kind, name string) (string, string, error) {
	switch name {
	case "locked":
		return "refused", "not in the list", fmt.Errorf("%w: not in the list of the host's file", model.ErrForbidden)
	case "again":
		return "refused", "too often", fmt.Errorf("%w: too often", model.ErrLimit)
	}
	return "done", actor + " " + kind + " " + name, nil
}

// fleet is n hosts of which every tenth is down; those with an even number are
// in eu and run databases.
func fleet(n int) []api.HostRow {
	out := make([]api.HostRow, n)
	for i := range out {
		h := &out[i]
		h.ID, h.Name, h.Region, h.Status, h.Since = fmt.Sprintf("h-%04d", i), fmt.Sprintf("web-%d", i), "us", model.HostOnline, time.Unix(int64(i), 0)
		h.Labels = map[string]string{"rack": fmt.Sprint(i % 4)}
		if i%2 == 0 {
			h.Region, h.Groups = "eu", []string{"databases"}
		}
		if i%10 == 0 {
			h.Status = model.HostDown
			continue
		}
		cpu, rx, tx := float64(i)/float64(n), float64(i), 1.0
		h.Usage = &model.HostUsage{CPU: &cpu, RxBytes: &rx, TxBytes: &tx}
	}
	return out
}

type hostPage struct {
	Items  []api.HostRow
	Next   string
	Total  int
	Counts map[string]int
}

func withFleet(t *testing.T, n int) *bench {
	rows := fleet(n)
	return setUp(t, func(_ *api.Config, d *api.Deps) { d.Hosts = memHosts{rows} })
}

func TestHostsAreFilteredSortedAndPaged(t *testing.T) {
	b := withFleet(t, 100)
	list := func(query string) (p hostPage) {
		b.want(200, &p, b.call("viewer", "GET", "/v1/hosts?"+query, nil))
		return p
	}
	p := list("limit=10")
	require.Equal(t, 100, p.Total)
	require.Len(t, p.Items, 10)
	require.Equal(t, map[string]int{"online": 90, "unknown": 0, "down": 10, "stopped": 0}, p.Counts)
	seen := map[string]bool{}
	for query := "limit=10&sort=-cpu"; ; {
		p = list(query)
		for _, h := range p.Items {
			require.False(t, seen[h.ID], "%s comes twice", h.ID)
			seen[h.ID] = true
		}
		if p.Next == "" {
			break
		}
		query = "limit=10&sort=-cpu&cursor=" + url.QueryEscape(p.Next)
	}
	require.Len(t, seen, 100)
	require.Equal(t, "web-99", list("sort=-cpu").Items[0].Name)
	require.Equal(t, "web-1", list("sort=cpu").Items[0].Name, "what is not known comes last")
	require.Equal(t, "web-99", list("sort=-network").Items[0].Name)
	require.Equal(t, model.HostDown, list("sort=status").Items[0].Status)
	p = list("status=down&region=eu&limit=3")
	require.Equal(t, 10, p.Total)
	require.Equal(t, 40, p.Counts["online"], "counts are of all that match everything but the state")
	require.Equal(t, 50, list("group=databases").Total)
	require.Equal(t, 25, list("label=rack=1").Total)
	require.Equal(t, 1, list("q="+url.QueryEscape("name:web-42")).Total)
	for query, field := range map[string]string{"status=well": "status", "sort=shoe": "sort", "label=x": "label", "limit=0": "limit"} {
		var f failure
		b.want(400, &f, b.call("viewer", "GET", "/v1/hosts?"+query, nil))
		require.Equal(t, field, f.Error.Field, query)
	}
}

func TestHostsAreFoundKeptLiveAndChanged(t *testing.T) {
	b := withFleet(t, 3)
	var d api.HostDetail
	b.want(200, &d, b.call("viewer", "GET", "/v1/hosts/web-2", nil))
	require.Equal(t, "h-0002", d.ID)
	b.want(404, nil, b.call("viewer", "GET", "/v1/hosts/web-9", nil))
	b.want(204, nil, b.call("viewer", "POST", "/v1/hosts/web-2/live", nil))
	b.want(503, nil, b.call("viewer", "POST", "/v1/hosts/web-1/live", nil))
	b.want(200, nil, b.call("viewer", "GET", "/v1/hosts/web-2/snapshot", nil))

	var c struct {
		Changed int
		Failed  []struct{ ID, Message string }
	}
	b.want(200, &c, b.call("admin", "POST", "/v1/hosts/bulk", obj{"ids": []string{"web-1", "gone"}, "set_labels": obj{"rack": "9"}, "remove_labels": []string{"team"}}))
	require.Equal(t, 1, c.Changed)
	require.Equal(t, "gone", c.Failed[0].ID)
	for field, body := range map[string]obj{
		"ids": {"set_labels": obj{"a": "b"}}, "set_labels": {"ids": []string{"web-1"}}, "remove": {"ids": []string{"web-1"}, "remove": true, "set_labels": obj{"a": "b"}},
		"set_labels.0x": {"ids": []string{"web-1"}, "set_labels": obj{"0x": "b"}},
	} {
		var f failure
		b.want(400, &f, b.call("admin", "POST", "/v1/hosts/bulk", body))
		require.Equal(t, field, f.Error.Field)
	}
}

func TestActionsOnHosts(t *testing.T) {
	b := withFleet(t, 2)
	do := func(code int, name, action string, out any) {
		b.want(code, out, b.call("editor", "POST", "/v1/hosts/web-1/actions", obj{"action": action, "kind": "unit", "name": name}))
	}
	var res struct{ ID, Result, Message string }
	do(200, "nginx.service", "restart", &res)
	require.Equal(t, "done", res.Result)
	require.NotEmpty(t, res.ID)
	do(403, "locked", "restart", nil)
	do(429, "again", "restart", nil)
	do(400, "nginx.service", "shutdown", nil)
}

func BenchmarkHostList(b *testing.B) {
	rows := fleet(10_000)
	t := &testing.T{}
	x := setUp(t, func(_ *api.Config, d *api.Deps) { d.Hosts = memHosts{rows} })
	for _, query := range []string{"", "?sort=-cpu", "?q=web-77", "?status=down&sort=since"} {
		b.Run("list"+query, func(b *testing.B) {
			for b.Loop() {
				if w := x.call("viewer", "GET", "/v1/hosts"+query, nil); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
