//go:build e2e

// Package promtool runs unit tests of rules with a real promtool and with the
// real program: the same tests pass and fail.
package promtool

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// promtoolBinary returns the program that `make conformance` builds from its
// module; without it the test is skipped.
func promtoolBinary(t testing.TB) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin/promtool")
	require.NoError(t, err)
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	if os.Getenv("PANOPTES_CONFORMANCE") == "" {
		t.Skip("bin/promtool is not there; `make conformance` builds it, which takes minutes")
	}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "github.com/prometheus/prometheus/cmd/promtool")
	cmd.Dir = "../../bench/prometheus"
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "build promtool: %s", out)
	return bin
}

// verdict is what a program says of a file.
type verdict struct {
	passed bool
	tests  []bool // by their place in the file; nil when none was run
	said   string
}

func exitCode(t testing.TB, err error) int {
	t.Helper()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode()
	}
	require.NoError(t, err)
	return 0
}

func byPromtool(t testing.TB, bin, file string) verdict {
	t.Helper()
	report := filepath.Join(t.TempDir(), "junit.xml")
	out, err := exec.Command(bin, "test", "rules", "--junit="+report, file).CombinedOutput()
	v := verdict{passed: exitCode(t, err) == 0, said: string(out)}
	data, err := os.ReadFile(report)
	require.NoError(t, err, "%s", out)
	var x struct {
		Suites []struct {
			Cases []struct {
				Failures []string `xml:"failure"`
				Error    *string  `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal(data, &x))
	for _, c := range x.Suites[0].Cases {
		if c.Error != nil {
			return v
		}
		v.tests = append(v.tests, len(c.Failures) == 0)
	}
	return v
}

func byUs(t testing.TB, bin, file string) verdict {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(bin, "rules", "test", "-o", "json", file)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	v := verdict{passed: exitCode(t, err) == 0, said: string(out) + stderr.String()}
	var lines []struct {
		Test   string
		Passed bool
	}
	require.NoError(t, json.Unmarshal(out, &lines), "%s%s", out, &stderr)
	for _, l := range lines {
		if l.Test == "" { // the file itself is at fault
			return v
		}
		v.tests = append(v.tests, l.Passed)
	}
	return v
}

// differs are the tests that promtool lets fail and we do not: it compares what
// its store notes about counter resets, which is no property of the rules.
var differs = map[string][]int{"expressions.yml": {11}}

func TestSameAsPromtool(t *testing.T) {
	theirs, ours := promtoolBinary(t), harness.Binary(t)
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	require.NoError(t, err)
	own, err := filepath.Glob("testdata/*.yml")
	require.NoError(t, err)
	packs, err := filepath.Glob("../../internal/rules/packs/tests/*.yml")
	require.NoError(t, err)
	files := append(slices.DeleteFunc(own, func(f string) bool { return filepath.Base(f) == "rules.yml" }), packs...)
	for _, name := range []string{"unittest.yml", "long-period.yml", "at-modifier-test.yml", "negative-offset-test.yml", "no-test-group-interval.yml", "start-time-test.yml",
		"rules_run_no_fuzzy.yml", "rules_run_fuzzy.yml", "rules_run.yml", "bad-input-series.yml", "bad-promql.yml", "bad-rules-syntax-test.yml", "bad-rules-error-test.yml", "failing.yml"} {
		files = append(files, filepath.Join(strings.TrimSpace(string(dir)), "cmd", "promtool", "testdata", name))
	}
	tests, failed := 0, 0
	compare := func(file string) {
		want, got := byPromtool(t, theirs, file), byUs(t, ours, file)
		except := differs[filepath.Base(file)]
		if len(want.tests) > 0 && len(got.tests) == 0 { // we look at the rule files before the first test
			require.NotContains(t, want.tests, true, "%s\npromtool:\n%s\npanoptes:\n%s", file, want.said, got.said)
		} else {
			require.Len(t, got.tests, len(want.tests), "%s\npromtool:\n%s\npanoptes:\n%s", file, want.said, got.said)
		}
		for i := range got.tests {
			tests++
			if !want.tests[i] {
				failed++
			}
			if slices.Contains(except, i) {
				require.True(t, got.tests[i] && !want.tests[i], "%s: test %d does not differ any more", file, i)
				continue
			}
			require.Equal(t, want.tests[i], got.tests[i], "%s: test %d\npromtool:\n%s\npanoptes:\n%s", file, i, want.said, got.said)
		}
		if len(except) == 0 {
			require.Equal(t, want.passed, got.passed, "%s\npromtool:\n%s\npanoptes:\n%s", file, want.said, got.said)
		}
	}
	for _, file := range files {
		compare(file)
	}
	// The tests of the packs, all looked at some minutes later and with other
	// numbers: some pass still, most fail.
	require.NotEmpty(t, packs)
	packs = slices.DeleteFunc(packs, func(f string) bool { return filepath.Base(f) == "long.yml" }) // days of evaluations
	for _, file := range packs {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for i, change := range []func(string) string{
			func(s string) string { return shift(s, 1) },
			func(s string) string { return shift(s, -2) },
			func(s string) string { return strings.ReplaceAll(s, "value: 1}", "value: 2}") },
			func(s string) string {
				return strings.ReplaceAll(s, "evaluation_interval: 1m", "evaluation_interval: 90s")
			},
		} {
			changed := change(inOrder(t, file, string(text)))
			path := filepath.Join(t.TempDir(), fmt.Sprint(i, "-", filepath.Base(file)))
			require.NoError(t, os.WriteFile(path, []byte(changed), 0o600))
			compare(path)
		}
	}
	require.Greater(t, failed, 100)
	require.Greater(t, tests-failed, 100)
	t.Logf("%d files, %d tests: %d pass with both programs, %d with neither", len(files)+4*len(packs), tests, tests-failed, failed)
}

var evalTime = regexp.MustCompile(`eval_time: (\d+)m`)

// shift moves all times at which something is looked at, by minutes.
func shift(text string, minutes int) string {
	return evalTime.ReplaceAllStringFunc(text, func(s string) string {
		n, err := strconv.Atoi(evalTime.FindStringSubmatch(s)[1])
		if err != nil {
			return s
		}
		return fmt.Sprintf("eval_time: %dm", max(0, n+minutes))
	})
}

var (
	ruleFile  = regexp.MustCompile(`\.\./(\w+\.yml)`)
	groupName = regexp.MustCompile(`(?m)^ {2}- name: (\S+)$`)
	evalOrder = regexp.MustCompile(`(?m)^group_eval_order: .*\n`)
)

// inOrder names the order of all groups: promtool runs those that it is not
// told about in any order, which makes a difference of one evaluation. Rule
// files are named by their whole path.
func inOrder(t testing.TB, file, text string) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Dir(filepath.Dir(file)))
	require.NoError(t, err)
	var groups []string
	for _, m := range ruleFile.FindAllStringSubmatch(text, -1) {
		rules, err := os.ReadFile(filepath.Join(dir, m[1]))
		require.NoError(t, err)
		for _, g := range groupName.FindAllStringSubmatch(string(rules), -1) {
			groups = append(groups, g[1])
		}
	}
	require.NotEmpty(t, groups, file)
	text = ruleFile.ReplaceAllString(text, dir+"/$1")
	return "group_eval_order: [" + strings.Join(groups, ", ") + "]\n" + evalOrder.ReplaceAllString(text, "")
}
