package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/config"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/timeinterval"
	pm "github.com/prometheus/common/model"

	"panoptes/internal/model"
)

// plan is a configuration with everything built that could fail.
type plan struct {
	source       []byte // the records it was made from
	conf         *config.Config
	integrations map[string][]notify.Integration
	intervals    map[string][]timeinterval.TimeInterval
	routes       *dispatch.Route
}

// Validate says what is wrong with the records together, as model.Invalid whose
// fields begin with kind and name: route "eu".receiver.
func (a *Alerting) Validate(receivers []model.Receiver, routes []model.Route, inhibitions []model.Inhibition, intervals []model.Interval) error {
	_, err := a.build(receivers, routes, inhibitions, intervals, true)
	return err
}

// Update takes over the records: all is built first, then swapped. On an error
// the configuration in use stays. Records that were never valid (a first start
// after an upgrade) are left out one by one instead, so that the others work;
// the error names them.
func (a *Alerting) Update(receivers []model.Receiver, routes []model.Route, inhibitions []model.Inhibition, intervals []model.Interval) error {
	source, err := json.Marshal([]any{receivers, routes, inhibitions, intervals})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return model.ErrUnavailable
	}
	old := a.plan.Load()
	if bytes.Equal(source, old.source) {
		return nil
	}
	next, err := a.build(receivers, routes, inhibitions, intervals, true)
	if err != nil {
		a.metrics.failed.Set(1)
		if old.source != nil {
			return err
		}
		next, _ = a.build(receivers, routes, inhibitions, intervals, false)
		if next == nil {
			return err
		}
	} else {
		next.source = source
		a.metrics.failed.Set(0)
	}
	a.plan.Store(next)
	if a.running {
		a.halt()
		a.start(next)
	}
	a.publish(next)
	return err
}

// publish shows a plan to the API.
func (a *Alerting) publish(p *plan) {
	a.api.Update(p.conf, func(ctx context.Context, l pm.LabelSet) {
		if i := a.inhibitor.Load(); i != nil {
			i.Mutes(ctx, l)
		}
		a.silencer.Mutes(ctx, l)
	})
	a.metrics.receivers.Set(float64(len(p.integrations)))
}

// halt stops the running dispatcher and waits for what is being sent, so that it
// is in the log before a new dispatcher looks there. The receivers bound the
// wait: they break off soon after their context ends.
func (a *Alerting) halt() {
	if i := a.inhibitor.Load(); i != nil {
		i.Stop()
	}
	if d := a.dispatcher.Load(); d != nil {
		d.Stop()
	}
	a.flying.wait()
}

// start runs a plan.
func (a *Alerting) start(p *plan) {
	a.putBack()
	rec := eventrecorder.Recorder{}
	in := inhibit.NewInhibitor(a.alerts, p.conf.InhibitRules, a.log, rec)
	stage := a.pipeline.New(p.integrations, a.wait, in, a.silencer, timeinterval.NewIntervener(p.intervals), a.groups, &syncedLog{a}, a.gate)
	d := dispatch.NewDispatcher(a.alerts, p.routes, a.flying.watch(a.gate, stage), a.groups, a.timeout, 30*time.Second, nil, slog.New(calm{a.log.Handler()}), rec, a.dmetrics, a.deps.Receivers.Template())
	// The inhibitor first: an alert that is inhibited must not slip through
	// while the rules still load.
	go in.Run()
	in.WaitForLoading()
	a.inhibitor.Store(in)
	go d.Run(time.Now())
	d.WaitForLoading()
	a.dispatcher.Store(d)
}

// wait is how long this server lets those before it notify first. A little is
// added: a change may reach the groups of one server just before their turn and
// those of another just after, who then looks at it an interval later. With
// waits as long as the interval both would notify at the same instant.
func (a *Alerting) wait() time.Duration {
	p := time.Duration(max(a.deps.Position(), 0))
	if p == 0 {
		return 0
	}
	return p*a.deps.PeerTimeout + a.deps.PeerTimeout/10
}

// timeout is how long a group may try: one full attempt at least.
func (a *Alerting) timeout(d time.Duration) time.Duration {
	return max(d, notify.MinTimeout, a.deps.Receivers.Timeout()) + a.wait() + a.gate.patience()
}

func (a *Alerting) groupsOf(ctx context.Context, routes func(*dispatch.Route) bool, alerts func(*amalert.Alert, time.Time) bool) (dispatch.AlertGroups, map[pm.Fingerprint][]string, error) {
	d := a.dispatcher.Load()
	if d == nil {
		return nil, nil, nil
	}
	return d.Groups(ctx, routes, alerts)
}

// flights counts notifications on their way.
type flights struct {
	mu   sync.Mutex
	n    int           // guarded by mu
	none chan struct{} // guarded by mu; closed when n falls to zero
}

func (f *flights) watch(g *gate, s notify.Stage) notify.Stage {
	return notify.StageFunc(func(ctx context.Context, l *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
		f.begin()
		defer f.end()
		// A group that was stopped before it began must not begin after halt.
		if ctx.Err() != nil {
			return ctx, nil, ctx.Err()
		}
		return s.Exec(g.enter(ctx), l, alerts...)
	})
}

func (f *flights) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == 0 {
		f.none = make(chan struct{})
	}
	f.n++
}

func (f *flights) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n--; f.n == 0 {
		close(f.none)
	}
}

// wait returns when nothing is on its way.
func (f *flights) wait() {
	f.mu.Lock()
	n, none := f.n, f.none
	f.mu.Unlock()
	if n > 0 {
		<-none
	}
}

// syncedLog has every entry on disk before the pipeline goes on.
type syncedLog struct{ a *Alerting }

func (s *syncedLog) Log(r *nflogpb.Receiver, key string, firing, resolved []uint64, store *nflog.Store, expiry time.Duration) error {
	late, err := s.a.logAfter(r, key, firing, resolved, expiry)
	if err == nil && !late {
		err = s.a.nflog.Log(r, key, firing, resolved, store, expiry)
	}
	if err != nil {
		return err
	}
	if err := s.a.logs.sync(); err != nil {
		// The notification went out and is remembered in memory: failing here
		// would send it again at once.
		s.a.log.Error("notification log not on disk", "err", err)
		s.a.metrics.journalErrors.Inc()
	}
	return nil
}

func (s *syncedLog) Query(p ...nflog.QueryParam) ([]*nflogpb.Entry, error) {
	return s.a.nflog.Query(p...)
}
