package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

const (
	restartTimeout = 60 * time.Second
	limitWindow    = 10 * time.Minute
	maxLife        = 2 * time.Minute // of a request
	clockSlack     = 5 * time.Second // by which a server's clock may be ahead
)

// Allows reports whether anything may be restarted on request.
func (s *Services) Allows() bool {
	return len(s.keys) > 0 && slices.ContainsFunc(s.cfg.Services, func(v Service) bool { return v.Restart })
}

// Act does what a request asks for, if the host's own file lets it, one of its
// keys has signed it for this host and this time, and it was not done before.
//
// When ctx ends before the restart does, that goes on: its end is an event.
func (s *Services) Act(ctx context.Context, r uplink.ActionRequest) uplink.ActionResult {
	a := &r.Action
	if !s.acting.TryLock() {
		res := uplink.ActionResult{Result: uplink.ActionRefused, Code: uplink.RefusedLimit, Message: "another restart is under way on this host"}
		s.report("host.restart_request", a.Kind, a.Name, a.Actor, res)
		return res
	}
	done := make(chan uplink.ActionResult, 1)
	s.wg.Go(func() {
		res := s.judge(&r)
		if res.Result == "" {
			res = s.restart(s.ctx, a.Kind, a.Name)
		}
		s.report("host.restart_request", a.Kind, a.Name, a.Actor, res)
		s.acting.Unlock() // before it is told: the next request may follow at once
		done <- res
	})
	select {
	case res := <-done:
		return res
	case <-ctx.Done():
		return uplink.ActionResult{Result: uplink.ActionFailed, Message: "the connection has ended; what became of it is an event of the host"}
	}
}

// judge returns why a request is refused, or nothing; then it was written down.
func (s *Services) judge(r *uplink.ActionRequest) uplink.ActionResult {
	refuse := func(code, format string, args ...any) uplink.ActionResult {
		return uplink.ActionResult{Result: uplink.ActionRefused, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	a := &r.Action
	now := s.deps.Now()
	issued, expires := time.UnixMilli(a.Issued), time.UnixMilli(a.Expires)
	switch {
	case !slices.ContainsFunc(s.cfg.Services, func(v Service) bool { return v.Kind == a.Kind && v.Name == a.Name && v.Restart }):
		return refuse(uplink.RefusedOff, "restarts of %.20s %.200s are switched off on this host; its own file must list it under services with restart: true", a.Kind, a.Name)
	case !slices.ContainsFunc(s.keys, func(k []byte) bool { return bytes.Equal(k, r.Key) }):
		return refuse(uplink.RefusedOff, "this host does not trust the key that has signed the request; to change that, add %.64s to actions.keys in its own file", uplink.KeyText(r.Key))
	case !r.Verify():
		return refuse(uplink.RefusedInvalid, "the signature is not that of the request")
	case a.Node != s.cfg.NodeID:
		return refuse(uplink.RefusedInvalid, "the request was signed for another host")
	case a.Action != uplink.ActionRestart:
		return refuse(uplink.RefusedInvalid, "%.40q is nothing that this agent does", a.Action)
	case a.Nonce == "" || len(a.Nonce) > 64 || expires.Sub(issued) > maxLife:
		return refuse(uplink.RefusedInvalid, "the request is not bound to one occasion")
	case now.After(expires), issued.After(now.Add(clockSlack)):
		return refuse(uplink.RefusedInvalid, "the request is good from %s until %s, and it is %s on this host; look at its clock", issued.UTC().Format(time.TimeOnly), expires.UTC().Format(time.TimeOnly), now.UTC().Format(time.TimeOnly))
	case s.journal.seen(a.Nonce, issued):
		return refuse(uplink.RefusedInvalid, "the request was made before")
	case s.journal.recent(service(a.Kind, a.Name), now) >= s.cfg.MaxRestarts:
		return refuse(uplink.RefusedLimit, "%s %s was restarted %d times in ten minutes; wait, or look why it does not stay", a.Kind, a.Name, s.cfg.MaxRestarts)
	}
	// Before it is done: what is done twice is worse than what is not done.
	if err := s.journal.note(service(a.Kind, a.Name), now, a.Nonce, expires); err != nil {
		return uplink.ActionResult{Result: uplink.ActionFailed, Message: err.Error()}
	}
	return uplink.ActionResult{}
}

func service(kind, name string) string { return kind + "/" + name }

func (s *Services) restart(ctx context.Context, kind, name string) uplink.ActionResult {
	m := s.deps.Managers[kind]
	if m == nil {
		return uplink.ActionResult{Result: uplink.ActionFailed, Message: "services of kind " + kind + " cannot be restarted here"}
	}
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	began := time.Now()
	if err := m.Restart(ctx, name); err != nil {
		return uplink.ActionResult{Result: uplink.ActionFailed, Message: err.Error()}
	}
	return uplink.ActionResult{Result: uplink.ActionDone, Message: fmt.Sprintf("restarted in %s", time.Since(began).Round(10*time.Millisecond))}
}

// heal restarts a service that has failed, as the host's own file wants it.
func (s *Services) heal(ctx context.Context, w *watched, st Status) {
	s.acting.Lock()
	defer s.acting.Unlock()
	now := s.deps.Now()
	if s.journal.recent(service(w.Kind, w.Name), now) >= s.cfg.MaxRestarts {
		if w.failed == w.AutoRestart.After {
			s.report("host.service_restarted", w.Kind, w.Name, "agent", uplink.ActionResult{Result: uplink.ActionRefused, Code: uplink.RefusedLimit, Message: fmt.Sprintf("%s; it was restarted %d times in ten minutes and is left alone for now", st.Text, s.cfg.MaxRestarts)})
		}
		return
	}
	w.failed = 0
	if err := s.journal.note(service(w.Kind, w.Name), now, "", now); err != nil {
		s.log.Warn("service not restarted", "kind", w.Kind, "name", w.Name, "err", err)
		return
	}
	res := s.restart(ctx, w.Kind, w.Name)
	if st.Text != "" {
		res.Message = "was " + st.Text + "; " + res.Message
	}
	s.report("host.service_restarted", w.Kind, w.Name, "agent", res)
}

// report makes an event of what was asked for, or done.
func (s *Services) report(code, kind, name, actor string, res uplink.ActionResult) {
	s.log.Info("restart", "kind", kind, "name", name, "actor", actor, "result", res.Result, "message", res.Message)
	data, err := json.Marshal(map[string]string{"kind": clip(kind), "name": clip(name), "actor": clip(actor), "result": res.Result, "message": clip(res.Message)})
	if err != nil {
		data = nil
	}
	severity := "info"
	if res.Result != uplink.ActionDone {
		severity = "warning"
	}
	s.deps.Event(model.Event{Code: code, Severity: severity, Message: clip(fmt.Sprintf("restart of %s %s, wanted by %s: %s: %s", kind, name, actor, res.Result, res.Message)), Data: data})
}

func clip(s string) string {
	if len(s) > 500 {
		return s[:500]
	}
	return s
}
