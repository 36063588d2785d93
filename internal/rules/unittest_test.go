package rules_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/rules"
)

// promtoolFiles is where the engine's own test files lie.
func promtoolFiles(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	require.NoError(t, err)
	dir := filepath.Join(strings.TrimSpace(string(out)), "cmd", "promtool", "testdata")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the engine's test files are not here")
	}
	return dir
}

// promtool's own files pass and fail here as they do there.
func TestFilesOfPromtool(t *testing.T) {
	dir := promtoolFiles(t)
	f := func(name string, passes bool) {
		t.Helper()
		results, err := rules.TestFile(context.Background(), filepath.Join(dir, name))
		faults := []string{}
		if err != nil {
			faults = append(faults, err.Error())
		}
		for _, r := range results {
			faults = append(faults, r.Faults...)
		}
		if passes {
			require.Empty(t, faults, name)
			require.NotEmpty(t, results, name)
		} else {
			require.NotEmpty(t, faults, name)
		}
	}
	f("unittest.yml", true)
	f("long-period.yml", true)
	f("at-modifier-test.yml", true)
	f("negative-offset-test.yml", true)
	f("no-test-group-interval.yml", true)
	f("start-time-test.yml", true)
	f("rules_run_no_fuzzy.yml", false)
	f("bad-input-series.yml", false)
	f("bad-promql.yml", false)
	f("bad-rules-syntax-test.yml", false)
	f("bad-rules-error-test.yml", false)
	f("failing.yml", false)

	results, err := rules.TestFile(context.Background(), filepath.Join(dir, "rules_run_fuzzy.yml"))
	require.NoError(t, err)
	require.Len(t, results, 2)
	require.Empty(t, results[0].Faults, "the last bit may differ")
	require.NotEmpty(t, results[1].Faults, "and no more")
}
