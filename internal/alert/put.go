package alert

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	amalert "github.com/prometheus/alertmanager/alert"
	pm "github.com/prometheus/common/model"

	"panoptes/internal/model"
)

// Alert is an alert as its owner raises it. Labels identify it.
type Alert struct {
	Labels       map[string]string
	Annotations  map[string]string
	StartsAt     time.Time // zero means now, or when the alert that is already known began
	EndsAt       time.Time // past: resolved; future: resolved then unless sent again; zero: after Config.ResolveTimeout
	GeneratorURL string
}

// Limits of one alert. Its labels are those of a series, a thousand at most, and
// what a rule, its group and its record add.
const (
	maxLabels          = 1200
	maxLabelBytes      = 192 << 10
	maxAnnotationBytes = 32 << 10
	maxMessageBytes    = 1 << 10   // of an event's message
	maxDataBytes       = 256 << 10 // of an event's data
)

// cutMark stands behind a text that was cut, whatever language it is in.
const cutMark = " […]"

// Fit returns the alert as it is kept: annotations that are too long are cut,
// visibly, and what is not UTF-8 is replaced. Labels stay as long as they are:
// they say which alert it is.
func (n Alert) Fit() Alert {
	n.Labels, n.Annotations = readable(n.Labels), readable(n.Annotations)
	size := func(most int) (sum int) {
		for k, v := range n.Annotations {
			sum += len(k) + min(len(v), most)
		}
		return sum
	}
	most := maxAnnotationBytes
	for size(most) > maxAnnotationBytes && most > 2*len(cutMark) {
		most /= 2
	}
	for k, v := range n.Annotations {
		n.Annotations[k] = cut(v, most)
	}
	return n
}

func readable(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = strings.ToValidUTF8(v, "\ufffd")
	}
	return out
}

// cut shortens a text to n bytes, the mark included.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:max(n-len(cutMark), 0)], "") + cutMark
}

// Put takes alerts in, as Fit returns them. Sending an alert again changes
// nothing but its end. Those that are not valid are refused and named in a
// model.Invalid; the others are taken.
func (a *Alerting) Put(ctx context.Context, notices ...Alert) error {
	var inv model.Invalid
	now := time.Now()
	list := make([]*amalert.Alert, 0, len(notices))
	for i, n := range notices {
		al := a.convert(n.Fit(), now)
		if err := check(al); err != nil {
			inv.AddErr(model.Index("alerts", i), err)
			a.metrics.refused.Inc()
			continue
		}
		list = append(list, al)
	}
	a.metrics.put.Add(float64(len(list)))
	if err := a.alerts.Put(ctx, list...); err != nil {
		return fmt.Errorf("take alerts in: %w", err)
	}
	return inv.Err()
}

func (a *Alerting) convert(n Alert, now time.Time) *amalert.Alert {
	al := &amalert.Alert{UpdatedAt: now, Alert: pm.Alert{
		Labels: labelSet(n.Labels), Annotations: labelSet(n.Annotations), StartsAt: n.StartsAt, EndsAt: n.EndsAt, GeneratorURL: n.GeneratorURL,
	}}
	if al.StartsAt.IsZero() {
		al.StartsAt = now
		if old, err := a.alerts.Get(al.Fingerprint()); err == nil && !old.Resolved() {
			al.StartsAt = old.StartsAt
		}
		if !al.EndsAt.IsZero() && al.EndsAt.Before(al.StartsAt) {
			al.StartsAt = al.EndsAt
		}
	}
	if al.EndsAt.IsZero() {
		al.Timeout = true
		al.EndsAt = now.Add(a.cfg.ResolveTimeout)
	}
	return al
}

// labelSet drops empty values: Prometheus treats them as absent.
func labelSet(m map[string]string) pm.LabelSet {
	out := make(pm.LabelSet, len(m))
	for k, v := range m {
		if v != "" {
			out[pm.LabelName(k)] = pm.LabelValue(v)
		}
	}
	return out
}

func check(al *amalert.Alert) error {
	if err := al.Validate(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		set  pm.LabelSet
		most int // bytes
	}{{"labels", al.Labels, maxLabelBytes}, {"annotations", al.Annotations, maxAnnotationBytes}} {
		n := 0
		for k, v := range part.set {
			n += len(k) + len(v)
		}
		if len(part.set) > maxLabels || n > part.most {
			return fmt.Errorf("alert %s has %d %s of %d bytes; %d of %d bytes are allowed: %w",
				cut(al.Name(), 200), len(part.set), part.name, n, maxLabels, part.most, model.ErrLimit)
		}
	}
	return nil
}

// observer sees what enters and leaves the store of alerts. It keeps the
// silencer's cache right and makes events.
type observer struct{ a *Alerting }

// PreStore implements mem.AlertStoreCallback.
func (o *observer) PreStore(al *amalert.Alert, existing bool) error {
	was := false // active before
	if existing {
		// The store is locked by our caller: its own Get would wait for ever,
		// so the state is taken from what observer saw last.
		was = o.a.active.has(al.Fingerprint())
	}
	o.a.note(al, was)
	return o.a.silencer.PreStore(al, existing)
}

// PostStore implements mem.AlertStoreCallback.
func (o *observer) PostStore(al *amalert.Alert, existing bool) { o.a.silencer.PostStore(al, existing) }

// PostDelete implements mem.AlertStoreCallback.
func (o *observer) PostDelete(al *amalert.Alert) {
	if o.a.active.end(al.Fingerprint()) {
		o.a.untold.add(al)
		o.a.record(al, false)
	}
	o.a.silencer.PostDelete(al)
}

// PostGC implements mem.AlertStoreCallback.
func (o *observer) PostGC(fps pm.Fingerprints) { o.a.silencer.PostGC(fps) }

// note makes an event when an alert begins or ends.
func (a *Alerting) note(al *amalert.Alert, was bool) {
	switch fp := al.Fingerprint(); {
	case al.Resolved():
		if was && a.active.end(fp) {
			a.untold.add(al)
			a.record(al, false)
		}
	case !was:
		a.active.begin(fp)
		a.record(al, true)
	}
}

func (a *Alerting) record(al *amalert.Alert, began bool) {
	ev := model.Event{
		Kind: model.EventAlert, Subject: "alert/" + al.Fingerprint().String(), Name: al.Name(),
		Actor: "system", Labels: map[string]string{}, Severity: "info", Code: "alert.resolved", Time: al.EndsAt.UTC(),
	}
	for k, v := range al.Labels {
		ev.Labels[string(k)] = string(v)
	}
	if began {
		ev.Code, ev.Time = "alert.firing", al.StartsAt.UTC()
		if s := string(al.Labels["severity"]); s == "critical" || s == "warning" {
			ev.Severity = s
		}
	}
	text := string(al.Annotations["summary"])
	if text == "" {
		text = al.Name()
	}
	ev.Message = strings.TrimPrefix(ev.Code, "alert.") + ": " + cut(text, maxMessageBytes)
	ev.Data, _ = json.Marshal(map[string]any{"annotations": al.Annotations, "starts_at": al.StartsAt.UTC(), "generator_url": al.GeneratorURL})
	if len(ev.Data) > maxDataBytes { // an event that is too large would not be stored at all
		ev.Data, _ = json.Marshal(map[string]any{"starts_at": al.StartsAt.UTC()})
	}
	ev.ID = stableID(ev.Time, ev.Subject, ev.Code, al.StartsAt)
	a.deps.Record(ev)
}

// stableID makes the same id for the same change of the same alert on every
// server and after every restart, so that it is stored once.
func stableID(at time.Time, parts ...any) string {
	sum := sha256.Sum256(fmt.Append(nil, parts...))
	var id ulid.ULID
	_ = id.SetTime(uint64(max(at.UnixMilli(), 0)))
	_ = id.SetEntropy(sum[:10])
	return id.String()
}
