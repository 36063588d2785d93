package cli_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/cli"
)

func TestRules(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	f := func(code int, out, errs string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		got := cli.Main(t.Context(), append([]string{"rules"}, args...), cli.IO{In: strings.NewReader(""), Out: &stdout, Err: &stderr, Env: []string{"HOME=" + dir}})
		require.Equal(t, code, got, "%s%s", &stdout, &stderr)
		require.Contains(t, stdout.String(), out)
		require.Contains(t, stderr.String(), errs)
	}
	good := write("good.yml", "groups:\n- name: g\n  rules:\n  - {alert: Down, expr: up == 0, for: 1m}\n")
	bad := write("bad.yml", "groups:\n- name: g\n  rules:\n  - {alert: Down, expr: up ==}\n  - {record: a b, expr: 1, for: 1m}\n")
	f(0, "1 groups, 1 rules, all well", "", "check", good)
	f(1, "", `groups[0].rules[0].expr: group "g", rule 1 "Down":`, "check", good, bad)
	f(1, "", `groups[0].rules[1].for: group "g", rule 2 "a b":`, "check", bad)
	f(0, "kind: rules\nname: good\nspec:\n  groups:\n", "", "check", good, "--record")

	test := func(seconds string) string {
		return "rule_files: [good.yml]\ntests:\n- name: goes down\n  input_series: [{series: up, values: '0x10'}]\n  alert_rule_test:\n  - {eval_time: " + seconds + ", alertname: Down, exp_alerts: [{}]}\n"
	}
	f(0, "1 tests, 0 failed", "", "test", write("pass.yml", test("2m")))
	f(1, "FAILED", "", "test", write("fail.yml", test("30s")))
	f(1, `"passed": false`, "", "test", "-o", "json", filepath.Join(dir, "fail.yml"))

	f(0, "kubernetes", "", "pack")
	f(0, "# Hosts: processors", "", "pack", "hosts")
	f(0, "kind: rules\nname: hosts\n", "", "pack", "hosts", "--record")
	f(2, "", `rule pack "none": not found; there are agents, checks, hosts, kubernetes, panoptes`, "pack", "none")
}
