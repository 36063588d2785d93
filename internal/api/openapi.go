package api

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
)

// recordOf stands for the flat JSON of a record with the given spec.
type recordOf struct{ spec any }

// listOf stands for a page of records.
type listOf struct{ item recordOf }

type object = map[string]any

// openAPI makes the document of the table of routes.
func openAPI(table []route, version string) ([]byte, error) {
	s := schemas{defs: object{}}
	fault := object{"description": "What went wrong.", "content": object{"application/json": object{"schema": s.of(reflect.TypeFor[errorBody]())}}}
	paths := object{}
	for _, rt := range table {
		if rt.hidden {
			continue
		}
		method, path, _ := strings.Cut(rt.pattern, " ")
		op := object{"summary": rt.doc, "operationId": operationID(method, path), "responses": object{}}
		if rt.need == "" {
			op["security"] = []object{}
		} else {
			op["x-role"] = rt.need
		}
		var params []object
		for seg := range strings.SplitSeq(path, "/") {
			if strings.HasPrefix(seg, "{") {
				params = append(params, object{"name": strings.Trim(seg, "{}"), "in": "path", "required": true, "schema": object{"type": "string"}})
			}
		}
		for _, p := range rt.query {
			params = append(params, object{"name": p.name, "in": "query", "description": p.doc, "schema": object{"type": "string"}})
		}
		if method == http.MethodPut || method == http.MethodPatch || method == http.MethodDelete {
			params = append(params, object{"name": "If-Match", "in": "header", "description": "the revision that was read, in quotes", "schema": object{"type": "string"}})
		}
		if len(params) > 0 {
			op["parameters"] = params
		}
		if rt.body != nil {
			op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": s.body(rt.body)}}}
		}
		status := rt.status
		if status == 0 {
			status = http.StatusOK
		}
		good := object{"description": "Done."}
		if rt.answer != nil {
			good["content"] = object{"application/json": object{"schema": s.answer(rt.answer)}}
		}
		op["responses"] = object{strconv.Itoa(status): good, "default": fault}
		at, _ := paths[path].(object)
		if at == nil {
			at = object{}
			paths[path] = at
		}
		at[strings.ToLower(method)] = op
	}
	return json.Marshal(object{
		"openapi": "3.1.0",
		"info":    object{"title": "Panoptes", "version": version},
		"paths":   paths,
		"security": []object{
			{"bearer": []string{}}, {"basic": []string{}}, {"session": []string{}},
		},
		"components": object{
			"schemas": s.defs,
			"securitySchemes": object{
				"bearer":  object{"type": "http", "scheme": "bearer"},
				"basic":   object{"type": "http", "scheme": "basic"},
				"session": object{"type": "apiKey", "in": "cookie", "name": model.SessionCookie},
			},
		},
	})
}

// operationID makes "getChecksIdUptime" of GET /v1/checks/{id}/uptime.
func operationID(method, path string) string {
	out := strings.ToLower(method)
	for _, seg := range strings.FieldsFunc(strings.TrimPrefix(path, "/v1"), func(r rune) bool { return strings.ContainsRune("/{}-._", r) }) {
		out += strings.ToUpper(seg[:1]) + seg[1:]
	}
	return out
}

// schemas makes JSON schemas of Go types; structs become components.
type schemas struct{ defs object }

// body is the schema of what is sent: all fields may be left out but the name.
func (s schemas) body(v any) object {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Map {
		return object{"type": "object"}
	}
	return s.of(t)
}

func (s schemas) answer(v any) object {
	switch v := v.(type) {
	case recordOf:
		return s.record(v)
	case listOf:
		return object{
			"type": "object", "required": []string{"items", "next", "total"},
			"properties": object{
				"items": object{"type": "array", "items": s.record(v.item)}, "next": object{"type": "string"},
				"total": object{"type": "integer"}, "counts": object{"type": "object", "additionalProperties": object{"type": "integer"}},
			},
		}
	}
	return s.of(reflect.TypeOf(v))
}

// record is a spec beside what the server adds.
func (s schemas) record(r recordOf) object {
	parts := []object{s.of(reflect.TypeFor[recordMeta]()), s.of(reflect.TypeOf(r.spec))}
	switch r.spec.(type) {
	case checkBody:
		parts = append(parts, s.of(reflect.TypeFor[withState]()))
	case model.Key:
		parts = append(parts, object{"type": "object", "properties": object{"key": object{"type": "string", "description": "shown once, by POST"}}})
	}
	return object{"allOf": parts}
}

func (s schemas) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[model.Duration]():
		return object{"type": "string", "examples": []string{"1m30s"}}
	case reflect.TypeFor[json.RawMessage]():
		return object{}
	case reflect.TypeFor[number]():
		return object{"type": []string{"number", "string"}}
	case reflect.TypeFor[model.Status]():
		return object{"type": "string", "enum": model.Statuses}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64, reflect.Int32:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Pointer:
		in := s.of(t.Elem())
		if name, ok := in["type"].(string); ok {
			in["type"] = []string{name, "null"}
			return in
		}
		return object{"anyOf": []object{in, {"type": "null"}}}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return object{"type": "object"}
		}
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.structure(t)
	}
	return object{}
}

// structure adds a struct to the components and refers to it.
func (s schemas) structure(t reflect.Type) object {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	ref := object{"$ref": "#/components/schemas/" + name}
	if _, done := s.defs[name]; done {
		return ref
	}
	def := object{"type": "object"}
	s.defs[name] = def
	props, required := object{}, []string{}
	for _, f := range reflect.VisibleFields(t) {
		tag, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" || f.Anonymous || !f.IsExported() || tag == "" {
			continue
		}
		props[tag] = s.of(f.Type)
		if !strings.Contains(opts, "omit") {
			required = append(required, tag)
		}
	}
	def["properties"] = props
	if len(required) > 0 {
		slices.Sort(required)
		def["required"] = required
	}
	return ref
}
