package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	pm "github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"
)

// told returns the hashes of the alerts that somebody was told of as firing and
// not yet as resolved, by the notification log.
func (a *Alerting) told() (map[uint64]struct{}, error) {
	b, err := a.nflog.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("read the notification log: %w", err)
	}
	out := map[uint64]struct{}{}
	now := time.Now()
	for r := bytes.NewReader(b); ; {
		var e nflogpb.MeshEntry
		err := protodelim.UnmarshalOptions{MaxSize: -1}.UnmarshalFrom(r, &e)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the notification log: %w", err)
		}
		if !e.GetExpiresAt().AsTime().After(now) {
			continue
		}
		for _, h := range e.GetEntry().GetFiringAlerts() {
			out[h] = struct{}{}
		}
	}
}

// logHash is what the notification log knows an alert by.
func logHash(labels pm.LabelSet) uint64 {
	names := make([]pm.LabelName, 0, len(labels))
	for n := range labels {
		names = append(names, n)
	}
	slices.Sort(names)
	var b []byte
	for _, n := range names {
		b = append(append(append(append(b, n...), 0xff), labels[n]...), 0xff)
	}
	return xxhash.Sum64(b)
}

// restored holds the alerts that fire only because they did when the process
// ended, and that somebody was told of by then. When the others' log says that
// nobody is told of one any more, its end was told while this server was away:
// to let it fire on would be news to the log, and false.
type restored struct {
	mu sync.Mutex
	m  map[pm.Fingerprint]*amalert.Alert // guarded by mu
}

func (r *restored) add(al *amalert.Alert) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = map[pm.Fingerprint]*amalert.Alert{}
	}
	r.m[al.Fingerprint()] = al
}

// any reports whether one of the alerts may be such a one.
func (r *restored) any(alerts []*amalert.Alert) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.m) > 0 && slices.ContainsFunc(alerts, func(al *amalert.Alert) bool { return r.m[al.Fingerprint()] != nil })
}

// endRestored ends the restored alerts whose end was told by another server.
// An owner who sends one again has it begin again.
func (a *Alerting) endRestored(ctx context.Context) {
	a.restored.mu.Lock()
	defer a.restored.mu.Unlock()
	for fp, al := range a.restored.m {
		if current, err := a.alerts.Get(fp); err != nil || current != al {
			delete(a.restored.m, fp) // it ended, or its owner has sent it again
		}
	}
	if len(a.restored.m) == 0 {
		return
	}
	told, err := a.told()
	if err != nil {
		a.log.Error("alerts from before the start not compared with the log", "err", err)
		return
	}
	for fp, al := range a.restored.m {
		if _, ok := told[logHash(al.Labels)]; ok {
			continue
		}
		end := *al
		end.EndsAt, end.Timeout = time.Now(), false
		// Whatever its owner sends from the start on is younger.
		end.UpdatedAt = al.UpdatedAt.Add(1)
		if err := a.alerts.Put(ctx, &end); err != nil {
			a.log.Error("alert from before the start not ended", "alert", al.Name(), "err", err)
			continue
		}
		delete(a.restored.m, fp)
	}
}
