package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"
	pm "github.com/prometheus/common/model"
)

// readSnapshot reads a part's snapshot if the engine can read it. A damaged one
// is set aside: starting without it is better than not warning at all.
func readSnapshot(path string, log *slog.Logger) io.Reader {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = tryRead(filepath.Base(path), b)
	}
	if err == nil {
		return bytes.NewReader(b)
	}
	aside := fmt.Sprintf("%s.damaged-%d", path, time.Now().Unix())
	log.Error("alerting snapshot damaged, set aside", "path", path, "aside", aside, "err", err)
	_ = os.Rename(path, aside)
	return nil
}

func tryRead(part string, b []byte) error {
	reg := prometheus.NewRegistry()
	var err error
	switch part {
	case "nflog":
		_, err = nflog.New(nflog.Options{SnapshotReader: bytes.NewReader(b), Metrics: reg, Retention: time.Hour})
	case "silences":
		_, err = silence.New(silence.Options{SnapshotReader: bytes.NewReader(b), Metrics: reg, Retention: time.Hour})
	}
	return err
}

// keep takes snapshots until ctx ends.
func (a *Alerting) keep(ctx context.Context) {
	t := time.NewTicker(a.cfg.SnapshotInterval)
	defer t.Stop()
	soon := time.NewTicker(time.Second)
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := a.save(); err != nil {
				a.log.Error("alerting state not saved", "err", err)
			}
		case <-soon.C:
			// What other servers told is in the journals, but not synced yet.
			if err := errors.Join(a.logs.sync(), a.sils.sync()); err != nil {
				a.log.Error("alerting state of other servers not on disk", "err", err)
				a.metrics.journalErrors.Inc()
			}
			// Alerts that began or ended are on disk within a second.
			if !a.active.dirty() {
				continue
			}
			if err := a.saveActive(); err != nil {
				a.log.Error("active alerts not saved", "err", err)
			}
		}
	}
}

// save writes everything to disk and empties the journals.
func (a *Alerting) save() error {
	var errs []error
	if _, err := a.nflog.GC(); err != nil {
		errs = append(errs, fmt.Errorf("clean notification log: %w", err))
	}
	if _, err := a.silences.GC(); err != nil {
		errs = append(errs, fmt.Errorf("clean silences: %w", err))
	}
	for _, p := range []struct {
		name  string
		j     *journal
		write func(io.Writer) (int64, error)
	}{{"nflog", a.logs, a.nflog.Snapshot}, {"silences", a.sils, a.silences.Snapshot}} {
		errs = append(errs, p.j.rotate())
		err := replaceFile(filepath.Join(a.cfg.Dir, p.name), func(w io.Writer) error { _, err := p.write(w); return err })
		if err != nil {
			errs = append(errs, fmt.Errorf("save %s: %w", p.name, err))
			continue
		}
		errs = append(errs, p.j.settle())
	}
	if !a.untold.empty() { // the whole log is read for it
		if told, err := a.told(); err != nil {
			errs = append(errs, err)
		} else {
			a.untold.prune(told, time.Now())
		}
	}
	return errors.Join(append(errs, a.saveActive())...)
}

// replaceFile writes a file beside path, fsyncs it and puts it in its place.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// activeFile remembers the active alerts: one that nobody sends again after a
// restart is resolved then, and its people hear of it.
type activeFile struct {
	path string

	mu      sync.Mutex
	changed bool                        // guarded by mu
	firing  map[pm.Fingerprint]struct{} // guarded by mu
}

func (f *activeFile) has(fp pm.Fingerprint) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.firing[fp]
	return ok
}

func (f *activeFile) begin(fp pm.Fingerprint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.firing[fp], f.changed = struct{}{}, true
}

// end reports whether the alert was active.
func (f *activeFile) end(fp pm.Fingerprint) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.firing[fp]
	delete(f.firing, fp)
	f.changed = true
	return ok
}

func (f *activeFile) mark() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = true
}

func (f *activeFile) dirty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (a *Alerting) saveActive() error {
	a.active.mu.Lock()
	a.active.changed = false
	a.active.mu.Unlock()
	it := a.alerts.GetPending()
	defer it.Close()
	list := []*amalert.Alert{}
	for e := range it.Next() {
		if !e.Data.Resolved() {
			list = append(list, e.Data)
		} else {
			a.untold.add(e.Data) // it may have run out a moment ago
		}
	}
	// The ends first: an alert in neither file would be lost.
	saved := a.untold.save()
	err := replaceFile(a.active.path, func(w io.Writer) error { return json.NewEncoder(w).Encode(list) })
	if err != nil {
		a.active.mark()
		err = fmt.Errorf("save active alerts: %w", err)
	}
	return errors.Join(saved, err)
}

// restoreActive puts the alerts of the last run back.
func (a *Alerting) restoreActive() error {
	b, err := os.ReadFile(a.active.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read active alerts: %w", err)
	}
	var list []*amalert.Alert
	if err := json.Unmarshal(b, &list); err != nil {
		a.log.Error("file of active alerts damaged, left out", "path", a.active.path, "err", err)
		return nil
	}
	told, err := a.told()
	if err != nil {
		a.log.Error("alerts from before the start not looked up in the log", "err", err)
	}
	now := time.Now()
	for _, al := range list {
		if al == nil || al.Validate() != nil {
			continue
		}
		if until := now.Add(a.cfg.RestoreGrace); al.EndsAt.Before(until) {
			al.EndsAt = until
		}
		// Its owner's next word rules, even a shorter end.
		al.Timeout = true
		if al.UpdatedAt.After(now) {
			al.UpdatedAt = now
		}
		if err := a.alerts.Put(context.Background(), al); err != nil {
			return fmt.Errorf("restore alert %s: %w", al.Name(), err)
		}
		if _, ok := told[logHash(al.Labels)]; ok {
			a.restored.add(al)
		}
	}
	return nil
}
