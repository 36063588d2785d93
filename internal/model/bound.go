package model

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

var boundNameRE = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

const maxBound = 16

// Bound reads the matchers that a key is bound to: label="value" or label=value,
// each label once. What the key writes gets these labels, and what it reads has
// them. Only equality can be enforced on both ways.
func Bound(matchers []string) (labels.Labels, error) {
	var inv Invalid
	if len(matchers) > maxBound {
		inv.Add("matchers", "has %d entries, %d are allowed", len(matchers), maxBound)
		return labels.EmptyLabels(), inv.Err()
	}
	byName := map[string]string{}
	for i, m := range matchers {
		field := Index("matchers", i)
		name, value, ok := strings.Cut(m, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if ok && strings.HasPrefix(value, `"`) {
			var err error
			if value, err = strconv.Unquote(value); err != nil {
				inv.Add(field, `is not quoted well; write label="value"`)
				continue
			}
		}
		_, twice := byName[name]
		switch {
		case !ok || strings.HasPrefix(value, "~") || strings.HasSuffix(name, "!"):
			inv.Add(field, `must be label="value"; other kinds of matcher cannot be enforced on what is written`)
		case !boundNameRE.MatchString(name) || strings.HasPrefix(name, "__"):
			inv.Add(field, "%.100q cannot be the name of a label that a key is bound to", name)
		case value == "" || len(value) > 2048:
			inv.Add(field, "needs a value of 1 to 2,048 bytes")
		case twice:
			inv.Add(field, "names label %s a second time", name)
		default:
			byName[name] = value
		}
	}
	if err := inv.Err(); err != nil {
		return labels.EmptyLabels(), err
	}
	return labels.FromMap(byName), nil
}
