package catalog

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"panoptes/internal/model"
)

// The keys of the store. Beside each record lie the index of its name, which
// makes names unique, and a mark that every new reference to it touches, so
// that it cannot be deleted by one server while another one refers to it.
const (
	recordPrefix = "/panoptes/record/"
	namePrefix   = "/panoptes/name/"
	refPrefix    = "/panoptes/ref/"
)

func recordKey(kind, id string) string { return recordPrefix + kind + "/" + id }
func nameKey(kind, name string) string { return namePrefix + kind + "/" + name }
func refKey(kind, id string) string    { return refPrefix + kind + "/" + id }

// parseKey splits a record's key.
func parseKey(key string) (kind, id string, ok bool) {
	rest, ok := strings.CutPrefix(key, recordPrefix)
	if !ok {
		return "", "", false
	}
	kind, id, ok = strings.Cut(rest, "/")
	return kind, id, ok && kind != "" && id != ""
}

// envelope is a record at rest. Kind and id are in the key.
type envelope struct {
	Name    string            `json:"name"`
	Created time.Time         `json:"created"`
	Updated time.Time         `json:"updated"`
	Spec    json.RawMessage   `json:"spec"`             // null where a secret was
	Sealed  map[string]string `json:"sealed,omitempty"` // JSON pointer into Spec to sealed value
}

// encode seals a record for the store.
func (c *Catalog) encode(k *Kind, rec model.Record) ([]byte, error) {
	spec, sealed, err := c.sealSpec(k, rec.ID, rec.Spec)
	if err != nil {
		return nil, fmt.Errorf("seal %s %s: %w", rec.Kind, rec.Name, err)
	}
	b := encodeTree(envelope{Name: rec.Name, Created: rec.Created, Updated: rec.Updated, Spec: spec, Sealed: sealed})
	return b, nil
}

// decode opens a record from the store.
func (c *Catalog) decode(kv model.KV) (*entry, error) {
	kind, id, ok := parseKey(kv.Key)
	if !ok {
		return nil, fmt.Errorf("%s is not the key of a record", kv.Key)
	}
	var env envelope
	if err := json.Unmarshal(kv.Value, &env); err != nil {
		return nil, fmt.Errorf("read record %s: %w", kv.Key, err)
	}
	spec, err := c.openSpec(kind, id, env.Spec, env.Sealed)
	if spec == nil && err != nil {
		return nil, fmt.Errorf("read record %s: %w", kv.Key, err)
	}
	if err != nil {
		c.met.unsealable.Inc()
		c.log.Error("secrets of a record are lost; enter them again or put back the right key file", "kind", kind, "name", env.Name, "err", err)
	}
	e := &entry{
		rec: model.Record{
			Kind: kind, ID: id, Name: env.Name, Revision: kv.Revision,
			Created: env.Created, Updated: env.Updated, Spec: spec,
		},
		stored: kv.Value,
	}
	if k := c.kind[kind]; k != nil && k.References != nil {
		e.refs = k.References(spec)
	}
	return e, nil
}
