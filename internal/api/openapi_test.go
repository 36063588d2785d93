package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
	"panoptes/internal/model"
	"panoptes/internal/query"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// schema is as much of JSON Schema as the document uses.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       any               `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Items      *schema           `json:"items"`
	Additional *schema           `json:"additionalProperties"`
	AllOf      []schema          `json:"allOf"`
	AnyOf      []schema          `json:"anyOf"`
	Enum       []any             `json:"enum"`
}

// check returns what is wrong with a value, nothing when it fits.
func (d document) check(s schema, v any, at string) (faults []string) {
	if s.Ref != "" {
		def, ok := d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
		if !ok {
			return []string{at + ": no schema " + s.Ref}
		}
		return d.check(def, v, at)
	}
	for _, p := range s.AllOf {
		faults = append(faults, d.check(p, v, at)...)
	}
	if len(s.AnyOf) > 0 && !slices.ContainsFunc(s.AnyOf, func(p schema) bool { return len(d.check(p, v, at)) == 0 }) {
		faults = append(faults, at+": none of the alternatives")
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		faults = append(faults, fmt.Sprintf("%s: %v is not in %v", at, v, s.Enum))
	}
	if s.Type != nil && !typeFits(s.Type, v) {
		return append(faults, fmt.Sprintf("%s: %T is no %v", at, v, s.Type))
	}
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if s.Items != nil {
				faults = append(faults, d.check(*s.Items, e, model.Index(at, i))...)
			}
		}
	case map[string]any:
		for _, r := range s.Required {
			if _, ok := v[r]; !ok {
				faults = append(faults, at+"."+r+": missing")
			}
		}
		for k, e := range v {
			if p, ok := s.Properties[k]; ok {
				faults = append(faults, d.check(p, e, at+"."+k)...)
			} else if s.Additional != nil {
				faults = append(faults, d.check(*s.Additional, e, at+"."+k)...)
			}
		}
	}
	return faults
}

func typeFits(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return typeFits(w, v) })
	}
	switch want {
	case "object":
		_, ok := v.(map[string]any)
		return ok
	case "array":
		_, ok := v.([]any)
		return ok
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "null":
		return v == nil
	case "integer":
		f, ok := v.(float64)
		return ok && f == float64(int64(f))
	case "number":
		_, ok := v.(float64)
		return ok
	}
	return false
}

// TestDocumentAgrees calls every documented route that answers JSON and
// compares the answer with the document.
func TestDocumentAgrees(t *testing.T) {
	samples, stop := storetest.Start(t, store.Config{}, store.Deps{})
	t.Cleanup(stop)
	queries, err := query.New(query.Config{}, query.Deps{Storage: samples, Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	b := setUp(t, func(_ *api.Config, d *api.Deps) { d.Query = queries.Handler() })
	d := b.document()
	b.cat.records[model.KindUser] = []model.Record{{Kind: "user", ID: "U-admin", Name: "admin", Spec: json.RawMessage(`{"name":"admin","role":"admin"}`)}}
	b.events.list = []model.Event{{ID: "1", Kind: model.EventState, Subject: "check/x", Time: time.Now(), Data: json.RawMessage(`{}`)}}
	specs := map[string]obj{
		"checks": shop, "receivers": {"name": "n", "type": "webhook", "webhook": obj{"url": "https://x.example"}},
		"routes": {"name": "n", "parent": ""}, "inhibitions": {"name": "n", "source_matchers": []string{}, "target_matchers": []string{}},
		"intervals": {"name": "n", "time_intervals": []string{}}, "maintenances": {"name": "n", "all": true}, "regions": {"name": "n"},
		"users": {"name": "n", "role": "viewer", "password": "correct horse"}, "keys": {"name": "n", "role": "viewer"}, "settings": {"name": "n", "value": 1},
		"hostgroups": {"name": "n", "hosts": []string{"web-*"}},
		"scrapes":    {"name": "n", "config": obj{"static_configs": []obj{}}}, "rules": {"name": "n", "groups": []obj{}},
	}
	silence := obj{"matchers": []string{"a=b"}, "ends_at": time.Now().Add(time.Hour)}
	bodies := map[string]any{
		"POST /v1/login": obj{"name": "a", "password": "right"}, "PATCH /v1/me": obj{"language": "en"}, "POST /v1/checks/test": shop,
		"POST /v1/receivers/test": specs["receivers"], "POST /v1/silences": silence, "POST /v1/silences/preview": obj{"matchers": []string{"a=b"}},
		"POST /v1/rules/try": obj{"group": obj{"name": "g"}}, "POST /v1/import/prometheus": "scrape_configs: []",
		"POST /v1/tokens": obj{"role": "agent"}, "POST /v1/agent-install": obj{"token": "pnp1.x"}, "POST /v1/nodes/{id}/drain": obj{"draining": true}, "PATCH /v1/nodes/{id}": obj{"labels": obj{"rack": "1"}},
		"POST /v1/hosts/{id}/actions": obj{"action": "restart", "kind": "unit", "name": "x"}, "PATCH /v1/hosts/{id}": obj{"labels": obj{"rack": "1"}}, "POST /v1/hosts/bulk": obj{"ids": []string{"n", "gone"}, "set_labels": obj{"rack": "1"}},
		"POST /v1/apply": obj{"documents": []obj{{"kind": "region", "name": "applied", "spec": obj{"name": "applied"}}}},
	}
	params := map[string]string{"GET /v1/checks": "?bars=3", "GET /v1/explain": "?query=up", "GET /v1/checks/{id}/bars": "?n=2&range=7d"}
	// Created first, deleted last.
	order := map[string]int{"POST": 0, "GET": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
	type call struct{ method, path string }
	var calls []call
	for path, ops := range d.Paths {
		for method := range ops {
			calls = append(calls, call{strings.ToUpper(method), path})
		}
	}
	slices.SortFunc(calls, func(x, y call) int {
		return 100*(order[x.method]-order[y.method]) + 10*(strings.Count(x.path, "/")-strings.Count(y.path, "/")) + strings.Compare(x.path, y.path)
	})
	seen := 0
	for _, c := range calls {
		key := c.method + " " + c.path
		op := d.Paths[c.path][strings.ToLower(c.method)]
		for status, res := range op.Responses {
			if status == "default" || len(res.Content) == 0 {
				continue
			}
			body := bodies[key]
			plural := strings.Split(strings.TrimPrefix(c.path, "/v1/"), "/")[0]
			name := "n"
			if spec, ok := specs[plural]; ok {
				name = spec["name"].(string)
				if body == nil && (c.method == "PUT" || c.method == "POST" && c.path == "/v1/"+plural) {
					body = spec
				}
				if body == nil && c.method == "PATCH" {
					body = obj{"description": "d"}
					if plural == "regions" {
						body = obj{"weight": 2}
					}
				}
			}
			w := b.call("admin", c.method, strings.ReplaceAll(c.path, "{id}", name)+params[key], body)
			require.Equal(t, status, fmt.Sprint(w.Code), "%s: %s", key, w.Body)
			var v any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), key)
			require.Empty(t, d.check(res.Content["application/json"].Schema, v, key), "%s", w.Body)
			seen++
		}
	}
	require.Greater(t, seen, 70)
	// The checker finds faults, and errors are as the document says.
	require.NotEmpty(t, d.check(schema{Ref: "#/components/schemas/MeAnswer"}, map[string]any{"user": 1.0}, ""))
	w := b.call("admin", "POST", "/v1/checks", obj{"shoe": 1})
	var v any
	b.want(400, &v, w)
	require.Empty(t, d.check(schema{Ref: "#/components/schemas/ErrorBody"}, v, "error"))
}
