package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"panoptes/internal/model"
)

// maxApply bounds the time of one Apply.
const maxApply = 2 * time.Minute

// Apply makes the records named by the documents be as they say; it deletes
// nothing. All documents are validated together first – one may refer to
// another – and when one is wrong nothing is written: the model.Invalid names
// documents[i].spec.field. They are then written in the order in which they
// need each other, many to a transaction. Applying the same again changes
// nothing. The changes are in the order of the documents; with dryRun they
// are only planned. When the store fails half way, the changes carried out
// until then come with the error.
func (c *Catalog) Apply(ctx context.Context, actor string, docs []Doc, dryRun bool) ([]Change, error) {
	if len(docs) > MaxDocs {
		return nil, fmt.Errorf("%w: %d documents; %d are allowed at once", model.ErrTooLarge, len(docs), MaxDocs)
	}
	if !dryRun {
		if err := c.Writable(); err != nil {
			return nil, err
		}
	}
	ids := make([]string, len(docs)) // the same in every attempt
	for i := range ids {
		ids[i] = model.NewID(time.Now())
	}
	changes := make([]Change, len(docs))
	done := make([]bool, len(docs))
	err := c.retry(ctx, maxApply, func(ctx context.Context) error {
		ps, err := c.planDocs(docs, ids)
		if err != nil {
			return err
		}
		for _, p := range ps {
			if !done[p.doc] {
				changes[p.doc] = p.change()
			}
		}
		if dryRun {
			return nil
		}
		return c.writeAll(ctx, actor, ps, done)
	})
	if err == nil {
		return changes, nil
	}
	var carried []Change
	for i, ok := range done {
		if ok {
			carried = append(carried, changes[i])
		}
	}
	if len(carried) > 0 {
		err = fmt.Errorf("after %d of %d documents: %w; apply again to write the rest", len(carried), len(docs), err)
	}
	return carried, err
}

// planDocs validates all documents against the catalog as it will be.
func (c *Catalog) planDocs(docs []Doc, ids []string) ([]*planned, error) {
	var inv model.Invalid
	o := newOverlay(c.cache)
	ps := make([]*planned, 0, len(docs))
	first := map[[2]string]int{}
	for i, d := range docs {
		at := model.Index("documents", i)
		k := c.kind[d.Kind]
		if k == nil {
			inv.Add(at+".kind", "there is no kind %q", d.Kind)
			continue
		}
		if k.Internal {
			inv.Add(at+".kind", "records of kind %s are made by the system; they cannot be applied", d.Kind)
			continue
		}
		if len(d.Spec) > MaxSpecBytes {
			inv.AddErr(at+".spec", tooLarge())
			continue
		}
		p, err := c.planDoc(k, d, ids[i])
		if err != nil {
			inv.AddErr(at+".spec", err)
			continue
		}
		p.doc = i
		name := p.rec.Name
		if j, dup := first[[2]string{d.Kind, name}]; dup {
			inv.Add(at+".name", "documents[%d] is also %s %q", j, d.Kind, name)
			continue
		}
		first[[2]string{d.Kind, name}] = i
		o.put(p.rec) // so that others find it, whatever the order
		ps = append(ps, p)
	}
	c.sortByKind(ps)
	for _, p := range ps {
		name := p.rec.Name
		at := model.Index("documents", p.doc)
		if err := c.finish(o, p); err != nil {
			inv.AddErr(at+".spec", err)
		} else if p.rec.Name != name {
			inv.Add(at+".name", "became %q; write the name as it is kept", p.rec.Name)
		}
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	for _, p := range ps {
		inv.AddErr(model.Index("documents", p.doc)+".spec", c.resolve(o, p))
	}
	return ps, inv.Err()
}

// planDoc finds the record that a document means. The name may be given beside
// the spec, in it, or both.
func (c *Catalog) planDoc(k *Kind, d Doc, id string) (*planned, error) {
	tree, err := decodeTree(d.Spec)
	if err != nil {
		return nil, model.DecodeError(err)
	}
	obj, ok := tree.(map[string]any)
	if !ok {
		return nil, model.Invalid{{Msg: "must be an object"}}
	}
	spec := d.Spec
	if inner, given := obj["name"]; !given {
		obj["name"] = d.Name
		spec = encodeTree(obj)
	} else if d.Name != "" && inner != d.Name {
		return nil, model.Invalid{{Field: "name", Msg: fmt.Sprintf("differs from the document's name %q", d.Name)}}
	}
	name, err := nameOf(spec)
	if err != nil {
		return nil, err
	}
	p := &planned{op: OpCreate, kind: k, id: id}
	var oldSpec json.RawMessage
	if p.old = c.cache.byName(k.Name, name); p.old != nil {
		p.op, p.id, oldSpec = OpUpdate, p.old.rec.ID, p.old.rec.Spec
	}
	if p.spec, err = k.keepSecrets(spec, oldSpec, nil); err != nil {
		return nil, err
	}
	p.rec = model.Record{Kind: k.Name, ID: p.id, Name: name, Spec: p.spec}
	if p.old != nil {
		p.rec.Revision, p.rec.Created, p.rec.Updated = p.old.rec.Revision, p.old.rec.Created, p.old.rec.Updated
	}
	return p, nil
}

func (c *Catalog) sortByKind(ps []*planned) {
	slices.SortStableFunc(ps, func(a, b *planned) int { return c.kindOrder(a.kind.Name) - c.kindOrder(b.kind.Name) })
}

func (c *Catalog) kindOrder(name string) int {
	return slices.IndexFunc(c.kinds, func(k Kind) bool { return k.Name == name })
}

// writeAll writes plans in batches, what is needed before what needs it.
func (c *Catalog) writeAll(ctx context.Context, actor string, ps []*planned, done []bool) error {
	revs := map[string]int64{} // of what this call has written
	var batch []*planned
	ops, size := 0, 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		for _, p := range batch {
			for i, n := range p.needs {
				if rev, ok := revs[recordKey(n.Kind, n.ID)]; ok {
					p.needs[i].Revision = rev
				}
			}
		}
		rev, err := c.commit(ctx, batch)
		if err != nil {
			return err
		}
		for _, p := range batch {
			done[p.doc] = true
			revs[recordKey(p.rec.Kind, p.rec.ID)] = rev
		}
		c.written(ctx, actor, batch)
		batch, ops, size = nil, 0, 0
		return nil
	}
	for _, p := range inOrderOfNeed(ps) {
		if p.op == OpNone {
			continue
		}
		n, bytes := 2+len(p.needs), len(p.rec.Spec)*3/2+1024
		if ops+n > batchOps || size+bytes > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, ops, size = append(batch, p), ops+n, size+bytes
	}
	return flush()
}

// inOrderOfNeed sorts plans so that each comes after those it refers to. In a
// circle of references somebody has to come first.
func inOrderOfNeed(ps []*planned) []*planned {
	byKey := make(map[string]*planned, len(ps))
	for _, p := range ps {
		byKey[recordKey(p.kind.Name, p.id)] = p
	}
	out := make([]*planned, 0, len(ps))
	seen := make(map[*planned]bool, len(ps))
	var visit func(p *planned)
	visit = func(p *planned) {
		if seen[p] {
			return
		}
		seen[p] = true
		for _, n := range p.needs {
			if q := byKey[recordKey(n.Kind, n.ID)]; q != nil {
				visit(q)
			}
		}
		out = append(out, p)
	}
	for _, p := range ps {
		visit(p)
	}
	return out
}

// change describes a plan, with the diff of what people may see.
func (p *planned) change() Change {
	ch := Change{Kind: p.kind.Name, ID: p.id, Name: p.rec.Name, Op: p.op, New: &p.rec}
	var before, after []byte
	if p.old != nil {
		ch.Old = &p.old.rec
	}
	if p.op == OpNone {
		return ch
	}
	if p.old != nil {
		before = toYAML(p.kind.redact(p.old.rec.Spec))
	}
	after = toYAML(p.kind.redact(p.rec.Spec))
	ch.Diff = unified(p.kind.Name+"/"+p.rec.Name, before, after)
	if ch.Diff == "" {
		ch.Diff = "# only secrets change\n"
	}
	return ch
}

// Export returns the records of the given kinds (all when none is given) as
// documents that Apply takes, what is needed before what needs it. Secrets
// are model.Redacted, hidden fields left out.
func (c *Catalog) Export(kinds []string) ([]Doc, error) {
	var inv model.Invalid
	for i, name := range kinds {
		if c.kind[name] == nil {
			inv.Add(model.Index("kind", i), "there is no kind %q", name)
		}
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	o := newOverlay(c.cache)
	var ps []*planned
	for i := range c.kinds {
		k := &c.kinds[i]
		if k.Internal || len(kinds) > 0 && !slices.Contains(kinds, k.Name) {
			continue
		}
		for _, rec := range c.cache.list(k.Name) {
			p := &planned{op: OpUpdate, kind: k, id: rec.ID, rec: rec}
			if err := c.resolve(o, p); err != nil && !errors.As(err, &inv) {
				return nil, err // a dangling reference does not keep the rest from being exported
			}
			ps = append(ps, p)
		}
	}
	docs := make([]Doc, 0, len(ps))
	for _, p := range inOrderOfNeed(ps) {
		docs = append(docs, Doc{Kind: p.kind.Name, Name: p.rec.Name, Spec: p.kind.redact(p.rec.Spec)})
	}
	return docs, nil
}
