package catalog

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"

	"panoptes/internal/model"
)

// What the fuzz target looks at without a store.

func MergeForTest(k Kind, spec, patch json.RawMessage) (json.RawMessage, error) {
	p, err := decodeTree(patch)
	if err != nil {
		return nil, model.DecodeError(err)
	}
	named, ok := p.(map[string]any)
	if !ok {
		return nil, model.Invalid{{Msg: "not an object"}}
	}
	tree, err := decodeTree(spec)
	if err != nil {
		return nil, err
	}
	return k.keepSecrets(encodeTree(mergePatch(tree, p)), spec, named)
}

func KeepForTest(k Kind, spec, old json.RawMessage) (json.RawMessage, error) {
	return k.keepSecrets(spec, old, nil)
}

func RedactForTest(k Kind, spec json.RawMessage) json.RawMessage { return k.redact(spec) }

func SealForTest(k Kind, spec json.RawMessage) (opened, rest json.RawMessage, err error) {
	dir, err := os.MkdirTemp("", "seal")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	s, err := openSealer(filepath.Join(dir, "key"), slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	c := &Catalog{seal: s}
	rest, sealed, err := c.sealSpec(&k, "id", spec)
	if err != nil {
		return nil, nil, err
	}
	opened, err = c.openSpec(k.Name, "id", rest, sealed)
	return opened, rest, err
}
