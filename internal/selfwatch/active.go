package selfwatch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// resolvedFor is how long the end of an alert is told again.
const resolvedFor = 5 * time.Minute

// found is a case with its rule as it is tuned.
type found struct {
	rule  Rule
	alert Alert // without times
}

// key names a case, whatever its severity and numbers.
func key(rule string, f finding) string {
	parts := []string{rule, f.server}
	for _, k := range slices.Sorted(maps.Keys(f.labels)) {
		parts = append(parts, k, f.labels[k])
	}
	return strings.Join(parts, "\x00")
}

func foundOf(r Rule, f finding) found {
	labels := map[string]string{"alertname": r.Name, "server": f.server, "severity": r.Severity}
	maps.Copy(labels, f.labels)
	return found{r, Alert{Name: r.Name, Labels: labels, Annotations: map[string]string{
		"summary": r.Title.EN + ": " + f.server, "description": f.detail.EN, "runbook": r.Runbook.EN,
		"summary_zh": r.Title.ZH + "：" + f.server, "description_zh": f.detail.ZH, "runbook_zh": r.Runbook.ZH,
	}}}
}

// active is a case that was seen, and perhaps told.
type active struct {
	found
	since  time.Time // first seen without a break
	firing bool
	ended  time.Time // zero while it lasts
	told   time.Time // when it was last taken; zero: never since it began or ended
}

func (a *active) asAlert() Alert {
	out := a.alert
	out.StartsAt, out.EndsAt = a.since, a.ended
	return out
}

// advance takes over what was found and returns what has to be told now.
func (w *Watch) advance(now map[string]found, at time.Time, gap time.Duration) []Alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, f := range now {
		a := w.active[k]
		if a != nil && a.ended.IsZero() && a.firing && !maps.Equal(a.alert.Labels, f.alert.Labels) {
			// Its severity was changed: to the alerting parts that is another alert.
			old := *a
			old.ended, old.told = at, time.Time{}
			w.active[k+"\x00"+old.alert.Labels["severity"]] = &old
			a.told = time.Time{}
		}
		if a == nil || !a.ended.IsZero() {
			if a != nil && !maps.Equal(a.alert.Labels, f.alert.Labels) {
				w.active[k+"\x00"+a.alert.Labels["severity"]] = a // its end is still to be told
			}
			a = &active{since: at}
			w.active[k] = a
		}
		a.found = w.localized(f)
		if !a.firing && gap > 0 {
			a.since = at
		}
		if !a.firing && at.Sub(a.since) >= f.rule.For.D() {
			a.firing = true
			w.metrics.fired.WithLabelValues(f.rule.Name).Inc()
			w.log.Warn("trouble with Panoptes itself", "alert", f.rule.Name, "labels", f.alert.Labels, "message", f.alert.Annotations["description"])
		}
	}
	var out []Alert
	for k, a := range w.active {
		_, still := now[k]
		if !still && a.ended.IsZero() {
			if !a.firing {
				delete(w.active, k)
				continue
			}
			a.ended, a.told = at, time.Time{}
			w.log.Info("trouble with Panoptes itself is over", "alert", a.rule.Name, "labels", a.alert.Labels)
		}
		if !a.ended.IsZero() && at.Sub(a.ended) > resolvedFor && !a.told.IsZero() {
			delete(w.active, k)
			continue
		}
		if a.firing && (a.told.IsZero() || at.Sub(a.told) >= w.cfg.Repeat-w.cfg.Interval/2) {
			out = append(out, a.asAlert())
		}
	}
	slices.SortFunc(out, inOrder)
	return out
}

// told notes that alerts were taken, or not: then they are told at the next look.
func (w *Watch) told(alerts []Alert, taken bool, at time.Time) {
	if !taken {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.active {
		for _, t := range alerts {
			if a.firing && a.ended.Equal(t.EndsAt) && maps.Equal(a.alert.Labels, t.Labels) {
				a.told = at
			}
		}
	}
}

func (w *Watch) localized(f found) found {
	if w.cfg.Language == "zh-CN" {
		an := maps.Clone(f.alert.Annotations)
		for _, k := range []string{"summary", "description", "runbook"} {
			an[k] = an[k+"_zh"]
		}
		f.alert.Annotations = an
	}
	return f
}

// Firing returns what fires now, sorted by name, server and other labels.
func (w *Watch) Firing() []Alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Alert
	for _, a := range w.active {
		if a.firing && a.ended.IsZero() {
			out = append(out, a.asAlert())
		}
	}
	slices.SortFunc(out, inOrder)
	return out
}

// inOrder sorts alerts by name, server and other labels.
func inOrder(x, y Alert) int {
	return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Labels["server"], y.Labels["server"]),
		strings.Compare(fmt.Sprint(x.Labels), fmt.Sprint(y.Labels)))
}
