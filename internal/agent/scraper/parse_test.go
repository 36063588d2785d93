package scraper

import (
	"strings"
	"testing"
)

// FuzzParse: targets are strangers.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a 1\n", "a{b=\"c\",d=\"e\\\"\\n\"} NaN 123\n", "# TYPE a counter\na_total 1 # {x=\"y\"} 2 3\n# EOF\n", "{\"q.x\",l=\"v\"} 1\n", "a{", "a{}", "a{} 1", "a{b} 1\n", "a{b=\"", "{} 1\n", "a{,} 1\n",
	} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, open bool) {
		_ = eachLine(strings.NewReader(text), open, func(l line) error {
			name, pairs, err := parseSeries(string(l.series))
			if err == nil && (name == "" || len(pairs) > maxLabels) {
				t.Fatalf("%q: name %q, %d labels", l.series, name, len(pairs))
			}
			return nil
		})
	})
}
