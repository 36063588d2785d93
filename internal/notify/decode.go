package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/alertmanager/config"
	"gopkg.in/yaml.v2"

	"panoptes/internal/model"
)

// Limits of one receiver.
const (
	maxBlockBytes = 256 << 10
	maxPlaces     = 64 // blocks of one receiver in all
)

// Decode reads a receiver record into Alertmanager's form. All faults are named
// in one model.Invalid, fields as they are written ("webhook.url").
func Decode(r model.Receiver) (config.Receiver, error) {
	var inv model.Invalid
	if r.Type == "" {
		inv.Add("type", "must be given; one of %s", strings.Join(Types, ", "))
		return config.Receiver{}, inv.Err()
	}
	if !known(r.Type) {
		inv.Add("type", "%q is no receiver type; choose one of %s", r.Type, strings.Join(Types, ", "))
		return config.Receiver{}, inv.Err()
	}
	if len(r.Block) == 0 || string(r.Block) == "null" {
		inv.Add(r.Type, "must be given: the receiver's settings, an object named after its type")
		return config.Receiver{}, inv.Err()
	}
	out := config.Receiver{Name: r.Name, Labels: map[string]string{"name": r.Name}}
	places := decodeBlocks(&out, r.Type, r.Type, r.Block, &inv)
	for _, t := range slices.Sorted(maps.Keys(r.More)) {
		field := "more." + t
		switch {
		case !known(t):
			inv.Add(field, "is no receiver type; choose one of %s", strings.Join(Types, ", "))
		case t == r.Type:
			inv.Add(field, "is the type of the receiver itself; write several blocks of one type as a list in %s", t)
		default:
			places += decodeBlocks(&out, t, field, r.More[t], &inv)
		}
	}
	if places > maxPlaces {
		inv.Add(r.Type, "a receiver sends to %d places at most", maxPlaces)
	}
	return out, inv.Err()
}

// decodeBlocks decodes a block, or a list of blocks, of one type into out.
func decodeBlocks(out *config.Receiver, typ, field string, raw json.RawMessage, inv *model.Invalid) int {
	if len(raw) > maxBlockBytes {
		inv.Add(field, "is larger than %d KiB", maxBlockBytes>>10)
		return 0
	}
	v, err := decodeJSON(raw)
	if err != nil {
		inv.AddErr(field, err)
		return 0
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
	}
	// An empty list is a receiver that sends nothing: routes may end there.
	if len(list) > maxPlaces {
		inv.Add(field, "a receiver sends to %d places at most", maxPlaces)
		return 0
	}
	for i, e := range list {
		f := field
		if isList {
			f = model.Index(field, i)
		}
		block, ok := e.(map[string]any)
		if !ok {
			inv.Add(f, "must be an object")
			continue
		}
		if !refuse(typ, f, block, inv) {
			decodeBlock(out, typ, f, block, inv)
		}
	}
	return len(list)
}

// decodeJSON reads JSON; whole numbers become int64 so that chat ids survive.
func decodeJSON(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, model.DecodeError(err)
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch t := v.(type) {
	case map[string]any:
		for k, e := range t {
			t[k] = numbers(e)
		}
	case []any:
		for i, e := range t {
			t[i] = numbers(e)
		}
	case json.Number:
		if i, err := t.Int64(); err == nil {
			return i
		}
		if f, err := t.Float64(); err == nil {
			return f
		}
		return t.String()
	}
	return v
}

// refuse names settings that a record must not have: whatever would read this
// server's files for somebody who may only change receivers, or leave by a way
// around the guarded dialer.
func refuse(typ, field string, block map[string]any, inv *model.Invalid) bool {
	n := len(*inv)
	var walk func(path string, m map[string]any)
	walk = func(path string, m map[string]any) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			p := path + "." + k
			switch {
			case strings.HasSuffix(k, "_file") && !empty(m[k]):
				inv.Add(p, "a receiver does not read files of the server; write the value itself into %s (it is kept sealed)", strings.TrimSuffix(k, "_file"))
			case strings.HasSuffix(k, "_ref") && !empty(m[k]):
				inv.Add(p, "there is no secret manager; write the value itself into %s (it is kept sealed)", strings.TrimSuffix(k, "_ref"))
			case k == "proxy_from_environment" && m[k] == true:
				inv.Add(p, "write the proxy into proxy_url")
			case k == "http_headers":
				for name, h := range asMap(m[k]) {
					if !empty(asMap(h)["files"]) {
						inv.Add(p+"."+name+".files", "a receiver does not read files of the server; write the value into secrets")
					}
				}
			case slices.Contains([]string{"http_config", "tls_config", "basic_auth", "authorization", "oauth2", "sigv4"}, k):
				walk(p, asMap(m[k]))
			}
		}
	}
	walk(field, block)
	if typ == "sns" {
		if block["use_aws_http_client"] == true {
			inv.Add(field+".use_aws_http_client", "is not supported: requests must pass this server's address policy")
		}
		s := asMap(block["sigv4"])
		if empty(s["access_key"]) || empty(s["secret_key"]) {
			inv.Add(field+".sigv4", "access_key and secret_key must be given; credentials of the machine are not used")
		}
	}
	return len(*inv) > n
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func empty(v any) bool {
	if v == nil || v == "" {
		return true
	}
	l, ok := v.([]any)
	return ok && len(l) == 0
}

// decodeBlock decodes one block strictly and merges Alertmanager's defaults.
func decodeBlock(out *config.Receiver, typ, field string, block map[string]any, inv *model.Invalid) {
	// Who is told of an outage is told of its end: some of Alertmanager's types
	// leave that out unless asked.
	if _, ok := block["send_resolved"]; !ok {
		block["send_resolved"] = true
	}
	text, err := yaml.Marshal(block)
	if err != nil {
		inv.Add(field, "cannot be read: %s", err)
		return
	}
	one := reflect.New(configType(typ))
	if err := strictYAML(text, one.Interface()); err != nil {
		faults(err, typ, field, string(text), inv)
		return
	}
	// The whole configuration applies defaults across receiver types and checks
	// what a single block cannot know.
	doc, err := yaml.Marshal(map[string]any{
		"route":     map[string]any{"receiver": "r"},
		"receivers": []any{map[string]any{"name": "r", typ + "_configs": []any{block}}},
	})
	if err != nil {
		inv.Add(field, "cannot be read: %s", err)
		return
	}
	conf, err := load(string(doc))
	if err != nil {
		faults(err, typ, field, "", inv)
		return
	}
	sf, _ := configField(typ)
	dst := reflect.ValueOf(out).Elem().FieldByIndex(sf.Index)
	src := reflect.ValueOf(&conf.Receivers[0]).Elem().FieldByIndex(sf.Index)
	dst.Set(reflect.AppendSlice(dst, src))
}

// strictYAML decodes without letting a panic of the decoder out: the text comes
// from strangers.
func strictYAML(text []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot be read: %v", p)
		}
	}()
	return yaml.UnmarshalStrict(text, v)
}

func load(text string) (c *config.Config, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cannot be read: %v", p)
		}
	}()
	return config.Load(text)
}
