package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"panoptes/internal/model"
)

// The bounds of one transaction. A single record may go beyond batchOps when
// it refers to many others.
const (
	batchOps   = 128
	batchBytes = 1 << 20
	maxNeeds   = 500
)

// planned is a change on its way to the store.
type planned struct {
	op    string
	kind  *Kind
	id    string
	old   *entry          // nil for OpCreate
	spec  json.RawMessage // as asked for, secrets in clear
	rec   model.Record    // normalized; empty for OpDelete
	needs []model.Record  // what it refers to
	doc   int             // its place among the documents of an Apply
}

// commit writes changes in one transaction and returns its revision.
// A *model.KVCondError means that it must be planned again.
func (c *Catalog) commit(ctx context.Context, ps []*planned) (int64, error) {
	var conds []model.KVCond
	var ops []model.KVOp
	own := map[string]bool{} // records of this transaction
	for _, p := range ps {
		own[recordKey(p.kind.Name, p.id)] = true
	}
	touched := map[string]bool{}
	for _, p := range ps {
		kind := p.kind.Name
		cond := model.KVCond{Key: recordKey(kind, p.id), Revision: model.KVAbsent}
		if p.old != nil {
			cond.Revision = p.old.rec.Revision
		}
		conds = append(conds, cond)
		renamed := p.old != nil && p.op == OpUpdate && p.old.rec.Name != p.rec.Name
		if p.op == OpDelete || renamed {
			mark, err := c.unreferenced(ctx, p, renamed)
			if err != nil {
				return 0, err
			}
			conds = append(conds, model.KVCond{Key: refKey(kind, p.id), Revision: mark})
			ops = append(ops, model.KVOp{Key: nameKey(kind, p.old.rec.Name), Delete: true})
		}
		if p.op == OpDelete {
			ops = append(ops, model.KVOp{Key: recordKey(kind, p.id), Delete: true},
				model.KVOp{Key: refKey(kind, p.id), Delete: true})
			continue
		}
		value, err := c.encode(p.kind, p.rec)
		if err != nil {
			return 0, err
		}
		ops = append(ops, model.KVOp{Key: recordKey(kind, p.id), Value: value})
		if p.old == nil || renamed {
			conds = append(conds, model.KVCond{Key: nameKey(kind, p.rec.Name), Revision: model.KVAbsent})
			ops = append(ops, model.KVOp{Key: nameKey(kind, p.rec.Name), Value: []byte(p.id)})
		}
		for _, n := range p.needs {
			key := recordKey(n.Kind, n.ID)
			if touched[key] {
				continue
			}
			touched[key] = true
			ops = append(ops, model.KVOp{Key: refKey(n.Kind, n.ID)})
			if !own[key] && n.Revision > 0 {
				// Unchanged since it was looked up: neither deleted nor renamed.
				conds = append(conds, model.KVCond{Key: key, Revision: n.Revision})
			}
		}
	}
	rev, err := c.store.Txn(ctx, conds, ops)
	var ce *model.KVCondError
	if err != nil && !errors.As(err, &ce) {
		return 0, fmt.Errorf("write configuration: %w", err)
	}
	if err != nil {
		return 0, err
	}
	for _, p := range ps {
		p.rec.Revision = rev
	}
	return rev, nil
}

// unreferenced returns the revision of the mark that every new reference to
// p's record touches, after it has made sure that there is no reference yet.
// With byName only references by the record's name count.
func (c *Catalog) unreferenced(ctx context.Context, p *planned, byName bool) (int64, error) {
	mark, err := c.store.Get(ctx, refKey(p.kind.Name, p.id))
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return 0, err
	}
	if err := c.cache.wait(ctx, mark.Revision); err != nil {
		return 0, fmt.Errorf("%w: the configuration is being read", model.ErrUnavailable)
	}
	const show = 5
	refs := c.cache.referrers(p.kind.Name, p.id, p.old.rec.Name, byName, show+1)
	if len(refs) == 0 {
		return mark.Revision, nil
	}
	var names []string
	for i, e := range refs {
		if i == show {
			names = append(names, "others")
			break
		}
		names = append(names, fmt.Sprintf("%s %q", e.rec.Kind, e.rec.Name))
	}
	what, remedy := "deleted", "change or delete them first"
	if byName {
		what, remedy = "renamed", "let them refer to its id, or change them first"
	}
	return 0, fmt.Errorf("%w: %s %q cannot be %s: it is used by %s; %s", model.ErrConflict,
		p.kind.Name, p.old.rec.Name, what, strings.Join(names, ", "), remedy)
}

// written waits until this server sees what it wrote, and tells the audit.
func (c *Catalog) written(ctx context.Context, actor string, ps []*planned) {
	for _, p := range ps {
		c.met.changes.WithLabelValues(p.kind.Name, p.op).Inc()
	}
	wctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownWriteTimeout)
	defer cancel()
	if err := c.cache.wait(wctx, ps[len(ps)-1].rec.Revision); err != nil {
		c.log.Warn("written, but not seen here yet", "revision", ps[len(ps)-1].rec.Revision)
	}
	events := make([]model.Event, len(ps))
	for i, p := range ps {
		events[i] = c.event(actor, p)
	}
	c.audit(context.WithoutCancel(ctx), events...)
}

// event tells of one change, with the record before and after, redacted.
func (c *Catalog) event(actor string, p *planned) model.Event {
	if actor == "" {
		actor = "system"
	}
	now := time.Now().UTC()
	data := struct {
		Before json.RawMessage `json:"before,omitempty"`
		After  json.RawMessage `json:"after,omitempty"`
	}{}
	name, verb := p.rec.Name, p.op+"d" // created, updated, deleted
	if p.old != nil {
		data.Before = p.kind.redact(p.old.rec.Spec)
		if p.op == OpDelete {
			name = p.old.rec.Name
		}
	}
	if p.op != OpDelete {
		data.After = p.kind.redact(p.rec.Spec)
	}
	return model.Event{
		ID: model.NewID(now), Time: now, Kind: model.EventAudit, Subject: p.kind.Name + "/" + p.id,
		Name: name, Severity: "info", Actor: actor, Code: "record." + verb,
		Message: fmt.Sprintf("%s %q %s by %s", p.kind.Name, name, verb, actor),
		Labels:  map[string]string{"kind": p.kind.Name}, Data: encodeTree(data),
	}
}
