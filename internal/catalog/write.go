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

// maxRetry bounds how long a write without a revision is tried again while
// others change the same records.
const maxRetry = 10 * time.Second

// maxSame is how often the same condition may fail in a row.
const maxSame = 50

// Create writes a new record. Errors: model.Invalid, model.ErrConflict when
// the name is taken, model.ErrTooLarge, model.ErrLimit, model.ErrUnavailable,
// model.ErrNoSpace. actor is who does it, "user/alice".
func (c *Catalog) Create(ctx context.Context, actor, kind string, spec json.RawMessage) (model.Record, error) {
	id := model.NewID(time.Now())
	return c.one(ctx, actor, kind, func(k *Kind) (*planned, error) {
		clear, err := k.keepSecrets(spec, nil, nil)
		if err != nil {
			return nil, err
		}
		return &planned{op: OpCreate, kind: k, id: id, spec: clear}, nil
	}, spec)
}

// Update replaces the spec of a record. ifRevision is the revision that the
// caller has seen; another one gives model.ErrRevision. 0 overwrites any.
// Fields that hold model.Redacted keep their secret, hidden fields that are
// left out stay, another name renames.
func (c *Catalog) Update(ctx context.Context, actor, kind, idOrName string, spec json.RawMessage, ifRevision int64) (model.Record, error) {
	return c.one(ctx, actor, kind, func(k *Kind) (*planned, error) {
		old, err := c.current(ctx, kind, idOrName, ifRevision)
		if err != nil {
			return nil, err
		}
		clear, err := k.keepSecrets(spec, old.rec.Spec, nil)
		if err != nil {
			return nil, err
		}
		return &planned{op: OpUpdate, kind: k, id: old.rec.ID, old: old, spec: clear}, nil
	}, spec)
}

// Patch changes a record by a merge patch (RFC 7386); the rest as in Update.
func (c *Catalog) Patch(ctx context.Context, actor, kind, idOrName string, patch json.RawMessage, ifRevision int64) (model.Record, error) {
	return c.one(ctx, actor, kind, func(k *Kind) (*planned, error) {
		old, err := c.current(ctx, kind, idOrName, ifRevision)
		if err != nil {
			return nil, err
		}
		p, err := decodeTree(patch)
		if err != nil {
			return nil, model.DecodeError(err)
		}
		named, ok := p.(map[string]any)
		if !ok {
			return nil, model.Invalid{{Msg: "a merge patch must be a JSON object"}}
		}
		tree, err := decodeTree(old.rec.Spec)
		if err != nil {
			return nil, fmt.Errorf("read the stored record: %w", err)
		}
		clear, err := k.keepSecrets(encodeTree(mergePatch(tree, p)), old.rec.Spec, named)
		if err != nil {
			return nil, err
		}
		return &planned{op: OpUpdate, kind: k, id: old.rec.ID, old: old, spec: clear}, nil
	}, patch)
}

// Delete removes a record; model.ErrConflict names those that still refer to it.
func (c *Catalog) Delete(ctx context.Context, actor, kind, idOrName string, ifRevision int64) error {
	_, err := c.one(ctx, actor, kind, func(k *Kind) (*planned, error) {
		old, err := c.current(ctx, kind, idOrName, ifRevision)
		if err != nil {
			return nil, err
		}
		return &planned{op: OpDelete, kind: k, id: old.rec.ID, old: old}, nil
	}, nil)
	return err
}

// current finds the record to change, at the revision that was asked for.
func (c *Catalog) current(ctx context.Context, kind, idOrName string, ifRevision int64) (*entry, error) {
	e := c.cache.find(kind, idOrName)
	if ifRevision > 0 && (e == nil || e.rec.Revision < ifRevision) {
		// Written through another server a moment ago, perhaps. Until that is
		// here nobody knows whether it is still the newest revision.
		wctx, cancel := context.WithTimeout(ctx, time.Second)
		err := c.cache.wait(wctx, ifRevision)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%w: this server has not seen revision %d yet; try again, or another server", model.ErrUnavailable, ifRevision)
		}
		e = c.cache.find(kind, idOrName)
	}
	if e == nil {
		return nil, notFound(kind, idOrName)
	}
	if ifRevision > 0 && e.rec.Revision != ifRevision {
		return nil, fmt.Errorf("%w: %s %q is at revision %d, not %d: somebody else changed it; read it again", model.ErrRevision, kind, e.rec.Name, e.rec.Revision, ifRevision)
	}
	return e, nil
}

// one plans and writes the change of one record, again when it was overtaken.
func (c *Catalog) one(ctx context.Context, actor, kind string, plan func(*Kind) (*planned, error), body json.RawMessage) (model.Record, error) {
	k := c.kind[kind]
	if k == nil {
		return model.Record{}, fmt.Errorf("%w: there is no kind %q", model.ErrNotFound, kind)
	}
	if len(body) > MaxSpecBytes {
		return model.Record{}, tooLarge()
	}
	if err := c.Writable(); err != nil {
		return model.Record{}, err
	}
	var rec model.Record
	err := c.retry(ctx, maxRetry, func(ctx context.Context) error {
		p, err := plan(k)
		if err != nil {
			return err
		}
		if p.op != OpDelete {
			o := newOverlay(c.cache)
			if err := c.finish(o, p); err != nil {
				return err
			}
			if err := c.resolve(o, p); err != nil {
				return err
			}
		}
		if p.op == OpNone {
			rec = p.old.rec
			return nil
		}
		rev, err := c.commit(ctx, []*planned{p})
		if err != nil {
			return err
		}
		rec = p.rec
		rec.Revision = rev
		c.written(ctx, actor, []*planned{p})
		return nil
	})
	if err != nil {
		return model.Record{}, err
	}
	if e := c.cache.byID(kind, rec.ID); e != nil && e.rec.Revision == rec.Revision {
		return e.rec, nil
	}
	return rec, nil
}

func tooLarge() error {
	return fmt.Errorf("%w: a record may have %d KiB", model.ErrTooLarge, MaxSpecBytes>>10)
}

// retry repeats fn while a condition of its transaction was overtaken by
// another write, each time after that write has reached the cache.
func (c *Catalog) retry(ctx context.Context, limit time.Duration, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last model.KVCondError
	for same := 0; ; {
		err := fn(ctx)
		var ce *model.KVCondError
		if !errors.As(err, &ce) {
			return err
		}
		if ce.Key != last.Key || ce.Found != last.Found {
			last, same = *ce, 0
		}
		if same++; same > maxSame {
			return fmt.Errorf("%w: the store and its copy here disagree about %s", ce.Err, ce.Key)
		}
		var werr error
		if ce.Found > 0 {
			werr = c.cache.wait(ctx, ce.Found)
		} else {
			werr = c.cache.waitMove(ctx, 50*time.Millisecond) // deleted; nobody knows at which revision
		}
		if werr != nil {
			return fmt.Errorf("%w: the records changed all the time; try again", model.ErrRevision)
		}
	}
}

// finish normalizes a planned record and checks what holds for every kind.
func (c *Catalog) finish(o *overlay, p *planned) error {
	if len(p.spec) > MaxSpecBytes {
		return tooLarge()
	}
	spec, err := p.kind.Normalize(p.spec, view{o, p.old})
	if err != nil {
		return err
	}
	if len(spec) > MaxSpecBytes {
		return tooLarge()
	}
	if !json.Valid(spec) {
		return fmt.Errorf("normalize %s: the result is not valid JSON", p.kind.Name)
	}
	name, err := nameOf(spec)
	if err != nil {
		return err
	}
	if isID(name) && !p.kind.Internal {
		return model.Invalid{{Field: "name", Msg: "looks like an identifier; choose another one"}}
	}
	if other, ok := o.Get(p.kind.Name, name); ok && other.ID != p.id {
		return fmt.Errorf("%w: there is already a %s %q", model.ErrConflict, p.kind.Name, name)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	p.rec = model.Record{Kind: p.kind.Name, ID: p.id, Name: name, Created: now, Updated: now, Spec: spec}
	if p.old != nil {
		p.rec.Created = p.old.rec.Created
		if sameJSON(spec, p.old.rec.Spec) {
			p.op = OpNone
			p.rec = p.old.rec
		}
	} else if c.cache.count(p.kind.Name) >= MaxRecords {
		return fmt.Errorf("%w: there are %d records of kind %s already", model.ErrLimit, MaxRecords, p.kind.Name)
	}
	o.put(p.rec)
	return nil
}

func nameOf(spec json.RawMessage) (string, error) {
	var head struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(spec, &head); err != nil {
		return "", model.DecodeError(err)
	}
	if err := model.CheckName(head.Name); err != nil {
		return "", model.Invalid{err.(*model.FieldError)}
	}
	return head.Name, nil
}

// isID says whether s has the form of a ULID: such a name could hide a record.
func isID(s string) bool {
	return len(s) == 26 && strings.Trim(s, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}

// resolve finds the records that p needs. All planned records must be finished.
func (c *Catalog) resolve(o *overlay, p *planned) error {
	if p.op == OpNone || p.kind.References == nil {
		return nil
	}
	var inv model.Invalid
	for _, r := range p.kind.References(p.rec.Spec) {
		target, ok := o.Get(r.Kind, r.IDOrName)
		if !ok {
			inv.Add(r.Field, "there is no %s %q; create it first", r.Kind, r.IDOrName)
			continue
		}
		if target.Kind != p.rec.Kind || target.ID != p.id {
			p.needs = append(p.needs, target)
		}
	}
	if len(p.needs) > maxNeeds {
		inv.Add("", "refers to %d records; %d are allowed", len(p.needs), maxNeeds)
	}
	return inv.Err()
}
