package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// decodeTree reads JSON into maps, slices and json.Numbers.
func decodeTree(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF { // More takes a bracket for the end
		return nil, fmt.Errorf("there is more after the JSON value")
	}
	return v, nil
}

// encodeTree writes JSON with sorted keys and nothing escaped that need not be.
func encodeTree(v any) json.RawMessage {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic("encode a decoded JSON tree: " + err.Error()) // it came from JSON
	}
	return bytes.TrimRight(buf.Bytes(), "\n")
}

// sameJSON compares two JSON values, whatever the order of their keys.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	ta, errA := decodeTree(a)
	tb, errB := decodeTree(b)
	return errA == nil && errB == nil && bytes.Equal(encodeTree(ta), encodeTree(tb))
}

// match returns the concrete paths of all values that the patterns name. In a
// pattern * stands for every entry of an object or list.
func match(tree any, patterns []string) [][]string {
	var out [][]string
	seen := map[string]bool{}
	for _, p := range patterns {
		matchAt(tree, strings.Split(p, "."), nil, func(path []string) {
			if key := pointer(path); !seen[key] {
				seen[key] = true
				out = append(out, slices.Clone(path))
			}
		})
	}
	// A value inside another match belongs to that one.
	return slices.DeleteFunc(out, func(path []string) bool {
		for i := 1; i < len(path); i++ {
			if seen[pointer(path[:i])] {
				return true
			}
		}
		return false
	})
}

func matchAt(node any, rest, path []string, found func([]string)) {
	if len(rest) == 0 {
		found(path)
		return
	}
	switch n := node.(type) {
	case map[string]any:
		if rest[0] != "*" {
			if child, ok := n[rest[0]]; ok {
				matchAt(child, rest[1:], append(path, rest[0]), found)
			}
			return
		}
		for _, k := range slices.Sorted(maps.Keys(n)) {
			matchAt(n[k], rest[1:], append(path, k), found)
		}
	case []any:
		for i := range n {
			if s := strconv.Itoa(i); rest[0] == "*" || rest[0] == s {
				matchAt(n[i], rest[1:], append(path, s), found)
			}
		}
	}
}

// child returns the entry of an object or list.
func child(node any, seg string) (any, bool) {
	switch n := node.(type) {
	case map[string]any:
		v, ok := n[seg]
		return v, ok
	case []any:
		if i, err := strconv.Atoi(seg); err == nil && i >= 0 && i < len(n) {
			return n[i], true
		}
	}
	return nil, false
}

func lookup(tree any, path []string) (any, bool) {
	for _, seg := range path {
		var ok bool
		if tree, ok = child(tree, seg); !ok {
			return nil, false
		}
	}
	return tree, true
}

// set replaces the value at a path that exists.
func set(tree any, path []string, v any) bool {
	parent, ok := lookup(tree, path[:len(path)-1])
	if !ok {
		return false
	}
	last := path[len(path)-1]
	switch n := parent.(type) {
	case map[string]any:
		n[last] = v
		return true
	case []any:
		if i, err := strconv.Atoi(last); err == nil && i >= 0 && i < len(n) {
			n[i] = v
			return true
		}
	}
	return false
}

// empty says whether a value holds nothing worth hiding.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

var pointerEscape, pointerUnescape = strings.NewReplacer("~", "~0", "/", "~1"), strings.NewReplacer("~1", "/", "~0", "~")

// pointer writes a path as a JSON pointer (RFC 6901).
func pointer(path []string) string {
	var b strings.Builder
	for _, seg := range path {
		b.WriteByte('/')
		b.WriteString(pointerEscape.Replace(seg))
	}
	return b.String()
}

func parsePointer(p string) []string {
	parts := strings.Split(strings.TrimPrefix(p, "/"), "/")
	for i := range parts {
		parts[i] = pointerUnescape.Replace(parts[i])
	}
	return parts
}

// fieldName writes a path as people know it: a.b[2].c.
func fieldName(tree any, path []string) string {
	var b strings.Builder
	for _, seg := range path {
		if _, list := tree.([]any); list {
			b.WriteString("[" + seg + "]")
		} else {
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(seg)
		}
		tree, _ = child(tree, seg)
	}
	return b.String()
}

// mergePatch applies an RFC 7386 patch. It may reuse parts of both.
func mergePatch(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(t, k)
		} else {
			t[k] = mergePatch(t[k], v)
		}
	}
	return t
}
