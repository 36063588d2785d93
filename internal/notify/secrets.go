package notify

import (
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/alertmanager/config"
	amcommon "github.com/prometheus/alertmanager/config/common"
	amnotify "github.com/prometheus/alertmanager/notify"
	commoncfg "github.com/prometheus/common/config"

	"panoptes/internal/model"
)

// ReceiverSecrets lists the dotted paths of the secrets in a receiver's spec,
// with "*" for every entry of a list or map. The address of a plain webhook is
// none; addresses that are a key in themselves (Slack, Discord, Teams, …) are.
func ReceiverSecrets(spec json.RawMessage) []string {
	var r map[string]json.RawMessage
	if json.Unmarshal(spec, &r) != nil {
		return nil
	}
	var typ string
	_ = json.Unmarshal(r["type"], &typ)
	var out []string
	if known(typ) {
		out = append(out, blockSecrets(typ, typ, r[typ])...)
	}
	var more map[string]json.RawMessage
	_ = json.Unmarshal(r["more"], &more)
	for _, t := range slices.Sorted(maps.Keys(more)) {
		if known(t) {
			out = append(out, blockSecrets(t, "more."+t, more[t])...)
		}
	}
	return out
}

func blockSecrets(typ, prefix string, block json.RawMessage) []string {
	if s := strings.TrimSpace(string(block)); strings.HasPrefix(s, "[") {
		prefix += ".*"
	}
	var out []string
	secretFields(configType(typ), prefix, 0, &out)
	if typ == "webhook" {
		out = slices.DeleteFunc(out, func(p string) bool { return p == prefix+".url" })
	}
	return out
}

var secretTypes = []reflect.Type{
	reflect.TypeFor[commoncfg.Secret](), reflect.TypeFor[amcommon.SecretURL](),
	reflect.TypeFor[amcommon.SecretTemplateURL](), reflect.TypeFor[config.SecretTemplateURL](),
}

// secretFields walks a configuration type and collects the fields that hold secrets.
func secretFields(t reflect.Type, path string, depth int, out *[]string) {
	if depth > 8 {
		return
	}
	if slices.Contains(secretTypes, t) {
		*out = append(*out, path)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		secretFields(t.Elem(), path, depth+1, out)
	case reflect.Slice, reflect.Map:
		secretFields(t.Elem(), path+".*", depth+1, out)
	case reflect.Struct:
		if t == reflect.TypeFor[commoncfg.Headers]() {
			// Its map of headers stands in the place of the struct.
			secretFields(reflect.TypeFor[map[string]commoncfg.Header](), path, depth+1, out)
			return
		}
		if t == reflect.TypeFor[url.URL]() {
			return
		}
		for i := range t.NumField() {
			f := t.Field(i)
			switch name := yamlName(f); {
			case !f.IsExported():
			case inline(f):
				secretFields(f.Type, path, depth+1, out)
			case name != "":
				secretFields(f.Type, path+"."+name, depth+1, out)
			}
		}
	}
}

// redactor takes the secrets of one receiver out of what others say about it.
type redactor struct{ r *strings.Replacer }

func newRedactor(r model.Receiver) *redactor {
	spec, err := json.Marshal(r)
	if err != nil {
		return &redactor{strings.NewReplacer()}
	}
	var v any
	_ = json.Unmarshal(spec, &v)
	var values []string
	for _, p := range ReceiverSecrets(spec) {
		collect(v, strings.Split(p, "."), &values)
	}
	// The query and the password of any address may be a key as well.
	addresses(v, &values)
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range slices.Compact(values) {
		if len(s) < 4 {
			continue // would cut up ordinary words
		}
		pairs = append(pairs, s, model.Redacted)
		if e := url.QueryEscape(s); e != s {
			pairs = append(pairs, e, model.Redacted)
		}
	}
	return &redactor{strings.NewReplacer(pairs...)}
}

func collect(v any, path []string, out *[]string) {
	if len(path) == 0 {
		if s, ok := v.(string); ok {
			*out = append(*out, s)
		}
		return
	}
	switch t := v.(type) {
	case map[string]any:
		if path[0] == "*" {
			for _, e := range t {
				collect(e, path[1:], out)
			}
		} else if e, ok := t[path[0]]; ok {
			collect(e, path[1:], out)
		}
	case []any:
		if path[0] == "*" {
			for _, e := range t {
				collect(e, path[1:], out)
			}
		}
	}
}

func addresses(v any, out *[]string) {
	switch t := v.(type) {
	case map[string]any:
		for _, e := range t {
			addresses(e, out)
		}
	case []any:
		for _, e := range t {
			addresses(e, out)
		}
	case string:
		if u, err := url.Parse(t); err == nil && strings.HasPrefix(u.Scheme, "http") {
			if u.RawQuery != "" {
				*out = append(*out, u.RawQuery)
			}
			if pw, ok := u.User.Password(); ok {
				*out = append(*out, pw)
			}
		}
	}
}

// err returns e with the secrets taken out; its class stays.
func (r *redactor) err(e error) error {
	text := r.r.Replace(e.Error())
	if len(text) > 1000 {
		text = strings.ToValidUTF8(text[:1000], "") + "…"
	}
	var reason *amnotify.ErrorWithReason
	if errors.As(e, &reason) {
		return amnotify.NewErrorWithReason(reason.Reason, errorText(text))
	}
	return errorText(text)
}
