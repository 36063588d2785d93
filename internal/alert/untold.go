package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	pm "github.com/prometheus/common/model"
)

// The store forgets an alert a minute after its end, and only the groups know
// then that somebody has yet to hear of it. A new dispatcher has new groups: for
// the log the alert would fire on, and its next outage would be no news.

const (
	maxUntold = 10_000
	// keepUntold is how long an end is kept though nobody was told that the alert
	// fires: the notification that says so may still be on its way.
	keepUntold = 10 * time.Minute
)

// untold holds ended alerts whose end may have to be told.
type untold struct {
	path string

	mu      sync.Mutex
	changed bool                              // guarded by mu
	m       map[pm.Fingerprint]*amalert.Alert // guarded by mu
}

// add keeps an alert that has ended.
func (u *untold) add(al *amalert.Alert) {
	fp := al.Fingerprint()
	u.mu.Lock()
	defer u.mu.Unlock()
	if old := u.m[fp]; old == al || old == nil && len(u.m) >= maxUntold {
		return
	}
	u.m[fp], u.changed = al, true
}

// among returns the alerts that are in told.
func (u *untold) among(told map[uint64]struct{}) (list []*amalert.Alert) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, al := range u.m {
		if _, ok := told[logHash(al.Labels)]; ok {
			list = append(list, al)
		}
	}
	return list
}

func (u *untold) empty() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.m) == 0
}

// prune drops what nobody waits for.
func (u *untold) prune(told map[uint64]struct{}, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for fp, al := range u.m {
		if _, ok := told[logHash(al.Labels)]; !ok && now.Sub(al.EndsAt) > keepUntold {
			delete(u.m, fp)
			u.changed = true
		}
	}
}

// save writes the alerts to disk if they changed.
func (u *untold) save() error {
	u.mu.Lock()
	changed, list := u.changed, make([]*amalert.Alert, 0, len(u.m))
	for _, al := range u.m {
		list = append(list, al)
	}
	u.changed = false
	u.mu.Unlock()
	if !changed {
		return nil
	}
	if err := replaceFile(u.path, func(w io.Writer) error { return json.NewEncoder(w).Encode(list) }); err != nil {
		u.mu.Lock()
		u.changed = true
		u.mu.Unlock()
		return fmt.Errorf("save ended alerts: %w", err)
	}
	return nil
}

// load reads what save wrote.
func (u *untold) load(log *slog.Logger) error {
	b, err := os.ReadFile(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ended alerts: %w", err)
	}
	var list []*amalert.Alert
	if err := json.Unmarshal(b, &list); err != nil {
		log.Error("file of ended alerts damaged, left out", "path", u.path, "err", err)
		return nil
	}
	for _, al := range list {
		if al != nil && al.Validate() == nil && al.Resolved() {
			u.add(al)
		}
	}
	return nil
}

// putBack gives the store the ends again that are still to be told and that it
// has forgotten. Nothing may be on its way.
func (a *Alerting) putBack() {
	if a.untold.empty() {
		return
	}
	told, err := a.told()
	if err != nil {
		a.log.Error("ends not looked up in the log", "err", err)
		return
	}
	for _, al := range a.untold.among(told) {
		if _, err := a.alerts.Get(al.Fingerprint()); err == nil {
			continue // it began again, or is not forgotten yet
		}
		if err := a.alerts.Put(context.Background(), al); err != nil {
			a.log.Error("end not put back", "alert", al.Name(), "err", err)
		}
	}
}
