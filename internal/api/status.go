package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"panoptes/internal/model"
)

// healthy says that the process lives.
func (a *API) healthy(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "OK") }

// ready says whether requests are served.
func (a *API) ready(w http.ResponseWriter, _ *http.Request) {
	if a.deps.Ready != nil {
		if err := a.deps.Ready(); err != nil {
			w.Header().Set("Retry-After", "1")
			text(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
	}
	text(w, http.StatusOK, "OK")
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(s + "\n")) // an error means that nobody listens
}

func (a *API) reload(r *http.Request) (any, error) {
	if a.deps.Reload == nil {
		return nil, missing("configuration file to read again")
	}
	if err := a.deps.Reload(r.Context()); err != nil {
		return nil, err
	}
	a.audit(r, "config.reload", "setting/file", "configuration file read again")
	return nil, nil
}

// audit notes what a person did that is no change of a record.
func (a *API) audit(r *http.Request, code, subject, message string) {
	now := time.Now()
	a.deps.Audit(r.Context(), model.Event{
		ID: model.NewID(now), Time: now.UTC(), Kind: model.EventAudit, Subject: subject, Severity: "info",
		Actor: who(r).Actor(), Code: code, Message: message, Labels: map[string]string{"address": address(r)},
	})
}

type healthAnswer struct {
	Status string                 `json:"status"`
	Score  int                    `json:"score"`
	Levels map[string]healthLevel `json:"levels,omitempty"` // L1 process, L2 ports, L3 functions, L4 data are right
}

type healthLevel struct {
	Status string       `json:"status"`
	Parts  []HealthPart `json:"parts"`
}

// health tells strangers, and those who are bound to labels, only whether all is well.
func (a *API) health(r *http.Request) (any, error) {
	h := a.healthNow(r.Context())
	out := healthAnswer{Status: h.Status, Score: h.Score}
	if who(r) == nil || !unbound(who(r)) {
		return out, nil
	}
	out.Levels = map[string]healthLevel{}
	for _, l := range []string{"L1", "L2", "L3", "L4"} {
		out.Levels[l] = healthLevel{Status: "ok", Parts: []HealthPart{}}
	}
	for _, p := range h.Parts {
		l := out.Levels[p.Level]
		l.Parts = append(l.Parts, p)
		if l.Status == "" || severity(p.Status) > severity(l.Status) {
			l.Status = p.Status
		}
		out.Levels[p.Level] = l
	}
	return out, nil
}

type selfRulesAnswer struct {
	Items []SelfRule `json:"items"`
}

// selfRules lists what the servers warn about by themselves.
func (a *API) selfRules(*http.Request) (any, error) {
	out := selfRulesAnswer{Items: []SelfRule{}}
	if a.deps.SelfRules != nil {
		out.Items = append(out.Items, a.deps.SelfRules()...)
	}
	return out, nil
}

func severity(status string) int {
	switch status {
	case "critical":
		return 2
	case "warning":
		return 1
	}
	return 0
}

// metricsPage answers those who may read, and loopback when that is configured.
func (a *API) metricsPage(w http.ResponseWriter, r *http.Request) {
	id := who(r)
	ip, err := netip.ParseAddr(address(r))
	local := err == nil && ip.IsLoopback() && a.cfg.OpenMetrics
	switch {
	case a.deps.Metrics == nil:
		a.fail(w, r, missing("metrics"))
	case id != nil && !unbound(id):
		a.fail(w, r, fmt.Errorf("%w: you are bound to %s, and these are of the server itself", model.ErrForbidden, id.Bound))
	case local || id != nil && model.AtLeast(id.Role, viewer):
		a.deps.Metrics.ServeHTTP(w, r)
	default:
		a.fail(w, r, model.ErrUnauthorized)
	}
}

// mounted hands a request to another part's handler.
func (a *API) mounted(name string, h http.Handler) func(http.ResponseWriter, *http.Request) {
	if h == nil {
		return func(w http.ResponseWriter, r *http.Request) { a.fail(w, r, missing(name)) }
	}
	return h.ServeHTTP
}

// unknown answers paths that are no route: 404, or 405 when the path is one
// for another method.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := *r
		probe.Method = m
		if _, pattern := a.mux.Handler(&probe); strings.HasPrefix(pattern, m+" ") {
			allow = append(allow, m)
		}
	}
	if len(allow) == 0 {
		a.fail(w, r, model.ErrNotFound)
		return
	}
	w.Header().Set("Allow", strings.Join(allow, ", "))
	writeJSON(w, r, http.StatusMethodNotAllowed, errorBody{errorInfo{Code: "invalid", Message: r.Method + " is not possible here; possible: " + strings.Join(allow, ", ")}})
}

func (a *API) openapi(*http.Request) (any, error) { return rawJSON(a.openap), nil }
