package alert

import (
	"context"
	"log/slog"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
)

// turn lets the servers before this one notify first, and only then looks at
// what is silenced, inhibited and told. When one of them has told meanwhile,
// the alerts that came with the group are as old as the wait: those of now take
// their place, or a message about an alert that has ended would follow the one
// that it has ended.
func (a *Alerting) turn(next notify.Stage) notify.Stage {
	return notify.StageFunc(func(ctx context.Context, l *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
		if d := a.wait(); d > 0 {
			began := time.Now()
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return ctx, nil, ctx.Err()
			}
			if a.toldSince(ctx, began) {
				alerts = a.renewed(alerts)
			}
		}
		return next.Exec(ctx, l, alerts...)
	})
}

// toldSince reports whether anybody notified the group of ctx after t. Clocks
// of servers differ: a second of doubt counts as after.
func (a *Alerting) toldSince(ctx context.Context, t time.Time) bool {
	key, ok := notify.GroupKey(ctx)
	name, ok2 := notify.ReceiverName(ctx)
	if !ok || !ok2 {
		return false
	}
	for _, in := range a.plan.Load().integrations[name] {
		entries, err := a.nflog.Query(nflog.QGroupKey(key), nflog.QReceiver(&nflogpb.Receiver{
			GroupName: name, Integration: in.Name(), Idx: uint32(in.Index()), //nolint:gosec // a small index
		}))
		if err == nil && len(entries) == 1 && entries[0].Timestamp.AsTime().After(t.Add(-time.Second)) {
			return true
		}
	}
	return false
}

// renewed returns the alerts as they are now. One that is forgotten has ended
// and been told of: it is left out.
func (a *Alerting) renewed(alerts []*amalert.Alert) []*amalert.Alert {
	out := make([]*amalert.Alert, 0, len(alerts))
	for _, held := range alerts {
		if now, err := a.alerts.Get(held.Fingerprint()); err == nil {
			out = append(out, now)
		}
	}
	return out
}
