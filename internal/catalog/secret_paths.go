package catalog

import (
	"reflect"
	"slices"
	"strings"
)

// SecretPaths lists where a value of v's type has secrets, in the form that
// Kind.Secrets returns: fields of types named Secret, SecretURL or
// SecretTemplateURL, by the names of their json tags (yaml tags where there
// are none), with * for the entries of lists and maps.
func SecretPaths(v any) []string {
	var out []string
	secretPaths(reflect.TypeOf(v), nil, nil, &out)
	slices.Sort(out)
	return slices.Compact(out)
}

func secretPaths(t reflect.Type, path []string, within []reflect.Type, out *[]string) {
	if t == nil {
		return
	}
	switch t.Name() {
	case "Secret", "SecretURL", "SecretTemplateURL":
		if len(path) > 0 {
			*out = append(*out, strings.Join(path, "."))
		}
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		secretPaths(t.Elem(), path, within, out)
	case reflect.Slice, reflect.Array, reflect.Map:
		secretPaths(t.Elem(), append(slices.Clone(path), "*"), within, out)
	case reflect.Struct:
		if slices.Contains(within, t) {
			return // a type that holds itself
		}
		within = append(slices.Clone(within), t)
		for f := range t.Fields() {
			if !f.IsExported() && !f.Anonymous {
				continue
			}
			name, inline := fieldTag(f)
			switch {
			case name == "-":
			case inline:
				secretPaths(f.Type, path, within, out)
			default:
				secretPaths(f.Type, append(slices.Clone(path), name), within, out)
			}
		}
	}
}

// fieldTag returns the name of a field in JSON, or that its own fields stand
// in its place.
func fieldTag(f reflect.StructField) (name string, inline bool) {
	for _, key := range []string{"json", "yaml"} {
		tag, ok := f.Tag.Lookup(key)
		if !ok {
			continue
		}
		name, opts, _ := strings.Cut(tag, ",")
		if slices.Contains(strings.Split(opts, ","), "inline") {
			return "", true
		}
		if name != "" {
			return name, false
		}
	}
	if f.Anonymous {
		return "", true
	}
	return f.Name, false
}
