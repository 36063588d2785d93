package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

const (
	answerers     = 4
	answerTimeout = 30 * time.Second
	maxChecks     = 5_000
	maxResults    = 2_000 // that wait for a server
	resultGroup   = 100
)

// ask is a question of the server.
type ask struct {
	kind   uplink.Kind
	id     uint64
	check  model.Check
	action uplink.ActionRequest
}

// ask queues a question. Too many are answered at once, with no.
func (t *talk) ask(ctx context.Context, kind uplink.Kind, content []byte) error {
	q := ask{kind: kind}
	if kind == uplink.KindAction {
		r, err := uplink.Decode[uplink.ActionRequest](content, uplink.MaxHello)
		if err != nil {
			return err
		}
		q.id, q.action = r.ID, r
	} else {
		r, err := uplink.Decode[uplink.ProbeRequest](content, maxControl)
		if err != nil {
			return err
		}
		q.id, q.check = r.ID, r.Check.Unwrap()
	}
	select {
	case t.asks <- q:
	default:
		t.reply(ctx, kind, uplink.Answer{ID: q.id, Error: "this agent is asked too much at once"})
	}
	return nil
}

// reply never waits for long: a server that does not read loses its answer.
func (t *talk) reply(ctx context.Context, kind uplink.Kind, a uplink.Answer) {
	if len(a.Value) > uplink.MaxAnswer {
		a.Value, a.Error = nil, fmt.Sprintf("the answer has %d bytes, %d are allowed", len(a.Value), uplink.MaxAnswer)
	}
	b, err := uplink.Encode(kind, a)
	if err != nil {
		return
	}
	select {
	case t.answers <- b:
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}

func (t *talk) answer(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-t.asks:
			v, err := t.a.respond(ctx, q)
			ans := uplink.Answer{ID: q.id}
			if err == nil {
				ans.Value, err = json.Marshal(v)
			}
			if err != nil {
				ans.Value, ans.Error = nil, err.Error()
			}
			t.reply(ctx, q.kind, ans)
		}
	}
}

func (a *Agent) respond(ctx context.Context, q ask) (any, error) {
	if q.kind == uplink.KindAction {
		if a.deps.Actor == nil {
			return uplink.ActionResult{Result: uplink.ActionRefused, Code: uplink.RefusedOff, Message: "restarts are switched off on this host; its own file must list services with restart: true, and actions.keys"}, nil
		}
		return a.deps.Actor.Act(ctx, q.action), nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if q.kind == uplink.KindLook {
		if a.deps.Collectors == nil {
			return nil, fmt.Errorf("%w: this host is not measured", model.ErrForbidden)
		}
		return a.deps.Collectors.Snapshot(ctx)
	}
	if a.deps.Worker == nil {
		return nil, fmt.Errorf("%w: checks are switched off on this agent; its own file says so", model.ErrForbidden)
	}
	return a.deps.Worker.RunCheck(ctx, q.check)
}

// takeChecks changes the list of checks. They go on running while no server
// is there.
func (a *Agent) takeChecks(c uplink.Checks) {
	if a.deps.Worker == nil {
		return
	}
	a.checksMu.Lock()
	if c.Reset {
		clear(a.checks)
	}
	for _, id := range c.Remove {
		delete(a.checks, id)
	}
	for _, p := range c.Put {
		if _, known := a.checks[p.ID]; p.ID != "" && (known || len(a.checks) < maxChecks) {
			a.checks[p.ID] = p.Unwrap()
		}
	}
	list := make([]model.Check, 0, len(a.checks))
	for _, v := range a.checks {
		list = append(list, v)
	}
	a.checksMu.Unlock()
	if !c.More {
		a.deps.Worker.Update(list)
	}
}

// resultQueue holds results for the verdict, which are of use for a short time only.
type resultQueue struct {
	mu   sync.Mutex // guards list
	list []waiting
}

type waiting struct {
	model.Result
	until time.Time
}

func (q *resultQueue) add(r model.Result, life time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) >= maxResults {
		q.list = q.list[1:]
	}
	q.list = append(q.list, waiting{r, time.Now().Add(life)})
}

// take returns a message of results, nil when there are none.
func (q *resultQueue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	var group []model.Result
	now, n, size := time.Now(), 0, 0
	for _, w := range q.list {
		if len(group) == resultGroup || size > uplink.MaxResults/2 {
			break
		}
		n++
		if now.Before(w.until) {
			if len(w.Evidence) > 64<<10 {
				w.Evidence = nil
			}
			size += 512 + len(w.Evidence) + len(w.Message)
			group = append(group, w.Result)
		}
	}
	q.list = q.list[n:]
	if len(q.list) == 0 {
		q.list = nil
	}
	if len(group) == 0 {
		return nil
	}
	b, err := uplink.Encode(uplink.KindResults, group)
	if err != nil || len(b) > uplink.MaxResults {
		return nil
	}
	return b
}
