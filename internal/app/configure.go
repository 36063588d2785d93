package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"panoptes/internal/catalog"
	"panoptes/internal/model"
	"panoptes/internal/sample"
	"panoptes/internal/verdict"
	"panoptes/internal/wire"
)

// records decodes all records of a kind, ids and revisions filled in. One that
// this version cannot read is left out and logged: the others must work.
func records[T any](a *App, kind string, fill func(*T, model.Record)) []T {
	list := a.catalog.List(kind)
	out := make([]T, 0, len(list))
	for _, rec := range list {
		var t T
		if err := json.Unmarshal(rec.Spec, &t); err != nil {
			a.log.Error("record unreadable, it is left out", "kind", kind, "name", rec.Name, "err", err)
			continue
		}
		if fill != nil {
			fill(&t, rec)
		}
		out = append(out, t)
	}
	return out
}

func (a *App) listChecks() []model.Check {
	return records(a, model.KindCheck, func(c *model.Check, r model.Record) {
		c.ID, c.Revision = r.ID, r.Revision
		c.Default()
	})
}

// regionNames lists the places that vote, alike on all servers: those on
// record, those of the servers, and those of the agents that are allowed to run
// checks and do.
func (a *App) regionNames() []string {
	seen := map[string]bool{a.cfg.Region: true}
	for _, r := range a.catalog.List(model.KindRegion) {
		seen[r.Name] = true
	}
	nodes, byID := a.nodesNow()
	for _, n := range nodes {
		if n.Role == model.RoleServer && !n.Revoked && n.Region != "" {
			seen[n.Region] = true
		}
	}
	for _, id := range a.fleet.Checkers() {
		if n := byID[id]; !n.Revoked && n.Region != "" {
			seen[n.Region] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// configure waits until the parts can work, then keeps them in step with the catalog.
func (a *App) configure(ctx context.Context) error {
	for _, ready := range []<-chan struct{}{a.catalog.Ready(), a.store.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return nil
		}
	}
	select {
	case <-a.known:
	case <-ctx.Done():
		return nil
	}
	if err := a.restore(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	changed := make(chan string, 1024)
	cancel := a.catalog.Subscribe(func(ch catalog.Change) {
		a.api.PublishRecord(ch.Kind, ch.ID, ch.Op+"d")
		select {
		case changed <- ch.Kind:
		case <-ctx.Done():
		}
	})
	defer cancel()
	a.takeChecks()
	a.takeAlerting()
	a.takeSettings()
	a.takeSelf()
	a.takeScrapes()
	a.takeRules()
	a.takeHosts()
	close(a.started)
	a.log.Info("server ready", "checks", len(a.catalog.List(model.KindCheck)), "url", a.URL())
	for {
		select {
		case <-ctx.Done():
			return nil
		case kind := <-changed:
			a.take(gather(changed, kind))
		case <-a.placement.renarrow:
			a.takeChecks()
		}
	}
}

// gather waits a moment for more changes: ten thousand at once are one.
func gather(changed <-chan string, first string) map[string]bool {
	kinds := map[string]bool{first: true}
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	for {
		select {
		case k := <-changed:
			kinds[k] = true
		case <-timer.C:
			return kinds
		}
	}
}

func (a *App) take(kinds map[string]bool) {
	if kinds[model.KindCheck] || kinds[model.KindMaintenance] || kinds[model.KindRegion] {
		a.takeChecks()
	}
	if kinds[model.KindNode] {
		a.takeChecks() // a region may have come with a server
	}
	if kinds[model.KindReceiver] || kinds[model.KindRoute] || kinds[model.KindInhibition] || kinds[model.KindInterval] {
		a.takeAlerting()
	}
	if kinds[model.KindScrape] {
		a.takeScrapes()
	}
	if kinds[model.KindRules] {
		a.takeRules()
	}
	if kinds[model.KindNode] || kinds[model.KindHostGroup] {
		a.wakeAgents() // labels, or what is drained
		a.takeHosts()
	}
	if kinds[model.KindSetting] {
		a.takeSettings()
		a.takeSelf()
	}
}

// restore continues where the last process ended: states, alerts, heartbeats.
func (a *App) restore(ctx context.Context) error {
	last, err := a.history.LastStates(ctx)
	if err != nil {
		return fmt.Errorf("read the last states: %w", err)
	}
	a.verdict.Restore(last)
	heard := news(last, a.askStates(ctx))
	a.bridge.hear(maps.Clone(heard))
	list := a.listChecks()
	for _, c := range list {
		e, ok := last["check/"+c.ID]
		up := e.Code == "check.up"
		if t, is := heard[c.ID]; is {
			ok, up = true, t.To == model.StatusUp
		}
		if !ok || up || c.Paused {
			continue
		}
		past, err := a.checks.transitions(ctx, c.ID)
		if err != nil {
			return err
		}
		a.bridge.restore(c, past)
	}
	a.push.Update(list)
	if err := a.beats.load(); err != nil {
		a.log.Warn("heartbeats begin anew", "err", err)
	}
	return nil
}

// methodStates returns the last state event of each check.
const methodStates = "verdict.states"

// askStates hears from the other servers what was decided while this one was
// away, or before it was there. It returns the newest of each check, by its id.
func (a *App) askStates(ctx context.Context) map[string]verdict.Transition {
	newest := map[string]verdict.Transition{}
	a.waitSettled(ctx, settlePatience)
	for _, m := range a.cluster.Alive() {
		if m.Self || !m.Serving {
			continue
		}
		conn := a.wireClient.Conn(m.ID, m.Addresses.Cluster)
		actx, cancel := context.WithTimeout(ctx, settlePatience)
		list, err := wire.Call[map[string]model.Event](actx, conn, methodStates, struct{}{})
		cancel()
		if err != nil {
			a.log.Warn("states not asked", "server", m.Name, "err", err)
			continue
		}
		for _, e := range list {
			t, err := verdict.FromEvent(e)
			if err != nil {
				continue // of another version
			}
			a.verdict.Adopt(t)
			t.Regions, t.Evidence = nil, nil
			if held, ok := newest[t.Check.ID]; !ok || newer(t, held) {
				newest[t.Check.ID] = t
			}
		}
	}
	return newest
}

// news are the states that were heard and are newer than the last ones here.
func news(last map[string]model.Event, heard map[string]verdict.Transition) map[string]verdict.Transition {
	maps.DeleteFunc(heard, func(id string, t verdict.Transition) bool {
		held, err := verdict.FromEvent(last["check/"+id])
		return err == nil && !newer(t, held)
	})
	return heard
}

// settlePatience is how long a server that starts waits for what others know.
const settlePatience = 5 * time.Second

func (a *App) takeChecks() {
	list := a.listChecks()
	byID := make(map[string]model.Check, len(list))
	for _, c := range list {
		byID[c.ID] = c
	}
	a.results.checks.Store(&byID)
	a.results.list.Store(&list)
	a.bridge.setChecks(byID)
	a.checks.keep(byID)
	a.push.Update(list)
	a.verdict.Update(a.votable(list), records(a, model.KindMaintenance, func(m *model.Maintenance, r model.Record) { m.ID = r.ID }))
	a.place()
	if !a.watching.Swap(true) {
		a.wakeMembers()
	}
}

func (a *App) takeAlerting() {
	defer a.takeReceivers()
	err := a.alerting.Update(
		records(a, model.KindReceiver, func(x *model.Receiver, r model.Record) { x.ID, x.Revision = r.ID, r.Revision }),
		records(a, model.KindRoute, func(x *model.Route, r model.Record) { x.ID, x.Revision = r.ID, r.Revision }),
		records[model.Inhibition](a, model.KindInhibition, nil),
		records[model.Interval](a, model.KindInterval, nil))
	a.health.alertingErr.Store(&err)
	if err != nil {
		a.log.Error("alerting keeps its old configuration", "err", err)
	}
}

func (a *App) takeSettings() {
	a.takeQuiet()
	r := retention{Time: a.cfg.Storage.RetentionTime, Size: a.cfg.Storage.RetentionSize}
	if rec, err := a.catalog.Get(model.KindSetting, settingRetention); err == nil {
		var s model.Setting
		if err := json.Unmarshal(rec.Spec, &s); err == nil {
			if set, err := parseRetention(s.Value); err == nil {
				r = set
			}
		}
	}
	if err := a.store.ApplyRetention(r.Time.D(), int64(r.Size)); err != nil {
		a.log.Error("retention not changed", "err", err)
	}
}

// reload is what /-/reload asks for: everything is taken from the catalog again.
func (a *App) reload(context.Context) error {
	select {
	case <-a.started:
	default:
		return fmt.Errorf("%w: the server is starting", model.ErrUnavailable)
	}
	a.takeChecks()
	a.takeAlerting()
	a.takeSettings()
	if err := a.health.alertingErr.Load(); err != nil {
		return *err
	}
	return nil
}

// bootstrap makes the first administrator and applies the files, as soon as
// the catalog takes writes.
func (a *App) bootstrap(ctx context.Context) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		select {
		case <-a.catalog.Ready():
			err := a.catalog.Writable()
			if err == nil {
				err = a.first(ctx)
			}
			var inv model.Invalid
			if errors.As(err, &inv) {
				return err // a wrong file or setting does not get better
			}
			if err == nil {
				a.settled.Store(true)
				<-ctx.Done()
				return nil
			}
			a.log.Debug("first records wait", "err", err)
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *App) first(ctx context.Context) error {
	if err := a.recordSelf(ctx); err != nil {
		return fmt.Errorf("keep the record of this server: %w", err)
	}
	if err := a.auth.Bootstrap(ctx); err != nil {
		return err
	}
	if err := a.keepQuiet(ctx); err != nil {
		return err
	}
	var docs []catalog.Doc
	for _, path := range a.cfg.Apply {
		d, err := readDocuments(path)
		if err != nil {
			return model.Invalid{{Field: path, Msg: err.Error()}}
		}
		docs = append(docs, d...)
	}
	if a.sample != nil && len(a.catalog.List(model.KindCheck)) == 0 {
		for _, d := range a.sample.Documents(a.URL()) {
			docs = append(docs, catalog.Doc(d))
		}
	}
	if len(docs) > 0 {
		changes, err := a.catalog.Apply(ctx, "system", docs, false)
		if err != nil {
			return err
		}
		a.log.Info("files applied", "records", len(changes))
	}
	if a.sample != nil {
		fmt.Fprintf(a.notice, "Sample targets are served from port %d on; what is delivered to them shows at %s\n", sample.BasePort+a.cfg.PortOffset, a.sample.InboxURL())
	}
	return nil
}

func readDocuments(path string) ([]catalog.Doc, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	var docs []catalog.Doc
	for {
		var d struct {
			Kind string         `yaml:"kind"`
			Name string         `yaml:"name"`
			Spec map[string]any `yaml:"spec"`
		}
		err := dec.Decode(&d)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return docs, nil
			}
			return nil, err
		}
		spec, err := json.Marshal(d.Spec)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", d.Kind, d.Name, err)
		}
		docs = append(docs, catalog.Doc{Kind: d.Kind, Name: d.Name, Spec: spec})
	}
}
