package probe

import (
	"bytes"
	"regexp"
	"strings"

	"panoptes/internal/model"
)

// Pattern is a text to look for: a substring, or a regular expression when it
// begins with "re:".
type Pattern struct {
	Text string
	re   *regexp.Regexp
	sub  []byte
}

// CompilePattern reads a pattern; a fault goes to inv. An empty text gives nil.
func CompilePattern(text, field string, inv *model.Invalid) *Pattern {
	if text == "" {
		return nil
	}
	if len(text) > 4096 {
		inv.Add(field, "is longer than 4096 bytes")
		return nil
	}
	p := &Pattern{Text: text, sub: []byte(text)}
	if expr, ok := strings.CutPrefix(text, "re:"); ok {
		re, err := regexp.Compile(expr)
		if err != nil {
			inv.Add(field, "is no regular expression: %s", err)
			return nil
		}
		p.re = re
	}
	return p
}

// Match reports whether b contains the pattern.
func (p *Pattern) Match(b []byte) bool {
	if p.re != nil {
		return p.re.Match(b)
	}
	return bytes.Contains(b, p.sub)
}
