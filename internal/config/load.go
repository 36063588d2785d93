package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"panoptes/internal/model"
)

// Fault is one fault of a configuration file.
type Fault struct {
	File  string
	Line  int // 0: from the environment, or nowhere in the file
	Field string
	Msg   string
}

func (f Fault) Error() string {
	where := f.File
	if f.Line > 0 {
		where += ":" + strconv.Itoa(f.Line)
	}
	if where != "" {
		where += ": "
	}
	if f.Field != "" {
		return where + f.Field + ": " + f.Msg
	}
	return where + f.Msg
}

// Load reads a file over the defaults, then the environment (as os.Environ
// gives it) over both, and validates. All faults are joined, each a Fault. An
// empty path means no file.
func Load(path string, environ []string) (Config, error) {
	cfg := Default()
	var data []byte
	if path != "" {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return cfg, fmt.Errorf("read configuration: %w", err)
		}
	}
	err := parse(&cfg, path, data, environ)
	return cfg, err
}

// Parse is Load for a text at hand.
func Parse(name string, data []byte, environ []string) (Config, error) {
	cfg := Default()
	err := parse(&cfg, name, data, environ)
	return cfg, err
}

func parse(cfg *Config, name string, data []byte, environ []string) error {
	if len(data) > 1<<20 {
		return Fault{File: name, Msg: "is larger than 1 MiB; records belong in files that `panoptes apply` reads"}
	}
	var faults []error
	lines := map[string]int{}
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return Fault{File: name, Line: yamlLine(err.Error()), Msg: strings.TrimPrefix(err.Error(), "yaml: ")}
	default:
		if len(doc.Content) == 1 {
			faults = append(faults, decode(doc.Content[0], reflect.ValueOf(cfg).Elem(), name, "", lines)...)
		}
		if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
			faults = append(faults, Fault{File: name, Msg: "holds more than one document; put everything into one"})
		}
	}
	faults = append(faults, fromEnv(cfg, environ)...)
	var inv model.Invalid
	if err := cfg.Validate(); errors.As(err, &inv) {
		for _, f := range inv {
			faults = append(faults, Fault{File: name, Line: lines[f.Field], Field: f.Field, Msg: f.Msg})
		}
	}
	slices.SortStableFunc(faults, func(a, b error) int {
		fa, fb := a.(Fault), b.(Fault)
		return cmp.Or(cmp.Compare(fa.Line, fb.Line), cmp.Compare(fa.Field, fb.Field))
	})
	return errors.Join(faults...)
}

// decode sets v from n, remembers on which line each field stands, and goes on
// after a fault so that all are reported at once.
func decode(n *yaml.Node, v reflect.Value, file, path string, lines map[string]int) []error {
	fault := func(n *yaml.Node, field, format string, args ...any) []error {
		return []error{Fault{File: file, Line: n.Line, Field: field, Msg: fmt.Sprintf(format, args...)}}
	}
	if v.Kind() == reflect.Struct && !v.Addr().Type().Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
			return nil
		}
		if n.Kind != yaml.MappingNode {
			return fault(n, path, "must be a mapping of keys to values")
		}
		var errs []error
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, val := n.Content[i], n.Content[i+1]
			field := strings.TrimPrefix(path+"."+key.Value, ".")
			if !seen[key.Value] {
				lines[field] = key.Line
			}
			f, ok := fieldByKey(v, key.Value)
			switch {
			case !ok:
				errs = append(errs, fault(key, field, "there is no such key; known here: %s", strings.Join(keys(v), ", "))...)
			case seen[key.Value]:
				errs = append(errs, fault(key, field, "stands here twice")...)
			default:
				errs = append(errs, decode(val, f, file, field, lines)...)
			}
			seen[key.Value] = true
		}
		return errs
	}
	if v.Kind() == reflect.Slice {
		for i, c := range n.Content {
			lines[model.Index(path, i)] = c.Line
		}
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		msg := strings.TrimPrefix(err.Error(), "yaml: ")
		var te *yaml.TypeError
		if errors.As(err, &te) {
			msg = fmt.Sprintf("%q must be a %s", n.Value, kindName(v))
		}
		return fault(n, path, "%s", msg)
	}
	return nil
}

func kindName(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "whole number"
	case reflect.Slice:
		return "list"
	}
	return "text"
}

func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag == key && tag != "-" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func keys(v reflect.Value) []string {
	var out []string
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("yaml"); tag != "-" {
			out = append(out, tag)
		}
	}
	return out
}

// secretsFromEnv are never read from a file.
const (
	envAdminPassword = "PANOPTES_ADMIN_PASSWORD"
	envAPIKey        = "PANOPTES_API_KEY"
)

// clientEnv are read by the client commands.
var clientEnv = []string{"PANOPTES_SERVER", "PANOPTES_CONFIG", envAdminPassword, envAPIKey}

func fromEnv(cfg *Config, environ []string) []error {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "PANOPTES_") {
			env[k] = v
		}
	}
	cfg.Access.AdminPassword = model.Secret(env[envAdminPassword])
	cfg.Access.APIKey = model.Secret(env[envAPIKey])
	for _, k := range clientEnv {
		delete(env, k)
	}
	return setEnv(reflect.ValueOf(cfg).Elem(), "PANOPTES", env)
}

func setEnv(v reflect.Value, prefix string, env map[string]string) []error {
	var errs []error
	for i := range v.NumField() {
		tag, f := v.Type().Field(i).Tag.Get("yaml"), v.Field(i)
		if tag == "-" {
			continue
		}
		name := prefix + "_" + strings.ToUpper(tag)
		if f.Kind() == reflect.Struct {
			errs = append(errs, setEnv(f, name, env)...)
			continue
		}
		text, ok := env[name]
		if !ok {
			continue
		}
		if f.Kind() == reflect.Slice {
			f.Set(reflect.ValueOf(strings.FieldsFunc(text, func(r rune) bool { return r == ',' })))
			continue
		}
		n := yaml.Node{Kind: yaml.ScalarNode, Value: text}
		if f.Kind() == reflect.String {
			n.Tag = "!!str"
		}
		errs = append(errs, decode(&n, f, "", name, map[string]int{})...)
	}
	return errs
}

// yamlLine finds the line number in a message of the YAML parser.
func yamlLine(msg string) int {
	_, rest, ok := strings.Cut(msg, "line ")
	if !ok {
		return 0
	}
	num, _, _ := strings.Cut(rest, ":")
	n, _ := strconv.Atoi(num)
	return n
}
