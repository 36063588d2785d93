package scrape

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"panoptes/internal/model"
)

// maxNodes bounds what a text may grow to by its aliases.
const maxNodes = 500_000

var (
	jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	yesWords   = []string{"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"}
	noWords    = []string{"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"}
	// In these all values are texts, whatever they look like: version: 1.10.
	textParts = []string{"labels", "params", "http_headers", "external_labels", "node_meta", "annotations"}
)

// decodeYAML reads one document into maps, lists and scalars as encoding/json
// makes them. Numbers stay as they are written.
func decodeYAML(b []byte) (any, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, model.Invalid{{Msg: "is empty"}}
		}
		return nil, model.Invalid{{Msg: "not valid YAML: " + err.Error()}}
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, model.Invalid{{Msg: "there is more than one YAML document; send one"}}
	}
	left := maxNodes
	return fromNode(&doc, false, 0, &left)
}

func fromNode(n *yaml.Node, text bool, depth int, left *int) (any, error) {
	if *left--; *left < 0 || depth > 100 {
		return nil, model.Invalid{{Msg: fmt.Sprintf("line %d: the document is too large or too deep", n.Line)}}
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return fromNode(n.Content[0], text, depth+1, left)
	case yaml.AliasNode:
		return fromNode(n.Alias, text, depth+1, left)
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := fromNode(c, text, depth+1, left)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.MappingNode:
		return fromMapping(n, text, depth, left)
	}
	return scalar(n, text), nil
}

func fromMapping(n *yaml.Node, text bool, depth int, left *int) (any, error) {
	out := make(map[string]any, len(n.Content)/2)
	merged := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, c := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return nil, model.Invalid{{Msg: fmt.Sprintf("line %d: a key must be a text", k.Line)}}
		}
		if k.Tag == "!!merge" {
			v, err := fromNode(c, text, depth+1, left)
			if err != nil {
				return nil, err
			}
			list, ok := v.([]any)
			if !ok {
				list = []any{v}
			}
			for _, e := range list {
				m, ok := e.(map[string]any)
				if !ok {
					return nil, model.Invalid{{Msg: fmt.Sprintf("line %d: what << names must be a mapping", k.Line)}}
				}
				for mk, mv := range m {
					if _, had := merged[mk]; !had {
						merged[mk] = mv
					}
				}
			}
			continue
		}
		if _, twice := out[k.Value]; twice {
			return nil, model.Invalid{{Field: k.Value, Msg: fmt.Sprintf("line %d: is there twice", k.Line)}}
		}
		isText := text || slices.Contains(textParts, k.Value) && c.Kind != yaml.ScalarNode ||
			slices.Contains([]string{"replacement", "regex", "separator"}, k.Value)
		v, err := fromNode(c, isText, depth+1, left)
		if err != nil {
			return nil, err
		}
		out[k.Value] = v
	}
	for k, v := range merged {
		if _, had := out[k]; !had {
			out[k] = v
		}
	}
	return out, nil
}

// scalar reads a plain value as YAML 1.1 does, which is Prometheus' dialect.
func scalar(n *yaml.Node, text bool) any {
	plain := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	switch {
	case !plain:
		return n.Value
	case n.Tag == "!!null":
		return nil
	case text:
		return n.Value
	case slices.Contains(yesWords, n.Value):
		return true
	case slices.Contains(noWords, n.Value):
		return false
	case jsonNumber.MatchString(n.Value):
		return json.Number(n.Value)
	}
	return n.Value
}
