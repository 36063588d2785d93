package pushgateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// Handler serves PUT, POST and DELETE below /metrics/job and /metrics/job@base64,
// GET /api/v1/metrics and PUT /api/v1/admin/wipe as the original does, and
// GET /v1/push-groups for pages. Who may do what is checked in front of it:
// nothing is read before.
func (p *Pushgateway) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		var serve func(http.ResponseWriter, *http.Request)
		var allow string
		switch {
		case strings.HasPrefix(path, pathPrefix+"/"), strings.HasPrefix(path, pathPrefix+base64Mark+"/"):
			serve, allow = p.serveGroup, "PUT, POST, DELETE"
		case path == "/api/v1/metrics":
			serve, allow = p.serveMetrics, "GET, HEAD"
		case path == "/v1/push-groups":
			serve, allow = p.serveList, "GET, HEAD"
		case path == "/api/v1/admin/wipe":
			serve, allow = p.serveWipe, "PUT"
		default:
			http.NotFound(w, r)
			return
		}
		for _, m := range strings.Split(allow, ", ") {
			if m == r.Method {
				serve(w, r)
				return
			}
		}
		w.Header().Set("Allow", allow)
		http.Error(w, "this method is not possible here", http.StatusMethodNotAllowed)
	})
}

func (p *Pushgateway) serveGroup(w http.ResponseWriter, r *http.Request) {
	key, err := p.parsePath(r.URL.EscapedPath())
	if err == nil {
		key, err = p.bind(r.Context(), key)
	}
	if err != nil {
		p.answer(w, r, 0, err)
		return
	}
	if r.Method == http.MethodDelete {
		p.answer(w, r, http.StatusAccepted, p.remove(r.Context(), []labels.Labels{key}))
		return
	}
	p.answer(w, r, http.StatusOK, p.takePush(w, r, key))
}

// takePush reads, decodes and keeps a push.
func (p *Pushgateway) takePush(w http.ResponseWriter, r *http.Request, group labels.Labels) error {
	cost := int64(p.cfg.MaxBody)
	if r.ContentLength >= 0 && r.Header.Get("Content-Encoding") == "" {
		cost = min(cost, r.ContentLength)
	}
	cost *= memoryPerByte
	if p.flight.Add(cost) > p.cfg.MaxInFlight {
		p.flight.Add(-cost)
		return errBusy
	}
	defer p.flight.Add(-cost)
	body, err := p.read(w, r)
	if err != nil {
		return err
	}
	metrics, err := p.decode(r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	families, err := p.families(metrics, group)
	if err != nil { // whoever watches the group's times must see it, as of the original
		p.mu.Lock()
		return p.fail(group, p.deps.Bound(r.Context()), err, time.Now())
	}
	return p.push(r.Context(), group, families, r.Method == http.MethodPut)
}

// bind adds the labels that who pushes is bound to.
func (p *Pushgateway) bind(ctx context.Context, group labels.Labels) (labels.Labels, error) {
	bound := p.deps.Bound(ctx)
	if bound.IsEmpty() {
		return group, nil
	}
	b := labels.NewBuilder(group)
	var err error
	bound.Range(func(l labels.Label) {
		if have := group.Get(l.Name); have != "" && have != l.Value {
			err = fmt.Errorf("label %s is %q, this key is bound to %q: %w", l.Name, have, l.Value, model.ErrForbidden)
		}
		b.Set(l.Name, l.Value)
	})
	return b.Labels(), err
}

// answer ends a request.
func (p *Pushgateway) answer(w http.ResponseWriter, r *http.Request, code int, err error) {
	if err == nil {
		p.metrics.requests.WithLabelValues(r.Method, strconv.Itoa(code)).Inc()
		w.WriteHeader(code)
		return
	}
	msg := err.Error()
	switch {
	case errors.Is(err, model.ErrForbidden):
		code = http.StatusForbidden
	case errors.Is(err, model.ErrTooLarge):
		code = http.StatusRequestEntityTooLarge
	case errors.Is(err, errTooMuch):
		code = http.StatusUnprocessableEntity
	case errors.Is(err, model.ErrLimit):
		code = http.StatusTooManyRequests
	case mine(err):
		code = http.StatusBadRequest
	case errors.Is(err, model.ErrNoSpace):
		code = http.StatusInsufficientStorage
	case errors.Is(err, model.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		code = http.StatusServiceUnavailable
	default:
		code, msg = http.StatusInternalServerError, "keeping the metrics did not work; the server's log has the reason"
	}
	if code >= 500 {
		p.log.Warn("a push was not taken", "path", r.URL.Path, "code", code, "err", err)
	}
	switch code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		w.Header().Set("Retry-After", "5")
	}
	p.metrics.requests.WithLabelValues(r.Method, strconv.Itoa(code)).Inc()
	http.Error(w, msg, code)
}

// serveWipe deletes all groups, or those that who asks is bound to.
func (p *Pushgateway) serveWipe(w http.ResponseWriter, r *http.Request) {
	bound := p.deps.Bound(r.Context())
	var all []labels.Labels
	p.mu.RLock()
	for _, g := range p.groups {
		if g.exists() && g.within(bound) {
			all = append(all, g.labels)
		}
	}
	p.mu.RUnlock()
	p.answer(w, r, http.StatusAccepted, p.remove(r.Context(), all))
}

// within says whether a group has these labels.
func (g *group) within(bound labels.Labels) bool {
	ok := true
	bound.Range(func(l labels.Label) { ok = ok && g.labels.Get(l.Name) == l.Value })
	return ok
}
