package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
	"panoptes/internal/verdict"
)

// checks answers what pages ask about checks. The past of a check is read from
// the history once and then kept up to date.
type checks struct {
	app   *App
	kinds []probe.Kind

	mu      sync.Mutex                      // guards what follows
	past    map[string][]verdict.Transition // by id, oldest first; what has been read so far
	changes int                             // transitions that were seen
}

// pastLength is how far back the longest window reaches.
const pastLength = 366 * 24 * time.Hour

func newChecks(a *App) *checks {
	return &checks{app: a, kinds: all.Kinds(), past: map[string][]verdict.Transition{}}
}

// seen keeps the past up to date.
func (c *checks) seen(t verdict.Transition) {
	c.app.publish(t.Check)
	t.Regions, t.Evidence = nil, nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	if list, ok := c.past[t.Check.ID]; ok {
		// What other servers decided may come late and out of order.
		i := len(list)
		for i > 0 && list[i-1].At.After(t.At) {
			i--
		}
		c.past[t.Check.ID] = slices.Insert(slices.Clip(list), i, t)
	}
}

// lookup finds the record of a check as it is now.
func (c *checks) lookup(id string) (model.Check, bool) {
	check, ok := (*c.app.results.checks.Load())[id]
	return check, ok
}

// keep forgets the checks that are gone.
func (c *checks) keep(ids map[string]model.Check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.past {
		if _, ok := ids[id]; !ok {
			delete(c.past, id)
		}
	}
}

// forget has the past of the checks of a list read again.
func (c *checks) forget(list []verdict.Transition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	for _, t := range list {
		delete(c.past, t.Check.ID)
	}
}

// transitions returns the past of a check, not to be changed.
func (c *checks) transitions(ctx context.Context, id string) ([]verdict.Transition, error) {
	c.mu.Lock()
	list, ok := c.past[id]
	before := c.changes
	c.mu.Unlock()
	if ok {
		return list, nil
	}
	events, err := c.app.history.Transitions(ctx, "check/"+id, time.Now().Add(-pastLength))
	if err != nil {
		return nil, fmt.Errorf("read the past of check %s: %w", id, err)
	}
	list = make([]verdict.Transition, 0, len(events))
	for _, e := range events {
		t, err := verdict.FromEvent(e)
		if err != nil {
			continue // an event of another version; the time counts for the state before
		}
		t.Regions, t.Evidence = nil, nil
		list = append(list, t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// One that came meanwhile may be missing: it is read again next time.
	if c.changes == before {
		c.past[id] = slices.Clip(list)
	}
	return list, nil
}

func (c *checks) States() map[string]model.CheckState { return c.app.verdict.States() }

func (c *checks) RunNow(ctx context.Context, id string) ([]model.Result, error) {
	check, ok := (*c.app.results.checks.Load())[id]
	if !ok { // made a moment ago
		r, err := c.runHere(ctx, id)
		if err != nil {
			return nil, err
		}
		return []model.Result{r}, nil
	}
	return c.app.prober.everywhere(ctx, check)
}

// runHere probes a check now with this server's worker, whether or not it is on
// its list.
func (c *checks) runHere(ctx context.Context, id string) (model.Result, error) {
	if r, err := c.app.worker.RunNow(ctx, id); !errors.Is(err, model.ErrNotFound) {
		return r, err
	}
	rec, err := c.app.catalog.Get(model.KindCheck, id)
	if err != nil {
		return model.Result{}, err
	}
	var check model.Check
	if err := json.Unmarshal(rec.Spec, &check); err != nil {
		return model.Result{}, fmt.Errorf("read check %s: %w", rec.Name, err)
	}
	check.ID, check.Revision = rec.ID, rec.Revision
	check.Default()
	return c.app.worker.RunCheck(ctx, check)
}

func (c *checks) Test(ctx context.Context, check model.Check) ([]model.Result, error) {
	r, err := c.app.worker.Test(ctx, check)
	if err != nil {
		return nil, err
	}
	return []model.Result{r}, nil
}

// windows are those that uptime is told for.
var windows = []struct {
	name   string
	length time.Duration
}{{"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}, {"90d", 90 * 24 * time.Hour}, {"1y", 365 * 24 * time.Hour}}

func (c *checks) Uptime(ctx context.Context, id string) (api.Uptime, error) {
	past, err := c.transitions(ctx, id)
	if err != nil {
		return api.Uptime{}, err
	}
	now := time.Now()
	out := api.Uptime{Windows: map[string]api.UptimeWindow{}, Regions: map[string]map[string]float64{}}
	for _, w := range windows {
		out.Windows[w.name] = api.UptimeWindow(verdict.Uptime(past, now.Add(-w.length), now))
	}
	check, ok := (*c.app.results.checks.Load())[id]
	if !ok {
		return out, nil
	}
	samples, err := c.app.query.Instant(ctx, verdict.ReachabilityQuery(check, 24*time.Hour), now)
	if err != nil {
		c.app.log.Warn("reachability not known", "check", check.Name, "err", err)
		return out, nil
	}
	for _, s := range samples {
		out.Regions[s.Labels.Get(model.LabelRegion)] = map[string]float64{"24h": s.V}
	}
	return out, nil
}

func (c *checks) Bars(ctx context.Context, id string, from, to time.Time, n int) ([]api.Bar, *float64, error) {
	past, err := c.transitions(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	buckets := verdict.Bars(past, from, to, n)
	bars := make([]api.Bar, len(buckets))
	for i, b := range buckets {
		bars[i] = api.Bar{From: b.From, To: b.To, Status: string(b.Status), Down: b.Down}
	}
	return bars, verdict.Uptime(past, from, to).Uptime, nil
}

// targets names what each kind calls its target.
var targets = map[string]api.TargetInfo{
	"http":      {Label: map[string]string{"en": "URL", "zh-CN": "网址"}, Placeholder: "https://shop.example/"},
	"tcp":       {Label: map[string]string{"en": "Host and port", "zh-CN": "主机和端口"}, Placeholder: "db.example:5432"},
	"tls":       {Label: map[string]string{"en": "Host and port", "zh-CN": "主机和端口"}, Placeholder: "shop.example:443"},
	"icmp":      {Label: map[string]string{"en": "Host", "zh-CN": "主机"}, Placeholder: "gateway.example"},
	"dns":       {Label: map[string]string{"en": "Name to look up", "zh-CN": "要查询的域名"}, Placeholder: "www.example.com"},
	"websocket": {Label: map[string]string{"en": "URL", "zh-CN": "网址"}, Placeholder: "wss://chat.example/socket"},
	"grpc":      {Label: map[string]string{"en": "Host and port", "zh-CN": "主机和端口"}, Placeholder: "api.example:443"},
}

// kindNames are the kinds' names for people.
var kindNames = map[string]map[string]string{
	"http": {"en": "HTTP(S)", "zh-CN": "HTTP(S)"}, "tcp": {"en": "TCP port", "zh-CN": "TCP 端口"}, "tls": {"en": "TLS certificate", "zh-CN": "TLS 证书"},
	"icmp": {"en": "Ping (ICMP)", "zh-CN": "Ping（ICMP）"}, "dns": {"en": "DNS", "zh-CN": "DNS"}, "websocket": {"en": "WebSocket", "zh-CN": "WebSocket"},
	"grpc": {"en": "gRPC health", "zh-CN": "gRPC 健康检查"}, "push": {"en": "Heartbeat (push)", "zh-CN": "心跳（推送）"},
}

func (c *checks) Types() []api.TypeInfo {
	out := make([]api.TypeInfo, 0, len(c.kinds))
	for _, k := range c.kinds {
		info := api.TypeInfo{Name: k.Name(), Label: kindNames[k.Name()], Fields: checkFields(k.Schema())}
		if info.Label == nil {
			info.Label = map[string]string{"en": strings.ToUpper(k.Name()), "zh-CN": strings.ToUpper(k.Name())}
		}
		if t, ok := targets[k.Name()]; ok {
			info.Target = &t
		}
		out = append(out, info)
	}
	return out
}

// publish tells the stream of the state that a check has now.
func (a *App) publish(c model.Check) {
	if s, ok := a.verdict.State(c.ID); ok {
		a.api.PublishState(c.ID, c.Name, s)
	}
}
