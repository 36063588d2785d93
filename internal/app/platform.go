package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"panoptes/internal/alert"
	"panoptes/internal/cluster"
	"panoptes/internal/model"
	"panoptes/internal/pushgateway"
	"panoptes/internal/query"
	"panoptes/internal/rules"
	"panoptes/internal/schedule"
	"panoptes/internal/scrape"
	_ "panoptes/internal/scrape/all" // the mechanisms of discovery
	"panoptes/internal/wire"
)

// What servers ask each other for scraping and rules.
const (
	methodTargets    = "scrape.targets"
	methodRules      = "rules.groups"
	methodRuleFaults = "rules.faults"
	methodAlerts     = "alert.put"
)

func (a *App) openPlatform() (err error) {
	sd, err := a.filesDirs()
	if err != nil {
		return err
	}
	ruleFiles, err := a.ruleFilesDir()
	if err != nil {
		return err
	}
	a.jobGaps = newJobGaps(a.pki.NodeID(), func(b []byte) { a.cluster.Broadcast(partJobGaps, b) })
	a.scrape, err = scrape.New(scrape.Config{Node: a.cfg.Node, Region: a.cfg.Region, FileDirs: sd}, scrape.Deps{
		Appendable: a.relay, Takes: a.takesJob, Owns: a.ownsTarget, Lacking: a.jobGaps.lacking, Dial: a.dial, Logger: a.logger("scrape"),
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "scrape"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open scraping: %w", err)
	}
	a.jobGaps.changed = a.scrape.OwnersChanged
	external, err := url.Parse(a.externalURL())
	if err != nil {
		return fmt.Errorf("read external_url: %w", err)
	}
	a.rules, err = rules.New(rules.Config{Node: a.pki.NodeID(), Dir: ruleFiles}, rules.Deps{
		// An engine of their own: rules must not wait behind people's queries.
		Queryable: a.query.Queryable(), Appendable: a.relay, Put: a.putRules, Owns: a.placement.judgesRules,
		Current: func() bool { return a.behind() == "" }, ExternalURL: external, Logger: a.logger("rules"),
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "rules"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open rules: %w", err)
	}
	if err := os.MkdirAll(a.cfg.Path("push"), 0o700); err != nil {
		return fmt.Errorf("open the push gateway: %w", err)
	}
	a.pushes, err = pushgateway.New(pushgateway.Config{Path: a.cfg.Path("push", "groups")}, pushgateway.Deps{
		Appendable: a.relay, Bound: boundOf, Owns: a.placement.owns, Broadcast: func(b []byte) { a.cluster.Broadcast("pushgateway", b) },
		Logger: a.logger("pushgateway"), Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "pushgateway"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open the push gateway: %w", err)
	}
	a.cluster.Part("pushgateway", cluster.Part{State: a.pushes.State, Merge: a.pushes.Merge})
	a.cluster.Part(partJobGaps, cluster.Part{State: a.jobGaps.state, Merge: a.jobGaps.merge})
	a.cluster.Part("ingest", cluster.Part{State: a.ingest.State, Merge: a.ingest.Merge})
	return nil
}

// metadata is what writers have said of metrics.
func (a *App) metadata(metric string) map[string]query.Metadata {
	out := map[string]query.Metadata{}
	for name, d := range a.ingest.Metadata(metric) {
		out[name] = query.Metadata{Type: d.Type, Help: d.Help, Unit: d.Unit}
	}
	return out
}

// jobWorkers are the live servers that may scrape the targets of a job.
func (a *App) jobWorkers(j scrape.Job) []schedule.Worker {
	c := schedule.Constraint{Regions: j.Regions, Labels: j.Workers, Role: roleScrape}
	var out []schedule.Worker
	for _, w := range *a.placement.workers.Load() {
		if c.Allows(w) && (!j.PerRegion || w.Region == a.cfg.Region) {
			out = append(out, w)
		}
	}
	return out
}

func (a *App) takesJob(j scrape.Job) bool {
	return j.Agents == nil && slices.ContainsFunc(a.jobWorkers(j), func(w schedule.Worker) bool { return w.ID == a.pki.NodeID() })
}

func (a *App) ownsTarget(key string, j scrape.Job) bool {
	w, ok := a.jobGaps.owner(key, j.Name, a.jobWorkers(j))
	return ok && w.ID == a.pki.NodeID()
}

// putRules hands what a rule raises to the alerting of all live servers. What
// the one here takes is enough: the rule says it again every minute. Alerts that
// it refuses do not keep the others from the other servers.
func (a *App) putRules(ctx context.Context, list ...rules.Alert) error {
	out := make([]alert.Alert, len(list))
	for i, r := range list {
		out[i] = alert.Alert{Labels: r.Labels, Annotations: r.Annotations, StartsAt: r.StartsAt, EndsAt: r.EndsAt, GeneratorURL: r.GeneratorURL}.Fit()
	}
	refused := a.alerting.Put(ctx, out...)
	var inv model.Invalid
	if refused != nil && !errors.As(refused, &inv) {
		return refused
	}
	bodies, err := alertBodies(out, time.Now())
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for _, id := range a.placement.others() {
		wg.Go(func() {
			for _, body := range bodies {
				err := a.tellAlerts(ctx, id, body)
				var inv model.Invalid
				if err != nil && !errors.As(err, &inv) { // it refuses what was refused here
					a.log.Debug("alerts of rules not told", "to", id, "err", err)
					return
				}
			}
		})
	}
	wg.Wait()
	return refused
}

func (a *App) tellAlerts(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := a.dialNode(id)
	if err == nil {
		_, err = conn.Call(ctx, methodAlerts, body)
	}
	return err
}

// toldAlert is an alert as servers tell it each other. Whether it has ended is
// told by the clock of the one that says so.
type toldAlert struct {
	alert.Alert
	Ended bool `json:"ended,omitempty"`
}

// heardAlerts are the alerts that another server told.
func heardAlerts(list []toldAlert) []alert.Alert {
	out := make([]alert.Alert, len(list))
	for i, t := range list {
		out[i] = t.Alert
		if t.Ended {
			out[i] = ended(t.Alert, t.EndsAt)
		}
	}
	return out
}

// alertBodies encodes alerts in as many messages as servers take them in.
func alertBodies(list []alert.Alert, now time.Time) ([][]byte, error) {
	const most = wire.DefaultMaxMessage / 2
	var bodies [][]byte
	var part []json.RawMessage
	size := 0
	flush := func() error {
		b, err := json.Marshal(part)
		bodies, part, size = append(bodies, b), nil, 0
		return err
	}
	for _, al := range list {
		b, err := json.Marshal(toldAlert{Alert: al, Ended: !al.EndsAt.IsZero() && !al.EndsAt.After(now)})
		if err != nil {
			return nil, err
		}
		if len(b) > most { // its labels are too long for every server
			continue
		}
		if size+len(b) > most {
			if err := flush(); err != nil {
				return nil, err
			}
		}
		part, size = append(part, b), size+len(b)+1
	}
	return bodies, flush()
}

// takeScrapes and takeRules take the records as they are now.
func (a *App) takeScrapes() {
	a.scrape.Update(a.catalog.List(model.KindScrape))
	a.fleet.Refresh() // agents scrape as well
}

func (a *App) takeRules() {
	if err := a.rules.Update(a.catalog.List(model.KindRules)); err != nil {
		a.log.Error("some rules keep what they were before", "err", err)
	}
}

// askOthers asks all live servers but this one at once; those that do not
// answer in time are left out.
func askOthers[T any](ctx context.Context, a *App, method string) (out []T) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, id := range a.placement.others() {
		wg.Go(func() {
			conn, err := a.dialNode(id)
			if err != nil {
				return
			}
			v, err := wire.Call[T](ctx, conn, method, struct{}{})
			if err != nil {
				a.log.Debug("server not asked", "server", id, "method", method, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, v)
		})
	}
	wg.Wait()
	return out
}

// allTargets is what all servers scrape.
func (a *App) allTargets(ctx context.Context) *scrape.Cluster {
	return a.scrape.Cluster(askOthers[scrape.Snapshot](ctx, a, methodTargets)...)
}

// allRules is what all servers evaluate.
func (a *App) allRules(ctx context.Context) v1.RulesRetriever {
	lists := append(askOthers[[]rules.GroupState](ctx, a, methodRules), a.rules.Groups())
	groups := rules.Merge(lists...)
	if bound := boundOf(ctx); !bound.IsEmpty() {
		groups = slices.DeleteFunc(groups, func(g rules.GroupState) bool { return g.File || !a.ruleBoundTo(g.Source, bound) })
	}
	return rules.ViewOf(groups)
}

// ruleBoundTo reports whether the rules of a record are kept to series with labels.
func (a *App) ruleBoundTo(record string, bound labels.Labels) bool {
	rec, err := a.catalog.Get(model.KindRules, record)
	if err != nil {
		return false
	}
	var r struct {
		Matchers []string `json:"matchers"`
	}
	if json.Unmarshal(rec.Spec, &r) != nil {
		return false
	}
	has, err := model.Bound(r.Matchers)
	if err != nil {
		return false
	}
	who := model.Identity{Bound: bound}
	return who.Sees(has.Map())
}

// handlePlatform registers what other servers ask about scraping and rules.
func (a *App) handlePlatform(s *wire.Server) {
	wire.HandleJSON(s, methodTargets, servers, func(context.Context, model.Peer, struct{}) (scrape.Snapshot, error) {
		return a.scrape.Snapshot(), nil
	})
	wire.HandleJSON(s, methodRuleFaults, servers, func(context.Context, model.Peer, struct{}) (map[string]string, error) {
		return a.rules.Status().Faults, nil
	})
	wire.HandleJSON(s, methodRules, servers, func(context.Context, model.Peer, struct{}) ([]rules.GroupState, error) {
		return a.rules.Groups(), nil
	})
	wire.HandleJSON(s, methodAlerts, servers, func(ctx context.Context, _ model.Peer, list []toldAlert) (struct{}, error) {
		return struct{}{}, a.alerting.Put(ctx, heardAlerts(list)...)
	})
}
