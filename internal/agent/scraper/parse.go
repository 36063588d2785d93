package scraper

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	pm "github.com/prometheus/common/model"
)

const (
	maxLine   = 64 << 10
	maxLabels = 64
)

// line is one sample as a target writes it. The slices are valid until the
// next line is read.
type line struct {
	series []byte // name and labels, as written
	value  float64
	time   int64 // ms; only when timed
	timed  bool
}

// pair is a label.
type pair struct{ name, value string }

// eachLine reads Prometheus' text format, or OpenMetrics, line by line: an
// answer is never in memory as a whole. It stops at the first fault.
func eachLine(r io.Reader, open bool, f func(l line) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 4<<10), maxLine)
	ended := false
	for n := 1; sc.Scan(); n++ {
		b := bytes.TrimSpace(sc.Bytes())
		switch {
		case len(b) == 0:
			continue
		case ended:
			return fmt.Errorf("line %d: something follows # EOF", n)
		case b[0] == '#':
			ended = open && string(b) == "# EOF"
			continue
		}
		l, err := parseLine(b, open)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := f(l); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("a line has more than %d bytes", maxLine)
		}
		return err
	}
	if open && !ended {
		return errors.New("the answer is cut off: OpenMetrics ends with # EOF")
	}
	return nil
}

// parseLine splits a line; the labels are left for later, since most series
// were there before.
func parseLine(b []byte, open bool) (line, error) {
	var l line
	end := bytes.IndexAny(b, "{ \t")
	if end < 0 || end == 0 && b[0] != '{' {
		return l, errors.New("there is no name, or no value")
	}
	if b[end] == '{' {
		n := closing(b[end:])
		if n < 0 {
			return l, errors.New("labels are not closed by }")
		}
		end += n + 1
	}
	l.series = b[:end]
	rest := b[end:]
	if open {
		if i := bytes.IndexByte(rest, '#'); i >= 0 {
			rest = rest[:i] // an exemplar
		}
	}
	value, rest := word(rest)
	stamp, rest := word(rest)
	if more, _ := word(rest); len(value) == 0 || len(more) > 0 {
		return l, errors.New("a value and perhaps a time must follow the name")
	}
	var err error
	if l.value, err = strconv.ParseFloat(string(value), 64); err != nil || bytes.ContainsAny(value, "_pPxX") {
		return l, fmt.Errorf("%q is not a number", short(value))
	}
	if len(stamp) == 0 {
		return l, nil
	}
	l.timed = true
	if open {
		s, err := strconv.ParseFloat(string(stamp), 64)
		if err != nil || math.IsNaN(s) || math.Abs(s) > 1e12 {
			return l, fmt.Errorf("%q is not a time in seconds", short(stamp))
		}
		l.time = int64(math.Round(s * 1000))
		return l, nil
	}
	if l.time, err = strconv.ParseInt(string(stamp), 10, 64); err != nil {
		return l, fmt.Errorf("%q is not a time in milliseconds", short(stamp))
	}
	return l, nil
}

// closing is the index of the brace that closes the one at the start.
func closing(b []byte) int {
	quoted := false
	for i := 1; i < len(b); i++ {
		switch {
		case quoted && b[i] == '\\':
			i++
		case b[i] == '"':
			quoted = !quoted
		case b[i] == '}' && !quoted:
			return i
		}
	}
	return -1
}

func word(b []byte) (w, rest []byte) {
	b = bytes.TrimLeft(b, " \t")
	if i := bytes.IndexAny(b, " \t"); i >= 0 {
		return b[:i], b[i:]
	}
	return b, nil
}

// parseSeries reads name and labels of a line. A name in quotes may stand
// between the braces, as newer targets write it.
func parseSeries(text string) (name string, pairs []pair, err error) {
	s := ""
	if i := strings.IndexByte(text, '{'); i >= 0 {
		name, s = strings.TrimSpace(text[:i]), text[i+1:len(text)-1]
	} else {
		name = text
	}
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			break
		}
		var label, v string
		if s[0] == '"' {
			if v, s, err = quoted(s); err != nil {
				return "", nil, err
			}
			s = strings.TrimLeft(s, " \t")
			if !strings.HasPrefix(s, "=") {
				if name != "" {
					return "", nil, errors.New("the name comes twice")
				}
				name, s = v, comma(s)
				continue
			}
			label = v
		} else {
			i := strings.IndexByte(s, '=')
			if i < 0 {
				return "", nil, errors.New("a label has no value")
			}
			label, s = strings.TrimSpace(s[:i]), s[i:]
		}
		if !pm.LegacyValidation.IsValidLabelName(label) {
			return "", nil, fmt.Errorf("%q is not a label's name", short([]byte(label)))
		}
		if v, s, err = quoted(strings.TrimLeft(s[1:], " \t")); err != nil {
			return "", nil, err
		}
		for _, p := range pairs {
			if p.name == label {
				return "", nil, fmt.Errorf("the label %s comes twice", label)
			}
		}
		if len(pairs) == maxLabels {
			return "", nil, fmt.Errorf("a series has more than %d labels", maxLabels)
		}
		pairs = append(pairs, pair{label, v})
		if s = strings.TrimLeft(s, " \t"); s != "" && s[0] != ',' {
			return "", nil, errors.New("labels are not separated by commas")
		}
		s = comma(s)
	}
	if !pm.LegacyValidation.IsValidMetricName(name) || !utf8.ValidString(text) {
		return "", nil, fmt.Errorf("%q is not the name of a metric", short([]byte(name)))
	}
	return name, pairs, nil
}

func comma(s string) string { return strings.TrimPrefix(strings.TrimLeft(s, " \t"), ",") }

// quoted reads a text in double quotes.
func quoted(s string) (v, rest string, err error) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", errors.New("a label's value is not in double quotes")
	}
	plain := true
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			plain = false
			i++
		case s[i] == '"':
			if v = s[1:i]; !plain {
				v = unescape.Replace(v)
			}
			return v, s[i+1:], nil
		}
	}
	return "", "", errors.New("a label's value does not end")
}

// unescape leaves what is no escape as it is, as Prometheus does.
var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n")

func short(b []byte) string {
	if len(b) > 60 {
		return strings.ToValidUTF8(string(b[:60]), "") + "…"
	}
	return string(b)
}
