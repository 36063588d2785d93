package app

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"panoptes/internal/alert"
	"panoptes/internal/api"
	"panoptes/internal/model"
	"panoptes/internal/notify"
	"panoptes/internal/selfwatch"
)

// settingSelf tunes the built-in rules, the dead man's switch and the canary.
const settingSelf = "self-monitoring"

func (a *App) openSelf() (err error) {
	a.self, err = selfwatch.New(selfwatch.Config{NodeID: a.pki.NodeID(), Name: a.cfg.Node, Dir: a.cfg.DataDir}, selfwatch.Settings{}, selfwatch.Deps{
		Facts: a.facts, Put: a.putSelf, Owns: func() bool { return a.placement.owns("canary") }, Canary: a.sendCanary,
		HTTP:   &http.Client{Transport: &http.Transport{DialContext: a.dial, DisableKeepAlives: true}, Timeout: 20 * time.Second},
		Logger: a.logger("selfwatch"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("open the self-monitoring: %w", err)
	}
	return nil
}

// facts gathers what the parts of this server know.
func (a *App) facts(ctx context.Context) selfwatch.Facts {
	f := selfwatch.Facts{
		Members: a.cluster.Members(), Isolated: a.cluster.Isolated(), Skew: a.cluster.Skew(), Control: a.catalog.Writable(),
		Incomplete: a.incomplete(), Certificates: a.certificates(),
	}
	for _, n := range a.nodes() {
		if n.Role != model.RoleAgent && !n.Revoked {
			f.Servers = append(f.Servers, selfwatch.Server{ID: n.ID, Name: n.Name})
		}
	}
	now := time.Now()
	for _, d := range a.relay.Destinations() {
		dest := selfwatch.Destination{Server: a.nodeName(d.NodeID), Dropped: d.Dropped}
		if !d.Oldest.IsZero() {
			dest.Lag = now.Sub(d.Oldest)
		}
		f.Relay = append(f.Relay, dest)
	}
	if r := a.replica.Status().LastReport; r != nil && r.Missing > r.Repaired {
		f.Mismatches = r.Mismatch
	}
	f.Unwell = a.health.unwell(ctx)
	return f
}

// incomplete says what this server's copies lack.
func (a *App) incomplete() string {
	if d := a.store.Damage(); len(d) > 0 {
		return fmt.Sprintf("%d damaged parts of the samples were set aside", len(d))
	}
	if err := a.history.Damaged(); err != nil {
		return err.Error()
	}
	if s := a.replica.Status(); !s.Complete {
		return a.behind()
	}
	return ""
}

// certificates are this server's own and those of the authority.
func (a *App) certificates() (out []selfwatch.Certificate) {
	cert, _, ca := a.pki.Files()
	for _, f := range []struct{ name, path string }{{"server", cert}, {"ca", ca}} {
		data, err := os.ReadFile(f.path)
		if err != nil {
			a.log.Warn("certificate not looked at", "file", f.path, "err", err)
			continue
		}
		block, _ := pem.Decode(data)
		if block == nil {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, selfwatch.Certificate{Name: f.name, Expires: c.NotAfter})
		}
	}
	return out
}

// putSelf hands what self-monitoring raises to the alerting here; the other
// servers raise the same.
func (a *App) putSelf(ctx context.Context, list []selfwatch.Alert) error {
	out := make([]alert.Alert, len(list))
	for i, s := range list {
		out[i] = alert.Alert{Labels: s.Labels, Annotations: s.Annotations, StartsAt: s.StartsAt, EndsAt: s.EndsAt}
		if s.EndsAt.IsZero() {
			out[i].EndsAt = time.Now().Add(alertLife)
		}
	}
	return a.alerting.Put(ctx, out...)
}

func (a *App) sendCanary(ctx context.Context, receiver string) error {
	rec, err := a.catalog.Get(model.KindReceiver, receiver)
	if err != nil {
		return fmt.Errorf("the receiver %q of the test notification: %w", receiver, err)
	}
	var r model.Receiver
	if err := json.Unmarshal(rec.Spec, &r); err != nil {
		return fmt.Errorf("read receiver %s: %w", receiver, err)
	}
	r.ID, r.Revision = rec.ID, rec.Revision
	if err := a.alerting.TestReceiver(ctx, r); err != nil {
		return err
	}
	a.self.Delivered(rec.Name, nil)
	return nil
}

// takeReceivers tells self-monitoring which receivers there are.
func (a *App) takeReceivers() {
	revisions := map[string]int64{}
	for _, rec := range a.catalog.List(model.KindReceiver) {
		revisions[rec.Name] = rec.Revision
	}
	a.self.Receivers(revisions)
}

// takeSelf takes the settings of self-monitoring from the catalog.
func (a *App) takeSelf() {
	var set selfwatch.Settings
	rec, err := a.catalog.Get(model.KindSetting, settingSelf)
	if err == nil {
		var s model.Setting
		if err = json.Unmarshal(rec.Spec, &s); err == nil {
			set, err = selfwatch.ParseSettings(s.Value)
		}
	}
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		a.log.Error("self-monitoring keeps its old settings", "err", err)
		return
	}
	if err := a.self.Update(set); err != nil {
		a.log.Error("self-monitoring keeps its old settings", "err", err)
	}
}

// selfParts is what self-monitoring says about this server's health.
func (a *App) selfParts() (out []api.HealthPart) {
	for _, p := range a.self.Parts() {
		out = append(out, api.HealthPart{Name: p.Name, Level: p.Level, Status: p.Status, Message: p.Message})
	}
	return out
}

// delivery keeps the event of an attempt to notify, and counts it. Tests do not
// count: what is tested may be a draft.
func (a *App) delivery(e model.Event) {
	a.events.record(e)
	var d notify.Delivery
	if a.self == nil || json.Unmarshal(e.Data, &d) == nil && d.Reason == notify.ReasonTest {
		return
	}
	var err error
	if e.Code == "delivery.failed" {
		err = errors.New(e.Message)
	}
	a.self.Delivered(e.Name, err)
}
