package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"panoptes/internal/model"
)

// secretPaths lists the patterns of all that is sealed: secrets and hidden fields.
func (k *Kind) secretPaths(spec json.RawMessage) []string {
	var out []string
	if k.Secrets != nil {
		out = append(out, k.Secrets(spec)...)
	}
	return append(out, k.Hidden...)
}

// Redact returns the record as people may see it: secrets as model.Redacted,
// hidden fields left out.
func (c *Catalog) Redact(rec model.Record) model.Record {
	if k := c.kind[rec.Kind]; k != nil {
		rec.Spec = k.redact(rec.Spec)
	}
	return rec
}

func (k *Kind) redact(spec json.RawMessage) json.RawMessage {
	patterns := k.secretPaths(spec)
	if len(patterns) == 0 || len(spec) == 0 {
		return spec
	}
	tree, err := decodeTree(spec)
	if err != nil {
		return json.RawMessage("null") // never show what cannot be looked through
	}
	if !redactTree(tree, patterns) && len(k.Hidden) == 0 {
		return spec
	}
	if obj, ok := tree.(map[string]any); ok {
		for _, h := range k.Hidden {
			delete(obj, h)
		}
	}
	return encodeTree(tree)
}

func redactTree(tree any, patterns []string) (changed bool) {
	for _, path := range match(tree, patterns) {
		if v, _ := lookup(tree, path); !empty(v) {
			set(tree, path, model.Redacted)
			changed = true
		}
	}
	return changed
}

// keepSecrets replaces model.Redacted in a new spec by the secret that the old
// one has there, and takes over hidden fields that the new one leaves out
// (except those in named). Both are needed in clear; old is nil on creation.
func (k *Kind) keepSecrets(spec, old json.RawMessage, named map[string]any) (json.RawMessage, error) {
	if k.Shape != nil {
		spec = k.Shape(spec)
	}
	tree, err := decodeTree(spec)
	if err != nil {
		return nil, model.DecodeError(err)
	}
	obj, ok := tree.(map[string]any)
	if !ok {
		return nil, model.Invalid{{Msg: "must be a JSON object"}}
	}
	var oldTree any
	if old != nil {
		if oldTree, err = decodeTree(old); err != nil {
			return nil, fmt.Errorf("read the stored record: %w", err)
		}
	}
	changed := false
	for _, h := range k.Hidden {
		_, given := obj[h]
		_, touched := named[h]
		if v, had := child(oldTree, h); had && !given && !touched {
			obj[h] = v
			changed = true
		}
	}
	patterns := k.secretPaths(spec)
	var kept [][]string
	for _, path := range match(tree, patterns) {
		if v, _ := lookup(tree, path); v == model.Redacted {
			kept = append(kept, path)
		}
	}
	if len(kept) == 0 {
		if changed {
			return encodeTree(tree), nil
		}
		return spec, nil
	}
	var oldRed any
	if old != nil {
		oldRed, _ = decodeTree(old) // decoded above
		redactTree(oldRed, k.secretPaths(old))
	}
	newRed, _ := decodeTree(encodeTree(tree))
	redactTree(newRed, patterns)
	var inv model.Invalid
	for _, path := range kept {
		v, ok := counterpart(oldTree, oldRed, newRed, path)
		if !ok || empty(v) {
			inv.Add(fieldName(tree, path), "there is no stored secret that %s could stand for; write the secret itself", model.Redacted)
			continue
		}
		set(tree, path, v)
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return encodeTree(tree), nil
}

// counterpart finds the old value for a path of the new tree. Entries of lists
// move, so they are recognised by all that is not secret in them: the secret
// of one must never end up in another.
func counterpart(old, oldRed, newRed any, path []string) (any, bool) {
	for _, seg := range path {
		oldSeg := seg
		if list, ok := newRed.([]any); ok {
			oldList, ok := oldRed.([]any)
			if !ok {
				return nil, false
			}
			if oldSeg, ok = sameEntry(list, oldList, seg); !ok {
				return nil, false
			}
		}
		newRed, _ = child(newRed, seg)
		oldRed, _ = child(oldRed, oldSeg)
		var ok bool
		if old, ok = child(old, oldSeg); !ok {
			return nil, false
		}
	}
	return old, true
}

// sameEntry finds the place in the old list of entry at of the new one. Of
// several entries that look alike the n-th stands for the n-th, as long as
// there are equally many. One that looks like none of the old was edited: it
// is the one at the same place, if the lists are equally long and that place
// is not claimed by another.
func sameEntry(list, oldList []any, at string) (string, bool) {
	forms := make([]json.RawMessage, len(list))
	index := -1
	for i, e := range list {
		forms[i] = encodeTree(e)
		if fmt.Sprint(i) == at {
			index = i
		}
	}
	if index < 0 {
		return "", false
	}
	alike := func(forms []json.RawMessage, form []byte) (out []int) {
		for i, f := range forms {
			if bytes.Equal(f, form) {
				out = append(out, i)
			}
		}
		return out
	}
	oldForms := make([]json.RawMessage, len(oldList))
	for i, e := range oldList {
		oldForms[i] = encodeTree(e)
	}
	mine := alike(forms, forms[index])
	if theirs := alike(oldForms, forms[index]); len(theirs) > 0 {
		if len(theirs) != len(mine) {
			return "", false
		}
		return fmt.Sprint(theirs[slices.Index(mine, index)]), true
	}
	if len(list) != len(oldList) || len(alike(forms, oldForms[index])) > 0 {
		return "", false
	}
	return at, true
}

// sealSpec takes the secrets out of a spec; what is left may be stored.
func (c *Catalog) sealSpec(k *Kind, id string, spec json.RawMessage) (json.RawMessage, map[string]string, error) {
	patterns := k.secretPaths(spec)
	if len(patterns) == 0 {
		return spec, nil, nil
	}
	tree, err := decodeTree(spec)
	if err != nil {
		return nil, nil, err
	}
	var sealed map[string]string
	for _, path := range match(tree, patterns) {
		v, _ := lookup(tree, path)
		if empty(v) {
			continue
		}
		if sealed == nil {
			sealed = map[string]string{}
		}
		ptr := pointer(path)
		sealed[ptr] = c.seal.seal(k.Name, id, ptr, encodeTree(v))
		set(tree, path, nil)
	}
	if sealed == nil {
		return spec, nil, nil
	}
	return encodeTree(tree), sealed, nil
}

// openSpec puts the secrets back. One that cannot be opened is left empty and
// reported: the record is still of use without it.
func (c *Catalog) openSpec(kind, id string, spec json.RawMessage, sealed map[string]string) (json.RawMessage, error) {
	if len(sealed) == 0 {
		return spec, nil
	}
	tree, err := decodeTree(spec)
	if err != nil {
		return nil, err
	}
	var lost model.Invalid
	for _, ptr := range slices.Sorted(maps.Keys(sealed)) {
		path := parsePointer(ptr)
		v := any("")
		clear, err := c.seal.open(kind, id, ptr, sealed[ptr])
		if err == nil {
			v, err = decodeTree(clear)
		}
		if err != nil {
			lost.Add(fieldName(tree, path), "the secret cannot be opened with this server's key")
			v = ""
		}
		set(tree, path, v)
	}
	return encodeTree(tree), lost.Err()
}

// Reveal puts the stored secrets of a record into a spec that holds
// model.Redacted in their place, as Update would. Without such a record, or
// such a place, the spec comes back as it is or its fault is named.
func (c *Catalog) Reveal(kind, idOrName string, spec json.RawMessage) (json.RawMessage, error) {
	k := c.kind[kind]
	if k == nil {
		return nil, fmt.Errorf("kind %q: %w", kind, model.ErrNotFound)
	}
	var old json.RawMessage
	if rec, err := c.Get(kind, idOrName); err == nil {
		old = rec.Spec
	}
	return k.keepSecrets(spec, old, nil)
}
