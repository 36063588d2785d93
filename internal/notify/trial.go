package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"
	pm "github.com/prometheus/common/model"

	"panoptes/internal/model"
)

// ReasonTest is the Reason of a Delivery that somebody asked for to try a
// receiver.
const ReasonTest = "test"

// Test sends a marked alert right through every place of a receiver, which need
// not be stored, and returns what went wrong.
func (n *Notify) Test(ctx context.Context, r model.Receiver) error {
	if r.Name == "" {
		r.Name = "test"
	}
	_, places, err := n.places(r)
	if err != nil {
		return err
	}
	hide := newRedactor(r)
	now := time.Now()
	labels := pm.LabelSet{"alertname": "Test", "severity": "info", "receiver": pm.LabelValue(r.Name)}
	alert := &amalert.Alert{UpdatedAt: now, Alert: pm.Alert{
		Labels:       labels,
		StartsAt:     now,
		EndsAt:       now.Add(5 * time.Minute),
		GeneratorURL: n.tmpl.ExternalURL.String(),
		Annotations: pm.LabelSet{
			"summary":     "Test message from Panoptes / 来自 Panoptes 的测试消息",
			"description": "Somebody pressed the test button of this receiver. Nothing is wrong. / 有人测试了此通知渠道，一切正常。",
		},
	}}
	ctx = amnotify.WithReceiverName(ctx, r.Name)
	ctx = amnotify.WithGroupKey(ctx, fmt.Sprintf("test/%s/%d", r.Name, now.UnixNano()))
	ctx = amnotify.WithGroupLabels(ctx, labels)
	ctx = amnotify.WithNow(ctx, now)
	ctx = amnotify.WithRepeatInterval(ctx, time.Hour)
	ctx = amnotify.WithRouteID(ctx, "test")
	ctx = amnotify.WithNotificationReason(ctx, amnotify.ReasonFirstNotification)

	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, p := range places {
		wg.Go(func() {
			w := &attempt{n: n, inner: p.notifier, receiver: r.Name, typ: p.name, idx: p.idx, timeout: p.timeout, hide: hide, reason: ReasonTest}
			ctx, part := partly(ctx)
			_, err := w.Notify(ctx, alert)
			if err == nil {
				err = *part // others have it: whoever tests wants to know
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
