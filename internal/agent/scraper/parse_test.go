package scraper

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/wire/uplink"
)

// FuzzConfigure: jobs of servers are checked before they are used.
func FuzzConfigure(f *testing.F) {
	for _, s := range []string{
		`[{"job":"x","targets":["localhost:9100","[::1]:1"],"labels":{"a":"b"},"interval":"5s","params":{"a":["b"]}}]`, `[{"job":"x","url":"http://h/m?a=b"}]`,
		`[{"job":"x","targets":["a:1"],"bearer_file":"/etc/shadow"}]`, `[]`, `null`, `{`, `[{"job":"x","url":"http://%zz/"}]`, `[{"job":"x","url":"http://u:p@h/"}]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, jobs string) {
		dial := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no") }
		s, err := New(Config{}, Deps{DialServers: dial})
		require.NoError(t, err)
		err = s.Configure(uplink.Settings{Scrapes: []byte(jobs)})
		list := s.targets()
		if err != nil {
			require.Empty(t, list)
		}
		require.LessOrEqual(t, len(list), uplink.MaxScrapeTargets)
		for _, x := range list {
			require.Empty(t, x.job.BearerFile+x.job.PasswordFile+x.job.CAFile)
			require.True(t, strings.HasPrefix(x.url, "http://") || strings.HasPrefix(x.url, "https://"), x.url)
			_, _ = x.scrape(t.Context(), 1)
		}
	})
}

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
