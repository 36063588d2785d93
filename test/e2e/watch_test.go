//go:build e2e

// Package e2e drives the real binary against real targets and real receivers.
package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"panoptes/internal/model"
	"panoptes/test/harness"
)

func documents(t *testing.T, docs ...map[string]any) string {
	t.Helper()
	var b strings.Builder
	for _, d := range docs {
		y, err := yaml.Marshal(d)
		require.NoError(t, err)
		fmt.Fprintf(&b, "---\n%s", y)
	}
	return b.String()
}

func doc(kind, name string, spec map[string]any) map[string]any {
	return map[string]any{"kind": kind, "name": name, "spec": spec}
}

func status(s *harness.Server, name string) string {
	var c struct {
		State model.CheckState `json:"state"`
	}
	if err := s.Get("/v1/checks/"+name, &c); err != nil {
		return err.Error()
	}
	return string(c.State.Status)
}

func waitStatus(t *testing.T, s *harness.Server, want string, names ...string) {
	t.Helper()
	got := map[string]string{}
	ok := func() bool {
		for _, n := range names {
			if got[n] = status(s, n); got[n] != want {
				return false
			}
		}
		return true
	}
	deadline := time.Now().Add(40 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			require.FailNow(t, "wrong state", "want %s, got %v", want, got)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// An HTTPS, a TCP and a DNS target go down and come back. A mail and a webhook
// tell of each change once. kill -9 loses nothing and repeats nothing.
func TestWatchWarnAndSurviveKill(t *testing.T) {
	bin := harness.Binary(t)
	https, ca := harness.HTTPS(t)
	tcp, names := harness.TCP(t), harness.DNS(t)
	hook, mail := harness.NewWebhook(t), harness.NewMailbox(t)
	s := harness.Start(t, bin, t.TempDir())

	checks := []string{"site", "service", "names"}
	check := func(name, typ, target string, block map[string]any) map[string]any {
		return doc("check", name, map[string]any{"type": typ, "target": target, "interval": "1s", "timeout": "500ms", "labels": map[string]string{"team": "web"}, typ: block})
	}
	_, mailPort, err := net.SplitHostPort(mail.Addr)
	require.NoError(t, err)
	input := documents(t,
		check("site", "http", "https://"+https.Addr+"/", map[string]any{"expect_status": []string{"200-299"}, "expect_body": "welcome", "tls": map[string]any{"ca": ca}}),
		check("service", "tcp", tcp.Addr, map[string]any{}),
		check("names", "dns", "www.example.test", map[string]any{"resolvers": []string{names.Addr}, "record_type": "A"}),
		doc("receiver", "hook", map[string]any{"type": "webhook", "webhook": map[string]any{"url": hook.URL}}),
		doc("receiver", "post", map[string]any{"type": "email", "email": map[string]any{"to": "ops@example.test", "from": "panoptes@example.test", "smarthost": "127.0.0.1:" + mailPort, "require_tls": false}}),
		doc("route", "default", map[string]any{"receiver": "hook", "group_by": []string{"alertname", "check"}, "group_wait": "0s", "group_interval": "1s", "repeat_interval": "4h"}),
		doc("route", "mail", map[string]any{"parent": "default", "receiver": "post", "continue": true, "position": 1}),
		doc("route", "web", map[string]any{"parent": "default", "receiver": "hook", "position": 2}),
	)
	out, err := s.CLI(input, "apply", "-f", "-")
	require.NoError(t, err, out)
	out, err = s.CLI(input, "apply", "-f", "-")
	require.NoError(t, err, out)
	require.Contains(t, out, "0 created, 0 changed", "apply is idempotent")

	waitStatus(t, s, "up", checks...)
	require.Empty(t, hook.All(), "nobody is told that all is well")

	told := func(state string, names ...string) func() bool {
		return func() bool {
			for _, n := range names {
				if hook.Count(n, state) < 1 || mail.Count(n, strings.ToUpper(state)) < 1 {
					return false
				}
			}
			return true
		}
	}
	once := func(state string, names ...string) {
		t.Helper()
		for _, n := range names {
			require.Equal(t, 1, hook.Count(n, state), "webhook: %s %s", n, state)
			require.Equal(t, 1, mail.Count(n, strings.ToUpper(state)), "mail: %s %s", n, state)
		}
	}

	for _, tg := range []*harness.Toggle{https, tcp, names} {
		tg.Down()
	}
	began := time.Now()
	waitStatus(t, s, "down", checks...)
	require.Eventually(t, told("firing", checks...), 20*time.Second, 50*time.Millisecond)
	t.Logf("failure to notification of all three, both channels: %s", time.Since(began).Round(10*time.Millisecond))

	for _, tg := range []*harness.Toggle{https, tcp, names} {
		tg.Up()
	}
	waitStatus(t, s, "up", checks...)
	require.Eventually(t, told("resolved", checks...), 20*time.Second, 50*time.Millisecond)
	once("firing", checks...)
	once("resolved", checks...)

	// Down again, told, then the process is killed.
	tcp.Down()
	waitStatus(t, s, "down", "service")
	require.Eventually(t, func() bool { return hook.Count("service", "firing") == 2 && mail.Count("service", "FIRING") == 2 }, 20*time.Second, 50*time.Millisecond)
	var before struct {
		State model.CheckState `json:"state"`
	}
	require.NoError(t, s.Get("/v1/checks/service", &before))
	var events struct{ Items []model.Event }
	require.NoError(t, s.Get("/v1/events?kind=state,delivery&limit=500", &events))
	samples, err := s.Scalar(`sum(count_over_time(probe_success[1h]))`)
	require.NoError(t, err)

	s.Kill()
	killed := time.Now()
	s.Restart()
	t.Logf("kill -9 to ready: %s", time.Since(killed).Round(10*time.Millisecond))

	require.Equal(t, "down", status(s, "service"), "the state is there at once")
	var after struct {
		State model.CheckState `json:"state"`
	}
	require.NoError(t, s.Get("/v1/checks/service", &after))
	require.Equal(t, before.State.Since, after.State.Since, "since when it is down")
	have := map[string]bool{}
	var later struct{ Items []model.Event }
	require.NoError(t, s.Get("/v1/events?kind=state,delivery&limit=500", &later))
	for _, e := range later.Items {
		have[e.ID] = true
	}
	for _, e := range events.Items {
		require.True(t, have[e.ID], "event lost: %+v", e)
	}
	now, err := s.Scalar(`sum(count_over_time(probe_success[1h]))`)
	require.NoError(t, err)
	var was, is int
	fmt.Sscan(samples, &was)
	fmt.Sscan(now, &is)
	require.Positive(t, was)
	require.GreaterOrEqual(t, is, was, "samples are there")

	// Eight more runs of each check, and the alert is sent again: nobody hears of it.
	require.Eventually(t, func() bool {
		n, err := s.Scalar(`min(count_over_time(probe_success[8s]))`)
		return err == nil && (n == "7" || n == "8")
	}, 30*time.Second, 200*time.Millisecond)
	require.Equal(t, 2, hook.Count("service", "firing"), "told again after the restart")
	require.Equal(t, 2, mail.Count("service", "FIRING"), "told again after the restart")
	once("firing", "site", "names")

	tcp.Up()
	waitStatus(t, s, "up", "service")
	require.Eventually(t, func() bool { return hook.Count("service", "resolved") == 2 && mail.Count("service", "RESOLVED") == 2 }, 20*time.Second, 50*time.Millisecond)
	for _, n := range hook.All() {
		require.NotEmpty(t, n.Key, "every notification carries its idempotency key")
	}
}

// The commands that concern one server, as scripts use them.
func TestCommands(t *testing.T) {
	bin := harness.Binary(t)
	tcp := harness.TCP(t)
	s := harness.Start(t, bin, t.TempDir())
	run := func(args ...string) string {
		t.Helper()
		out, err := s.CLI("", args...)
		require.NoError(t, err, "%v: %s", args, out)
		return out
	}
	require.Contains(t, run("check", "list"), "no checks; add one with")
	require.Contains(t, run("check", "add", "svc", "tcp://"+tcp.Addr, "--interval", "1s", "--timeout", "500ms", "--label", "team=web"), "check svc added")
	require.Contains(t, run("check", "run", "svc"), "up")
	waitStatus(t, s, "up", "svc")
	require.Contains(t, run("check", "show", "svc"), "UPTIME")
	exported := run("export")
	require.Contains(t, exported, "name: svc")
	out, err := s.CLI(exported, "apply", "-f", "-")
	require.NoError(t, err, out)
	require.Contains(t, out, "0 created, 0 changed")
	changed := strings.Replace(exported, "team: web", "team: shop", 1)
	out, err = s.CLI(changed, "apply", "-f", "-", "--dry-run")
	require.NoError(t, err, out)
	require.Contains(t, out, "update check svc")
	require.Contains(t, out, "+", out)
	require.Contains(t, out, "shop")
	require.Contains(t, run("export"), "team: web", "a dry run writes nothing")

	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(run("check", "list", "-o", "json")), &list))
	require.Len(t, list, 1)
	require.Contains(t, run("query", `probe_success{check="svc"}`), "probe_success")
	require.Contains(t, run("silence", "add", `check="svc"`, "--for", "1h", "--comment", "test"), "silence ")
	require.Contains(t, run("silence", "list"), "active")
	require.Contains(t, run("events"), "audit")
	run("status")

	// Wrong input names the field and the remedy, and exits with 2.
	bad := func(want string, args ...string) {
		t.Helper()
		out, err := s.CLI("", args...)
		require.Error(t, err)
		require.Contains(t, out, want)
	}
	bad("interval", "check", "add", "x", "tcp://127.0.0.1:1", "--interval", "1ms")
	bad("does not tell the type", "check", "add", "x", "nonsense")
	bad("no check", "check", "show", "nobody")
	out, err = s.CLI("kind: check\nname: a\nspec: {type: tcp, target: '127.0.0.1:1'}\n---\nkind: check\nname: b\nspec: {type: tcp, target: nowhere, colour: red}\n", "apply", "-f", "-")
	require.Error(t, err)
	require.Contains(t, out, "standard input:5: check b")
	bad("no check", "check", "show", "a")
	run("check", "pause", "svc")
	waitStatus(t, s, "paused", "svc")
	run("check", "remove", "svc", "--yes")
	require.Contains(t, run("check", "list"), "no checks")
}

// A second server over the same directory says so and ends.
func TestDirectoryIsLocked(t *testing.T) {
	bin := harness.Binary(t)
	s := harness.Start(t, bin, t.TempDir())
	out, err := s.CLI("", "server", "--data-dir", s.Dir, "--listen", "127.0.0.1:0")
	require.Error(t, err)
	require.Contains(t, out, "in use")
	code, _, err := s.Do(http.MethodGet, "/-/healthy", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
}
