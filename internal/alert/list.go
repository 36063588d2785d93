package alert

import (
	"context"
	"slices"
	"strings"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/timeinterval"
	pm "github.com/prometheus/common/model"

	"panoptes/internal/model"
)

// Status is an active alert as the pages show it.
type Status struct {
	Fingerprint  string            `json:"fingerprint"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"starts_at"`
	EndsAt       time.Time         `json:"ends_at"`
	Status       string            `json:"status"`             // active or suppressed
	SilencedBy   []string          `json:"silenced_by"`        // ids of silences
	InhibitedBy  []string          `json:"inhibited_by"`       // fingerprints of alerts
	MutedBy      []string          `json:"muted_by,omitempty"` // names of intervals, when all its routes are muted
	Receivers    []string          `json:"receivers"`          // names, sorted
	GeneratorURL string            `json:"generator_url,omitempty"`
}

// Alerts lists the active alerts that fit all matchers (Alertmanager's syntax),
// the youngest first.
func (a *Alerting) Alerts(ctx context.Context, matchers ...string) ([]Status, error) {
	var inv model.Invalid
	ms := parseMatchers(matchers, "matchers", &inv)
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return a.list(ctx, ms)
}

func (a *Alerting) list(ctx context.Context, ms []*labels.Matcher) ([]Status, error) {
	p := a.plan.Load()
	inhibitor := a.inhibitor.Load()
	intervener := timeinterval.NewIntervener(p.intervals)
	now := time.Now()
	it := a.alerts.GetPending()
	defer it.Close()
	out := []Status{}
	for e := range it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		al := e.Data
		if al.ResolvedAt(now) || !matchAll(ms, al.Labels) {
			continue
		}
		m := marker.NewAlertMarker()
		mctx := marker.WithContext(ctx, m)
		if inhibitor != nil {
			inhibitor.Mutes(mctx, al.Labels)
		}
		a.silencer.Mutes(mctx, al.Labels)
		out = append(out, a.status(al, m.Status(al.Fingerprint()), p, intervener, now))
	}
	slices.SortFunc(out, func(x, y Status) int {
		if c := y.StartsAt.Compare(x.StartsAt); c != 0 {
			return c
		}
		return strings.Compare(x.Fingerprint, y.Fingerprint)
	})
	return out, nil
}

func (a *Alerting) status(al *amalert.Alert, st amalert.AlertStatus, p *plan, iv *timeinterval.Intervener, now time.Time) Status {
	s := Status{
		Fingerprint: al.Fingerprint().String(), Labels: plainMap(al.Labels), Annotations: plainMap(al.Annotations),
		StartsAt: al.StartsAt.UTC(), EndsAt: al.EndsAt.UTC(), Status: "active", GeneratorURL: al.GeneratorURL,
		SilencedBy: append([]string{}, st.SilencedBy...), InhibitedBy: append([]string{}, st.InhibitedBy...), Receivers: []string{},
	}
	open := false // some route lets it through now
	for _, r := range p.routes.Match(al.Labels) {
		if r.RouteOpts.Receiver == nobody {
			continue
		}
		if !slices.Contains(s.Receivers, r.RouteOpts.Receiver) {
			s.Receivers = append(s.Receivers, r.RouteOpts.Receiver)
		}
		muted, names, _ := iv.Mutes(r.RouteOpts.MuteTimeIntervals, now)
		if active, _, _ := iv.Mutes(r.RouteOpts.ActiveTimeIntervals, now); len(r.RouteOpts.ActiveTimeIntervals) > 0 && !active {
			muted, names = true, append(names, r.RouteOpts.ActiveTimeIntervals...)
		}
		if muted {
			s.MutedBy = append(s.MutedBy, names...)
		} else {
			open = true
		}
	}
	slices.Sort(s.Receivers)
	if open {
		s.MutedBy = nil
	}
	slices.Sort(s.MutedBy)
	s.MutedBy = slices.Compact(s.MutedBy)
	if len(s.SilencedBy)+len(s.InhibitedBy)+len(s.MutedBy) > 0 {
		s.Status = "suppressed"
	}
	return s
}

func plainMap(l pm.LabelSet) map[string]string {
	out := make(map[string]string, len(l))
	for k, v := range l {
		out[string(k)] = string(v)
	}
	return out
}

// Receivers names the receivers that an alert with these labels would go to.
func (a *Alerting) Receivers(set map[string]string) []string {
	out := []string{}
	for _, r := range a.plan.Load().routes.Match(labelSet(set)) {
		if n := r.RouteOpts.Receiver; n != nobody && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
