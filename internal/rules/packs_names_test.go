package rules_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/rules"
	"panoptes/internal/rules/packs"
)

// sources are the texts in quotes of all packages that make metrics.
func sources(t *testing.T) map[string]map[string]bool {
	quoted := regexp.MustCompile("[\"`]([a-zA-Z_:][a-zA-Z0-9_:]*)")
	out := map[string]map[string]bool{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		words := map[string]bool{}
		for _, m := range quoted.FindAllStringSubmatch(string(b), -1) {
			words[m[1]] = true
		}
		out[path] = words
		return nil
	})
	require.NoError(t, err)
	return out
}

// made reports whether a package makes a metric: its name is a text there, or
// put together of two texts of one file, or
// of what the kernel calls its counters.
func made(name string, files map[string]map[string]bool) bool {
	for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
		base, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		for _, words := range files {
			if words[base] {
				return true
			}
			for i := range base {
				if base[i] == '_' && words[base[:i+1]] && (words[base[i+1:]] || strings.HasPrefix(base, "node_vmstat_") || strings.HasPrefix(base, "node_netstat_")) {
					return true
				}
			}
		}
	}
	return false
}

// Every series of ours that a pack looks at is one that something really sends.
func TestPacksNameOnlyMetricsThatAreSent(t *testing.T) {
	files := sources(t)
	require.False(t, made("panoptes_nobody_sends_this_total", files))
	recorded, looked := map[string]bool{"up": true, "ALERTS": true}, 0
	var exprs []struct{ pack, rule, expr string }
	for _, pack := range packs.Names() {
		data, err := packs.Read(pack)
		require.NoError(t, err)
		groups, err := rules.ParseFile(data)
		require.NoError(t, err)
		for _, g := range groups {
			for _, r := range g.Rules {
				recorded[string(r.Record)] = true
				exprs = append(exprs, struct{ pack, rule, expr string }{pack, r.Name(), string(r.Expr)})
			}
		}
	}
	for _, e := range exprs {
		if e.pack == "kubernetes" {
			continue // kube-state-metrics, the kubelet and the API server send those
		}
		libraries := regexp.MustCompile("^(process|go|prometheus|etcd)_")
		expr, err := parser.ParseExpr(e.expr)
		require.NoError(t, err)
		for _, ms := range parser.ExtractSelectors(expr) {
			for _, m := range ms {
				if m.Name != model.MetricName || m.Type != labels.MatchEqual || recorded[m.Value] || libraries.MatchString(m.Value) {
					continue
				}
				looked++
				require.True(t, made(m.Value, files), "pack %s, rule %s: nothing sends %s", e.pack, e.rule, m.Value)
			}
		}
	}
	require.Greater(t, looked, 70)
}
