// Package textfile reads metrics that scripts leave in files (*.prom).
package textfile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"panoptes/internal/agent/collect/metric"
)

// row is one sample of a file.
type row struct {
	name string
	v    float64
	kv   []string
}

// parse reads Prometheus' text format. A file is taken whole or not at all.
func parse(text string, limit int) ([]row, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("not UTF-8")
	}
	var rows []row
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		r, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(rows) == limit {
			return nil, fmt.Errorf("more than %d samples; split the file or export fewer", limit)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func parseLine(s string) (row, error) {
	i := strings.IndexAny(s, "{ \t")
	if i < 0 {
		return row{}, errors.New("there is no value")
	}
	r := row{name: s[:i]}
	if !metric.ValidName(r.name, true) {
		return row{}, fmt.Errorf("%q is not a metric's name", short(r.name))
	}
	s = strings.TrimLeft(s[i:], " \t")
	var err error
	if strings.HasPrefix(s, "{") {
		if r.kv, s, err = parseLabels(s[1:]); err != nil {
			return row{}, err
		}
	}
	f := strings.Fields(s)
	switch {
	case len(f) == 0:
		return row{}, errors.New("there is no value")
	case len(f) > 1:
		return row{}, errors.New("a timestamp is not allowed: samples get the time at which they are read")
	}
	r.v, err = strconv.ParseFloat(f[0], 64)
	if err != nil {
		return row{}, fmt.Errorf("%q is not a number", short(f[0]))
	}
	return r, nil
}

func parseLabels(s string) (kv []string, rest string, err error) {
	for {
		s = strings.TrimLeft(s, " \t")
		if strings.HasPrefix(s, "}") {
			return kv, s[1:], nil
		}
		i := strings.IndexByte(s, '=')
		if i < 0 {
			return nil, "", errors.New("a label has no value")
		}
		name := strings.TrimSpace(s[:i])
		if !metric.ValidName(name, false) || name == "__name__" {
			return nil, "", fmt.Errorf("%q is not a label's name", short(name))
		}
		for j := 0; j < len(kv); j += 2 {
			if kv[j] == name {
				return nil, "", fmt.Errorf("the label %s comes twice", name)
			}
		}
		var v string
		if v, s, err = quoted(strings.TrimLeft(s[i+1:], " \t")); err != nil {
			return nil, "", err
		}
		kv = append(kv, name, v)
		s = strings.TrimLeft(s, " \t")
		switch {
		case strings.HasPrefix(s, ","):
			s = s[1:]
		case !strings.HasPrefix(s, "}"):
			return nil, "", errors.New("labels are not closed by }")
		}
		if len(kv) > 64 {
			return nil, "", errors.New("more than 32 labels")
		}
	}
}

func quoted(s string) (v, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", errors.New("a label's value is not in double quotes")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) {
				return "", "", errors.New("a label's value does not end")
			}
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case '\\', '"':
				b.WriteByte(s[i])
			default:
				return "", "", fmt.Errorf(`\%c is no escape; there are \\, \" and \n`, s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", errors.New("a label's value does not end")
}

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
