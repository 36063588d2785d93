package catalog_test

import (
	"bytes"
	"encoding/json"
	"fmt"

	"panoptes/internal/catalog"
	"panoptes/internal/model"
)

// The kinds of these tests resemble the real ones.

type site struct {
	Name   string            `json:"name"`
	Target string            `json:"target"`
	Every  int               `json:"every"`
	Parent string            `json:"parent,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

type hook struct {
	URL     model.Secret            `json:"url,omitempty"`
	Method  string                  `json:"method,omitempty"`
	Headers map[string]model.Secret `json:"headers,omitempty"`
}

type sink struct {
	Name  string `json:"name"`
	Note  string `json:"note,omitempty"`
	Hook  hook   `json:"hook"`
	Hooks []hook `json:"hooks,omitempty"`
}

type node struct {
	Name   string `json:"name"`
	Sink   string `json:"sink,omitempty"`
	Parent string `json:"parent,omitempty"`
}

type person struct {
	Name     string       `json:"name"`
	Password model.Secret `json:"password,omitempty"`
	Hash     string       `json:"hash,omitempty"`
	Role     string       `json:"role,omitempty"`
}

func strict[T any](check func(*T, catalog.View) error) func(json.RawMessage, catalog.View) (json.RawMessage, error) {
	return func(spec json.RawMessage, v catalog.View) (json.RawMessage, error) {
		t := new(T)
		if err := model.DecodeStrict(spec, t); err != nil {
			return nil, err
		}
		if err := check(t, v); err != nil {
			return nil, err
		}
		return json.Marshal(t)
	}
}

func kinds() []catalog.Kind {
	sinkSecrets := catalog.SecretPaths(sink{})
	return []catalog.Kind{
		{
			Name: "site", Plural: "sites",
			Normalize: strict(func(s *site, _ catalog.View) error {
				if s.Every == 0 {
					s.Every = 60
				}
				if s.Target == "" {
					return model.Invalid{{Field: "target", Msg: "must be given"}}
				}
				return nil
			}),
			References: func(spec json.RawMessage) []catalog.Ref {
				var s site
				if json.Unmarshal(spec, &s) != nil || s.Parent == "" {
					return nil
				}
				return []catalog.Ref{{Kind: "site", IDOrName: s.Parent, Field: "parent"}}
			},
		},
		{
			Name: "node", Plural: "nodes",
			Normalize: strict(func(n *node, v catalog.View) error {
				if n.Parent == "" {
					for _, o := range v.List("node") {
						var other node
						if err := json.Unmarshal(o.Spec, &other); err != nil {
							return err
						}
						if other.Parent == "" && other.Name != n.Name {
							return model.Invalid{{Field: "parent", Msg: fmt.Sprintf("must be given: the root is %q", other.Name)}}
						}
					}
				}
				return nil
			}),
			References: func(spec json.RawMessage) (out []catalog.Ref) {
				var n node
				if json.Unmarshal(spec, &n) != nil {
					return nil
				}
				if n.Sink != "" {
					out = append(out, catalog.Ref{Kind: "sink", IDOrName: n.Sink, Field: "sink"})
				}
				if n.Parent != "" {
					out = append(out, catalog.Ref{Kind: "node", IDOrName: n.Parent, Field: "parent"})
				}
				return out
			},
		},
		{
			Name: "sink", Plural: "sinks",
			Normalize: strict(func(*sink, catalog.View) error { return nil }),
			Secrets:   func(json.RawMessage) []string { return sinkSecrets },
		},
		{
			Name: "person", Plural: "people",
			Normalize: strict(func(p *person, _ catalog.View) error {
				if p.Password != "" {
					p.Hash, p.Password = "hash-of-"+p.Password.Reveal(), ""
				}
				if bytes.Contains([]byte(p.Hash), []byte(model.Redacted)) {
					return model.Invalid{{Field: "hash", Msg: "is no hash"}}
				}
				return nil
			}),
			Secrets: func(json.RawMessage) []string { return catalog.SecretPaths(person{}) },
			Hidden:  []string{"hash"},
		},
	}
}

func targetOf(r model.Record) string {
	var s site
	_ = json.Unmarshal(r.Spec, &s)
	return s.Target
}
