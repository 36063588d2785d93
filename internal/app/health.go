package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// health gathers what the parts say of themselves.
type health struct {
	app         *App
	began       time.Time
	alertingErr atomic.Pointer[error]
}

func newHealth(a *App) *health { return &health{app: a, began: time.Now()} }

// The levels of health: the process, its ports, its functions, its data.
const (
	levelProcess  = "L1"
	levelPorts    = "L2"
	levelFunction = "L3"
	levelData     = "L4"
)

// The weight of a part's state in the score.
const (
	costWarning  = 10
	costCritical = 35
)

func (h *health) report(context.Context) api.Health {
	a := h.app
	var parts []api.HealthPart
	add := func(name, level, bad string, err error, good string) {
		p := api.HealthPart{Name: name, Level: level, Status: "ok", Message: good}
		if err != nil {
			p.Status, p.Message = bad, err.Error()
		}
		parts = append(parts, p)
	}
	add("process", levelProcess, "critical", nil, fmt.Sprintf("running for %s", time.Since(h.began).Round(time.Second)))
	add("web", levelPorts, "critical", nil, "answering at "+a.URL())
	add("configuration", levelFunction, "warning", a.catalog.Writable(), "can be read and changed")
	add("watching", levelFunction, "critical", a.ready(), "checks are run and judged")
	var alertErr error
	if p := h.alertingErr.Load(); p != nil {
		alertErr = *p
	}
	add("alerting", levelFunction, "critical", alertErr, "alerts are grouped, routed and sent")
	add("samples", levelData, "critical", a.store.Health(), "stored and synced")
	var damage error
	if d := a.store.Damage(); len(d) > 0 {
		damage = fmt.Errorf("%d damaged parts were set aside; the newest: %s at %s (%s)", len(d), d[len(d)-1].Kind, d[len(d)-1].Path, d[len(d)-1].Err)
	}
	add("sample files", levelData, "warning", damage, "no damage found")
	add("history", levelData, "warning", a.history.Damaged(), "no damage found")
	if a.engine != nil {
		add("engine outside", levelData, "warning", a.engineErr(), "takes samples")
	}
	if a.uploader != nil {
		var err error
		if s := a.uploader.Status(); s.LastErr != "" {
			err = fmt.Errorf("%d blocks wait for the bucket: %s", s.Pending, s.LastErr)
		}
		add("upload", levelData, "warning", err, "finished blocks are in the bucket")
	}
	add("notifications", levelFunction, "warning", a.quiet.err(), "people are told")
	add("servers", levelPorts, "warning", h.servers(), "all servers on record answer")
	var lack error
	if why := a.behind(); why != "" {
		lack = errors.New(why)
	}
	add("copies", levelData, "warning", lack, "this server has what the others have")
	parts = append(parts, a.selfParts()...)

	out := api.Health{Status: "ok", Score: 100, Parts: parts}
	for _, p := range parts {
		switch p.Status {
		case "warning":
			out.Score -= costWarning
			if out.Status == "ok" {
				out.Status = "warning"
			}
		case "critical":
			out.Score -= costCritical
			out.Status = "critical"
		}
	}
	out.Score = max(out.Score, 0)
	return out
}

// servers says which servers on record do not answer.
func (h *health) servers() error {
	state := map[string]model.MemberState{}
	for _, m := range h.app.cluster.Members() {
		state[m.ID] = m.State
	}
	var missing []string
	for _, n := range h.app.nodes() {
		if n.Role != model.RoleAgent && !n.Revoked && state[n.ID] != model.MemberAlive && n.ID != h.app.pki.NodeID() {
			missing = append(missing, n.Name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not reached: %s", strings.Join(missing, ", "))
	}
	return nil
}

// unwell says why the process, its ports or its functions are not well; what
// data lack does not count.
func (h *health) unwell(context.Context) error {
	a := h.app
	if err := a.ready(); err != nil {
		return err
	}
	if p := h.alertingErr.Load(); p != nil && *p != nil {
		return *p
	}
	return a.store.Health()
}
