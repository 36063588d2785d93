package textfile

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
)

func collect(t *testing.T, c *Files) (*metric.Batch, error) {
	t.Helper()
	b := metric.NewBatch(1000)
	b.Reset(1)
	err := c.Collect(t.Context(), b)
	return b, err
}

func names(b *metric.Batch) (out []string) {
	for _, s := range b.Samples() {
		out = append(out, s.Labels.Get("__name__"))
	}
	return out
}

func TestFileIsReadAgainWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "a.prom")
	require.NoError(t, os.WriteFile(p, []byte("a 1\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.txt"), []byte("b 1\n"), 0o644))
	c := New(dir)
	b, err := collect(t, c)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "node_textfile_mtime_seconds", "node_textfile_scrape_error"}, names(b))

	require.NoError(t, os.WriteFile(p, []byte("a 2\nb{x=\"y\"} NaN\n"), 0o644))
	require.NoError(t, os.Chtimes(p, time.Now(), time.Now().Add(time.Minute)))
	b, err = collect(t, c)
	require.NoError(t, err)
	require.Equal(t, 2., b.Samples()[0].V)
	require.True(t, math.IsNaN(b.Samples()[1].V), "scripts may say NaN")

	require.NoError(t, os.Remove(p))
	b, err = collect(t, c)
	require.NoError(t, err)
	require.Equal(t, []string{"node_textfile_scrape_error"}, names(b))
}

func TestFaultyFilesAreLeftOut(t *testing.T) {
	for fault, text := range map[string]string{
		"more than 256":        strings.Repeat("a 1\n", MaxSeries+1),
		"at most 65536":        strings.Repeat("#", MaxBytes+1),
		"not UTF-8":            "a{b=\"\xff\"} 1\n",
		"belongs to the agent": "node_scrape_collector_success{collector=\"cpu\"} 1\n",
		"timestamp":            "a 1 1700000000000\n",
		"not a number":         "a one\n",
		"not a metric's name":  "1a 1\n",
		"not a label's name":   "a{1b=\"c\"} 1\n",
		"comes twice":          "a{b=\"c\",b=\"d\"} 1\n",
		"does not end":         "a{b=\"c\n",
		"not in double quotes": "a{b=c} 1\n",
		"is no escape":         `a{b="\x"} 1`,
		"there is no value":    "a\n",
		"not closed":           "a{b=\"c\" d=\"e\"} 1\n",
		"line 2":               "a 1\nb{\n",
	} {
		t.Run(fault, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "bad.prom"), []byte(text), 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "good.prom"), []byte("good 1\n"), 0o644))
			b, err := collect(t, New(dir))
			require.ErrorContains(t, err, fault)
			require.Equal(t, []string{"good", "node_textfile_mtime_seconds", "node_textfile_scrape_error"}, names(b))
			require.Equal(t, 1., b.Samples()[2].V)
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a 1\n", "a{b=\"c\"} +Inf", "a{b=\"\\n\\\\\\\"\",} 1e9", "# HELP a b\n\n", "a{", "a{b", "a{b=\"", "{}", "a{}1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rows, err := parse(s, MaxSeries)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(rows), MaxSeries)
		for _, r := range rows {
			require.True(t, metric.ValidName(r.name, true))
			require.Zero(t, len(r.kv)%2)
			for i := 0; i < len(r.kv); i += 2 {
				require.True(t, metric.ValidName(r.kv[i], false))
			}
		}
	})
}
