package rules_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/rules"
)

// What is stored is what was written, and each fault names field, group, rule.
func TestNormalize(t *testing.T) {
	in := `{"name":"n","labels":{"team":"web"},"groups":[{"name":"g","interval":"90s","query_offset":"30s","limit":7,"labels":{"tier":1},"rules":[
		{"record":"a:b","expr":1},{"alert":"A","expr":"up == 0 # why","for":"1m30s","keep_firing_for":"5m","labels":{"x":true},"annotations":{"s":"{{ $labels.job }} {{ $value | humanize }}"}}]}]}`
	out, err := rules.Normalize(json.RawMessage(in), nil)
	require.NoError(t, err)
	require.JSONEq(t, strings.NewReplacer(`"tier":1`, `"tier":"1"`, `"expr":1`, `"expr":"1"`, `"x":true`, `"x":"true"`).Replace(in), string(out))
	again, err := rules.Normalize(out, out)
	require.NoError(t, err)
	require.Equal(t, string(out), string(again))

	f := func(spec, want string) {
		t.Helper()
		_, err := rules.Normalize(json.RawMessage(spec), nil)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, spec)
		require.Contains(t, err.Error(), want)
	}
	rule := func(rule string) string { return `{"name":"n","groups":[{"name":"g","rules":[` + rule + `]}]}` }
	f(`{"name":"n"}`, "groups: must have at least one group")
	f(`{"name":"","groups":[{"name":"g","rules":[]}]}`, "name: must be")
	f(`{"name":"n","groups":[],"evil":1}`, "evil: there is no such field")
	f(`{"name":"n","groups":[{"name":"g","rules":[],"evil":1}]}`, "groups[0].evil: there is no such field")
	f(rule(`{"alert":"A","expr":"1","evil":1}`), `groups[0].rules[0].evil: group "g", rule 1 "A": there is no such field`)
	f(`{"name":"n","groups":[{"name":"g","rules":[]},{"name":"g","rules":[]}]}`, `groups[1].name: group "g" is there already`)
	f(`{"name":"n","groups":[{"name":"g","interval":"x","rules":[]}]}`, `groups[0].interval: group "g": "x" is not a duration`)
	f(`{"name":"n","groups":[{"name":"g","interval":"10ms","rules":[]}]}`, "must lie between 1s and 1d")
	f(`{"name":"n","groups":[{"name":"g","limit":-1,"rules":[]}]}`, "groups[0].limit")
	f(`{"name":"n","groups":[{"name":"g","query_offset":"2h","rules":[]}]}`, "groups[0].query_offset")
	f(rule(`{"alert":"A","record":"b","expr":"1"}`), "either record or alert")
	f(rule(`{"expr":"1"}`), `groups[0].rules[0].alert: group "g", rule 1 "": a rule needs`)
	f(rule(`{"alert":"A"}`), "rules[0].expr")
	f(rule(`{"alert":"A","expr":"up =="}`), `groups[0].rules[0].expr: group "g", rule 1 "A": is no PromQL`)
	f(rule(`{"alert":"A","expr":"up[5m]"}`), "gives a range vector")
	f(rule(`{"alert":"A","expr":"'text'"}`), "gives a string")
	f(rule(`{"alert":"A","expr":"1","for":"-1m"}`), "rules[0].for")
	f(rule(`{"alert":"A","expr":"1","for":5}`), `"5" is not a duration`)
	f(rule(`{"record":"a","expr":"1","for":"1m"}`), "is for alerts only")
	f(rule(`{"record":"a{x}","expr":"1"}`), "is no name of a series")
	f(rule(`{"record":"a","expr":"1","annotations":{"x":"y"}}`), "rules[0].annotations")
	f(rule(`{"alert":"A","expr":"1","labels":{"__name__":"y"}}`), "rules[0].labels.__name__")
	f(rule(`{"alert":"A","expr":"1","annotations":{"s":"{{ $labels.x "}}`), "rules[0].annotations.s: group \"g\", rule 1 \"A\": is no template")
	f(rule(`{"alert":"A","expr":"1","annotations":{"s":"{{ evil }}"}}`), `"evil" not defined`)
	f(rule(`{"alert":"A","expr":["1"]}`), "must be a text")
	f(rule(`{"alert":"A","expr":"`+strings.Repeat("(", rules.MaxExprBytes)+`"}`), "nests more than 250 levels deep")
	f(rule(`{"alert":"A","expr":"`+strings.Repeat("(", 30_000)+"up"+strings.Repeat(")", 30_000)+`"}`), "nests more than 250 levels deep")
	f(rule(`{"alert":"A","expr":"1`+strings.Repeat("+1", 1001)+`"}`), "more than 1000 operators")
	many := strings.Repeat(`{"alert":"A","expr":"1"},`, rules.MaxRules) + `{"alert":"A","expr":"1"}`
	f(rule(many), "has 1001 rules; 1000 are allowed")
}

func FuzzNormalize(f *testing.F) {
	f.Add(`{"name":"n","groups":[{"name":"g","rules":[{"alert":"A","expr":"up == 0","for":"1m","annotations":{"s":"{{ $value }}"}}]}]}`)
	f.Add(`{"name":"n","groups":[{"name":"g","interval":"90s","query_offset":"0s","labels":{"a":1},"rules":[{"record":"a:b","expr":1.50}]}]}`)
	f.Add(`{"name":"n","groups":[{"name":"g","rules":[{"alert":"A","expr":"sum by (x) (rate(y[5m])) @ end()","labels":{"l":null}}]}],"disabled":true}`)
	f.Fuzz(func(t *testing.T, spec string) {
		out, err := rules.Normalize(json.RawMessage(spec), nil)
		if err != nil {
			return
		}
		again, err := rules.Normalize(out, out)
		require.NoError(t, err)
		require.Equal(t, string(out), string(again), "normal form is not stable")
		rec, err := rules.ParseRecord(out)
		require.NoError(t, err)
		require.LessOrEqual(t, len(rec.Groups), rules.MaxGroups)
	})
}

// What is read from a file can be stored as a record, and stays what it is.
func FuzzParseFile(f *testing.F) {
	f.Add("groups:\n- name: g\n  limit: 5\n  rules:\n  - &a {alert: A, expr: 1.50, labels: {v: 1.10, since: 2026-01-02, none: ~}}\n  - {<<: *a, alert: B}\n")
	f.Add("groups: [{name: 007, interval: 1m, query_offset: 30s, rules: [{record: a:b, expr: 'sum(up)'}]}]")
	f.Add("groups: &g [*g]")
	f.Add("? [a]\n: b\n--- !!binary aGk=\n")
	f.Fuzz(func(t *testing.T, text string) {
		groups, err := rules.ParseFile([]byte(text))
		if err != nil {
			return
		}
		spec, err := json.Marshal(map[string]any{"name": "n", "groups": groups})
		require.NoError(t, err)
		_, err = rules.Normalize(spec, nil)
		require.NoError(t, err, "%s", spec)
	})
}

// A file is YAML: anchors, merges, texts that look like something else.
func TestParseFile(t *testing.T) {
	groups, err := rules.ParseFile([]byte("groups:\n- name: g\n  rules:\n  - &a {alert: A, expr: 1, labels: {since: 2026-01-02, tier: 2, on: true}}\n  - {<<: *a, alert: B}\n"))
	require.NoError(t, err)
	require.Equal(t, "B", groups[0].Rules[1].Name())
	require.Equal(t, map[string]rules.Text{"since": "2026-01-02", "tier": "2", "on": "true"}, groups[0].Rules[1].Labels)
	groups, err = rules.ParseFile([]byte("groups:\n- name: 007\n  limit: 10\n  labels: {v: 1.10, code: 0500, hex: 0x10, much: 1e3, none: ~, yes: True, at: 2026-01-02T03:04:05Z, limit: 5}\n  rules: [{record: r, expr: 1.50}]\n"))
	require.NoError(t, err)
	require.Equal(t, rules.Text("007"), groups[0].Name)
	require.Equal(t, 10, groups[0].Limit)
	require.Equal(t, rules.Text("1.50"), groups[0].Rules[0].Expr)
	require.Equal(t, map[string]rules.Text{"v": "1.10", "code": "0500", "hex": "0x10", "much": "1e3", "none": "", "yes": "True", "at": "2026-01-02T03:04:05Z", "limit": "5"}, groups[0].Labels, "values stay as they are written")
	for _, bad := range []string{"groups: [", "groups:\n- name: g\n  name: h\n", "- 1", "1: 2", "groups: {a: .nan}", "group: []"} {
		_, err := rules.ParseFile([]byte(bad))
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, bad)
	}
}

// Files are this server's own: read at the start, followed while they change,
// and a bad one keeps what it was.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		// Another inode with another time: the clock of the test stands.
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	write("a.yml", "groups:\n- name: g\n  interval: 10s\n  rules:\n  - {record: one, expr: 1}\n")
	write("notes.txt", "no rules")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.owner.Store("nobody")
		s := w.start("n1", rules.Config{Dir: dir, FilePoll: 10 * time.Second}, record(t, "basics", downGroup))
		time.Sleep(25 * time.Second)
		require.Len(t, s.Groups(), 1, "a file is evaluated by whoever has it")
		require.Equal(t, map[string]float64{`{__name__="one"}`: 1}, w.samples("one"))

		write("a.yml", "groups:\n- name: g\n  interval: 10s\n  rules:\n  - {record: one, expr: 1}\n  - {record: two, expr: 2 +}\n")
		time.Sleep(25 * time.Second)
		require.Len(t, s.Groups()[0].Rules, 1)
		require.Contains(t, s.Status().Faults[filepath.Join(dir, "a.yml")], `group "g", rule 2 "two": is no PromQL`)

		write("a.yml", "groups:\n- name: g\n  interval: 10s\n  rules:\n  - {record: one, expr: 1}\n  - {record: two, expr: 1 + 1}\n")
		time.Sleep(25 * time.Second)
		require.Empty(t, s.Status().Faults)
		require.Equal(t, map[string]float64{`{__name__="two"}`: 2}, w.samples("two"))

		require.NoError(t, os.Remove(filepath.Join(dir, "a.yml")))
		time.Sleep(45 * time.Second)
		require.Empty(t, s.Groups())
		require.Empty(t, w.samples("two"), "what is gone ends")
	})
}

// More groups than there may be are left out, the newest ones, and their record
// says so.
func TestTooManyGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var records []model.Record
		for i := range 11 {
			var groups []string
			for j := range 100 {
				groups = append(groups, fmt.Sprintf(`{"name":"g%d","interval":"1h","rules":[{"record":"r","expr":"1"}]}`, j))
			}
			rec := record(t, fmt.Sprintf("r%02d", i), "["+strings.Join(groups, ",")+"]")
			rec.Created = time.Unix(int64(1000-i), 0)
			records = append(records, rec)
		}
		dir := t.TempDir() // the place of files is the server's own
		require.NoError(t, os.WriteFile(filepath.Join(dir, "own.yml"), []byte("groups: [{name: own, rules: [{record: own, expr: '1'}]}]"), 0o600))
		s := w.start("n1", rules.Config{Dir: dir}, records...)
		synctest.Wait()
		require.Equal(t, rules.MaxGroups+1, len(s.RuleGroups()))
		require.Equal(t, 1101, s.Status().Groups)
		require.Len(t, s.Status().Faults, 1)
		require.Contains(t, s.Status().Faults["r00"], "its last 100 groups are not evaluated")
		for _, g := range s.Groups() {
			require.NotEqual(t, "r00", g.Source)
		}
		require.NoError(t, s.Update(records[1:]))
		synctest.Wait()
		require.Empty(t, s.Status().Faults)
		require.Equal(t, 1001, s.Status().Groups)
	})
}

// A record that adds groups beyond the limit is refused, whoever has the others.
func TestFits(t *testing.T) {
	groups := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"name":"g%d","rules":[{"record":"r","expr":"1"}]}`, i))
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	a, b := record(t, "a", groups(600)), record(t, "b", groups(400))
	all := []model.Record{a, b}
	require.NoError(t, rules.Fits(b.Spec, model.Record{}, all[:1]))
	more := record(t, "b", groups(401))
	var inv model.Invalid
	require.ErrorAs(t, rules.Fits(more.Spec, b, all), &inv)
	require.Equal(t, "groups", inv[0].Field)
	require.Contains(t, inv[0].Msg, "1001 groups")
	require.ErrorAs(t, rules.Fits(record(t, "c", groups(1)).Spec, model.Record{}, all), &inv)

	all[0] = record(t, "a", groups(900)) // from before there was a limit, or two at once
	require.NoError(t, rules.Fits(record(t, "b", groups(400)).Spec, b, all), "what adds nothing is taken")
	require.NoError(t, rules.Fits(record(t, "b", groups(300)).Spec, b, all))
	all[0].Spec = json.RawMessage(strings.Replace(string(all[0].Spec), "{", `{"disabled":true,`, 1))
	require.NoError(t, rules.Fits(more.Spec, b, all), "what is disabled does not count")
	require.ErrorAs(t, rules.Fits(record(t, "a", groups(900)).Spec, all[0], all), &inv, "until it is enabled")
}

// A rule that gives too much or takes too long fails alone.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		now := time.Now()
		for i := range 5 {
			w.add(now.Add(15*time.Second), 0, "__name__", "up", "job", fmt.Sprint(i))
		}
		s := w.start("n1", rules.Config{MaxSeries: 4}, record(t, "basics", `[
			{"name":"all","interval":"10s","rules":[{"alert":"All","expr":"up == 0"},{"alert":"Some","expr":"up{job=~\"0|1\"} == 0"}]},
			{"name":"limited","interval":"10s","limit":1,"rules":[{"alert":"Limited","expr":"up{job=~\"0|1\"} == 0"}]}]`))
		time.Sleep(35 * time.Second)
		for _, g := range s.Groups() {
			for _, r := range g.Rules {
				want := map[string]string{"All": "gives 5 series, a rule may produce 4", "Limited": "exceeded limit of 1 with 2 alerts"}[r.Name]
				require.Contains(t, r.Error, want, r.Name)
				require.Equal(t, want == "", r.Health == "ok", r.Name)
			}
		}
		require.Len(t, w.firings("Some"), 2)
		require.Empty(t, w.firings("All"))
	})
}
