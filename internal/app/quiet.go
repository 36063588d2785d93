package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"panoptes/internal/backup"
	"panoptes/internal/model"
)

// settingNotifications says that nobody is notified: {"quiet": "why"}.
const settingNotifications = "notifications"

type notifications struct {
	Quiet string `json:"quiet,omitempty"`
}

func parseNotifications(value json.RawMessage) (notifications, error) {
	var n notifications
	if err := model.DecodeStrict(value, &n); err != nil {
		return n, err
	}
	if len(n.Quiet) > 1000 {
		return n, model.Invalid{{Field: "quiet", Msg: "is longer than 1000 bytes"}}
	}
	return n, nil
}

// quiet is why nobody is notified.
type quiet struct{ why atomic.Pointer[string] }

func (q *quiet) set(why string) { q.why.Store(&why) }

func (q *quiet) reason() string {
	if p := q.why.Load(); p != nil {
		return *p
	}
	return ""
}

func (q *quiet) on() bool { return q.reason() != "" }

func (q *quiet) err() error {
	if why := q.reason(); why != "" {
		return fmt.Errorf("nobody is notified: %s; \"panoptes backup resume\" ends this", why)
	}
	return nil
}

// openQuiet finds out whether this directory was just restored: then the world
// may have gone on without it, and nobody is notified until a person says so.
func (a *App) openQuiet() error {
	data, err := os.ReadFile(a.cfg.Path(backup.QuietName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whether this server was restored: %w", err)
	}
	var r backup.Quiet
	if json.Unmarshal(data, &r) != nil {
		a.log.Warn("unreadable", "file", a.cfg.Path(backup.QuietName))
	}
	a.quiet.set(fmt.Sprintf("this server was restored from backup %s of %s", r.Backup, r.Time.UTC().Format(time.DateTime)))
	return nil
}

// keepQuiet makes what the file says a record, so that it holds for the servers
// that join and can be ended by people.
func (a *App) keepQuiet(ctx context.Context) error {
	path := a.cfg.Path(backup.QuietName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	value, err := json.Marshal(notifications{Quiet: a.quiet.reason()})
	if err != nil {
		return err
	}
	spec, err := json.Marshal(model.Setting{Name: settingNotifications, Value: value})
	if err != nil {
		return err
	}
	if _, err := a.catalog.Get(model.KindSetting, settingNotifications); errors.Is(err, model.ErrNotFound) {
		_, err = a.catalog.Create(ctx, "system", model.KindSetting, spec)
		if err != nil {
			return fmt.Errorf("keep that nobody is notified: %w", err)
		}
	} else if err == nil {
		if _, err := a.catalog.Update(ctx, "system", model.KindSetting, settingNotifications, spec, 0); err != nil {
			return fmt.Errorf("keep that nobody is notified: %w", err)
		}
	} else {
		return err
	}
	a.log.Warn("nobody is notified until \"panoptes backup resume\"", "why", a.quiet.reason())
	return os.Remove(path)
}

// takeQuiet takes the record as it is now.
func (a *App) takeQuiet() {
	if _, err := os.Stat(a.cfg.Path(backup.QuietName)); err == nil {
		return // it is no record yet
	}
	why := ""
	if rec, err := a.catalog.Get(model.KindSetting, settingNotifications); err == nil {
		var s model.Setting
		if err := json.Unmarshal(rec.Spec, &s); err == nil {
			if n, err := parseNotifications(s.Value); err == nil {
				why = n.Quiet
			}
		}
	}
	if why != a.quiet.reason() {
		a.log.Info("notifications", "quiet", why)
		a.quiet.set(why)
	}
}
