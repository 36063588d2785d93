package notify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"

	"panoptes/internal/model"
)

// grace is how long an attempt may go on after its group was stopped by a
// reload or a shutdown: what was delivered must also get into the log.
const grace = 2 * time.Second

type idKey struct{}

// idempotency returns the id of the notification that ctx belongs to.
func idempotency(ctx context.Context) string {
	id, _ := ctx.Value(idKey{}).(string)
	return id
}

// Delivery is the Data of a delivery event.
type Delivery struct {
	Receiver    string  `json:"receiver"`
	Type        string  `json:"type"`
	Reason      string  `json:"reason"` // first notification, new alerts added, all alerts resolved, repeat interval elapsed, test, …
	Status      string  `json:"status"` // firing or resolved
	GroupKey    string  `json:"group_key"`
	Alerts      int     `json:"alerts"`
	Attempt     int     `json:"attempt"`
	Skipped     int     `json:"skipped,omitempty"` // failures alike since the last event
	OK          bool    `json:"ok"`
	Error       string  `json:"error,omitempty"`
	Refused     string  `json:"refused,omitempty"` // recipients that were refused for good, while others have it
	Duration    float64 `json:"duration_seconds"`
	Idempotency string  `json:"idempotency_id"`
}

// attempt wraps the notifier of one place.
type attempt struct {
	n        *Notify
	inner    amnotify.Notifier
	receiver string
	typ      string
	idx      int
	timeout  time.Duration
	hide     *redactor
	reason   string // in place of the pipeline's
}

// Notify implements Alertmanager's Notifier: it sends once, within the time
// limit, and records what came of it.
func (a *attempt) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	key, _ := amnotify.GroupKey(ctx)
	reason, _ := amnotify.NotificationReason(ctx)
	d := Delivery{
		Receiver: a.receiver, Type: a.typ, Reason: reason.String(), Status: status(alerts), GroupKey: key,
		Alerts: len(alerts), Idempotency: notificationID(ctx, a.receiver, a.typ, a.idx, alerts),
	}
	if a.reason != "" {
		d.Reason = a.reason
	}
	ctx, part := partly(ctx)
	start := time.Now()
	retry, err := a.send(ctx, d.Idempotency, alerts)
	took := time.Since(start)
	d.Duration = took.Seconds()
	d.OK = err == nil
	if err != nil {
		err = a.hide.err(err)
		d.Error = err.Error()
	} else if *part != nil {
		*part = a.hide.err(*part)
		d.Refused = (*part).Error()
		a.n.log.Warn("not all recipients take the notification", "receiver", a.receiver, "err", *part)
	}
	a.n.metrics.observe(a.receiver, a.typ, d.OK, took)
	if show := a.n.ledger.note(&d, a.idx, start); show {
		a.n.record(event(&d, start))
	}
	return retry, err
}

func (a *attempt) send(ctx context.Context, id string, alerts []*amalert.Alert) (retry bool, err error) {
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	var late *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		late = time.AfterFunc(grace, cancel)
	})
	defer func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		if late != nil {
			late.Stop()
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			retry, err = false, fmt.Errorf("the %s sender failed on this message: %v", a.typ, p)
		}
	}()
	retry, err = a.inner.Notify(context.WithValue(sctx, idKey{}, id), alerts...)
	if err != nil && sctx.Err() == context.DeadlineExceeded {
		return true, fmt.Errorf("no answer within %s: %w", a.timeout, err)
	}
	return retry, err
}

func status(alerts []*amalert.Alert) string {
	for _, a := range alerts {
		if !a.Resolved() {
			return "firing"
		}
	}
	return "resolved"
}

// notificationID names one notification: the same for every retry and for
// every server that may send it, another one for each change of state and for
// each repetition.
func notificationID(ctx context.Context, receiver, typ string, idx int, alerts []*amalert.Alert) string {
	key, _ := amnotify.GroupKey(ctx)
	lines := make([]string, 0, len(alerts))
	var first time.Time
	for _, a := range alerts {
		state := "firing"
		if a.Resolved() {
			state = "resolved"
		} else if first.IsZero() || a.StartsAt.Before(first) {
			first = a.StartsAt
		}
		lines = append(lines, a.Fingerprint().String()+" "+state+" "+strconv.FormatInt(a.StartsAt.UnixMilli(), 10))
	}
	slices.Sort(lines)
	if r, _ := amnotify.NotificationReason(ctx); r == amnotify.ReasonRepeatIntervalElapsed {
		now, _ := amnotify.Now(ctx)
		if every, _ := amnotify.RepeatInterval(ctx); every > 0 {
			// Counted from the alert's beginning, which all servers agree on: they
			// try a repetition seconds after it is due, and never across the next.
			lines = append(lines, "repeat "+strconv.FormatInt(int64(now.Sub(first)/every), 10))
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(append([]string{receiver, typ, strconv.Itoa(idx), key}, lines...), "\n")))
	return hex.EncodeToString(sum[:16])
}

func event(d *Delivery, at time.Time) model.Event {
	data, _ := json.Marshal(d)
	ev := model.Event{
		ID: model.NewID(at), Time: at.UTC(), Kind: model.EventDelivery, Subject: "receiver/" + d.Receiver, Name: d.Receiver,
		Actor: "system", Data: data, Severity: "info", Code: "delivery.ok",
		Message: fmt.Sprintf("notified %s by %s: %d %s (%s)", d.Receiver, d.Type, d.Alerts, d.Status, d.Reason),
	}
	if d.Refused != "" {
		ev.Severity, ev.Code = "warning", "delivery.partial"
		ev.Message = fmt.Sprintf("notified %s by %s, but not everybody: %s", d.Receiver, d.Type, d.Refused)
	}
	if !d.OK {
		ev.Severity, ev.Code = "warning", "delivery.failed"
		ev.Message = fmt.Sprintf("could not notify %s by %s: %s", d.Receiver, d.Type, d.Error)
	}
	return ev
}

// ledger counts attempts per place and group and thins out the events of a
// place that keeps failing in the same way.
type ledger struct {
	mu sync.Mutex
	m  map[string]*failing // guarded by mu
}

type failing struct {
	attempts int
	skipped  int
	err      string
	shown    time.Time
}

const (
	shownFailures = 5           // events of the first failures in a row
	failurePause  = time.Minute // then one as often
	maxFailing    = 10_000
)

func newLedger() *ledger { return &ledger{m: map[string]*failing{}} }

// note fills in Attempt and Skipped and reports whether d deserves an event.
func (l *ledger) note(d *Delivery, idx int, at time.Time) bool {
	key := d.Receiver + "\xff" + d.Type + "\xff" + strconv.Itoa(idx) + "\xff" + d.GroupKey
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.m[key]
	if f == nil {
		if d.OK {
			d.Attempt = 1
			return true
		}
		if len(l.m) >= maxFailing {
			clear(l.m)
		}
		f = &failing{}
		l.m[key] = f
	}
	f.attempts++
	d.Attempt = f.attempts
	if d.OK {
		d.Skipped = f.skipped
		delete(l.m, key)
		return true
	}
	if f.attempts > shownFailures && f.err == d.Error && at.Sub(f.shown) < failurePause {
		f.skipped++
		return false
	}
	d.Skipped, f.skipped, f.err, f.shown = f.skipped, 0, d.Error, at
	return true
}
