package alert

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
)

// A group collects its alerts first and waits for its server's turn afterwards.
// Meanwhile an alert may end, and the server before may have said so: what was
// collected contradicts the log and would be told as news. Such a notification
// counts as failed: nothing is logged, the group keeps the ends it holds, and
// its next notification is right.
var errOutdated = errors.New("alerts began or ended while the notification waited")

// outdated reports whether an alert has begun or ended since it was collected.
func (a *Alerting) outdated(alerts []*amalert.Alert) bool {
	for _, al := range alerts {
		current, err := a.alerts.Get(al.Fingerprint())
		if resolved := err != nil || current.Resolved(); resolved != al.Resolved() {
			return true
		}
	}
	return false
}

// guard puts a look at the clock and the alerts before each attempt: a process
// may stand still, and the world go on, between the log and the request.
func (a *Alerting) guard(receiver string, list []notify.Integration) []notify.Integration {
	out := make([]notify.Integration, len(list))
	for i := range list {
		inner := &list[i]
		out[i] = notify.NewIntegration(&guarded{a, inner}, inner, inner.Name(), inner.Index(), receiver)
	}
	return out
}

type guarded struct {
	a     *Alerting
	inner *notify.Integration
}

// Notify implements Alertmanager's Notifier.
func (n *guarded) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	if err := n.a.gate.passes(ctx); err != nil {
		return false, err
	}
	if n.a.restored.any(alerts) {
		n.a.endRestored(ctx) // the others' log may have come late
	}
	if n.a.outdated(alerts) {
		n.a.metrics.outdated.Inc()
		return false, errOutdated
	}
	return n.inner.Notify(ctx, alerts...)
}

// calm is a log without the failures that are none: outdated notifications have
// a metric and need nobody's care.
type calm struct{ slog.Handler }

// WithAttrs implements slog.Handler.
func (h calm) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, at := range attrs {
		if err, ok := at.Value.Any().(error); ok && onlyOutdated(err) {
			return slog.DiscardHandler
		}
	}
	return calm{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h calm) WithGroup(name string) slog.Handler { return calm{h.Handler.WithGroup(name)} }

// onlyOutdated reports whether each of the errors joined in err is errOutdated.
func onlyOutdated(err error) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return errors.Is(err, errOutdated)
	}
	return !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return !onlyOutdated(e) })
}
