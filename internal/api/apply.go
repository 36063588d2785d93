package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"panoptes/internal/model"
)

type applyBody struct {
	Documents []Doc `json:"documents"`
}

type applyAnswer struct {
	Changes []Change `json:"changes"`
}

type exportAnswer struct {
	Documents []Doc `json:"documents"`
}

const applyDocs = 10_000

func (a *API) apply(r *http.Request) (any, error) {
	var b applyBody
	if err := decode(r, &b); err != nil {
		return nil, err
	}
	if len(b.Documents) > applyDocs {
		return nil, fmt.Errorf("%w: %d documents at once, %d are possible", model.ErrTooLarge, len(b.Documents), applyDocs)
	}
	dry, err := dryRun(r)
	if err != nil {
		return nil, err
	}
	kinds := map[string]resource{}
	for _, res := range resources() {
		kinds[res.kind] = res
	}
	var inv model.Invalid
	for i, d := range b.Documents {
		res, ok := kinds[d.Kind]
		switch {
		case !ok:
			inv.Add(model.Index("documents", i)+".kind", "%q is no kind of record; write for example check, receiver or route", d.Kind)
		case !model.AtLeast(who(r).Role, res.write):
			return nil, fmt.Errorf("%w: documents[%d] is a %s, which needs the role %s", model.ErrForbidden, i, d.Kind, res.write)
		case len(d.Spec) > objectLimit:
			inv.Add(model.Index("documents", i)+".spec", "is larger than %d bytes", objectLimit)
		}
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	if err := a.keepAdmins(b.Documents); err != nil {
		return nil, err
	}
	changes, err := a.deps.Catalog.Apply(r.Context(), who(r).Actor(), b.Documents, dry)
	if err != nil {
		return nil, err
	}
	if changes == nil {
		changes = []Change{}
	}
	return applyAnswer{changes}, nil
}

// keepAdmins is keepAdmin for documents: they are refused when no administrator
// would be left.
func (a *API) keepAdmins(docs []Doc) error {
	able := map[string]bool{} // by name: administrators who may log in
	for _, rec := range a.deps.Catalog.List(model.KindUser) {
		if ableAdmin(rec.Spec) {
			able[rec.Name] = true
		}
	}
	last := -1 // the document that took an administrator away
	for i, d := range docs {
		if d.Kind != model.KindUser {
			continue
		}
		name := d.Name
		if name == "" { // it may stand in the spec alone
			var inner struct {
				Name string `json:"name"`
			}
			if json.Unmarshal(d.Spec, &inner) == nil {
				name = inner.Name
			}
		}
		switch {
		case ableAdmin(d.Spec):
			able[name] = true
		case able[name]:
			delete(able, name)
			last = i
		}
	}
	if last >= 0 && len(able) == 0 {
		return fmt.Errorf("documents[%d]: %w", last, errLastAdmin())
	}
	return nil
}

// export answers the records of the kinds that are asked for. Keys are not
// among them: without their hash they open nothing.
func (a *API) export(r *http.Request) (any, error) {
	want := commas(r.URL.Query().Get("kind"))
	out := exportAnswer{Documents: []Doc{}}
	var known []string
	for _, res := range resources() {
		known = append(known, res.kind)
		explicit := slices.Contains(want, res.kind)
		if len(want) > 0 && !explicit || res.kind == model.KindKey {
			continue
		}
		if !model.AtLeast(who(r).Role, res.read) {
			if explicit {
				return nil, fmt.Errorf("%w: to export %s the role %s is needed", model.ErrForbidden, res.plural, res.read)
			}
			continue
		}
		for _, rec := range a.deps.Catalog.List(res.kind) {
			rec = a.deps.Catalog.Redact(rec)
			out.Documents = append(out.Documents, Doc{res.kind, rec.Name, rec.Spec})
		}
	}
	for _, k := range want {
		if !slices.Contains(known, k) {
			return nil, invalid("kind", "%q is no kind of record; write for example check, receiver or route", k)
		}
	}
	return out, nil
}

// rawJSON is JSON that has been encoded already.
type rawJSON = json.RawMessage
