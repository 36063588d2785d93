package alert

import (
	"context"
	"sync"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
)

// A group collects its alerts first and waits for its server's turn afterwards.
// Meanwhile an alert may end, and the server before may have said so: what was
// collected contradicts the log and would be told as news. Such a notification
// is dropped, and leaves no trace in the log; the group's next one is right.

// voided holds the notifications that were dropped, by the part of the log they
// are about to write to: it is what sending and logging have in common.
type voided struct {
	mu sync.Mutex
	m  map[*nflog.Store]struct{} // guarded by mu
}

func (v *voided) add(s *nflog.Store) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.m == nil || len(v.m) > 10_000 { // those whose group was stopped in between
		v.m = map[*nflog.Store]struct{}{}
	}
	v.m[s] = struct{}{}
}

// take reports whether s was added, and removes it.
func (v *voided) take(s *nflog.Store) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.m[s]
	delete(v.m, s)
	return ok
}

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
	if store, ok := notify.NflogStore(ctx); ok && n.a.outdated(alerts) {
		n.a.void.add(store)
		n.a.metrics.outdated.Inc()
		return false, nil
	}
	return n.inner.Notify(ctx, alerts...)
}
