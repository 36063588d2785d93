package selfwatch_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/selfwatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEachRuleFiresAndEnds waits as long as each rule wants, and not less.
func TestEachRuleFiresAndEnds(t *testing.T) {
	for _, c := range []struct {
		want  []string
		after time.Duration // 0: at the first look
		facts selfwatch.Facts
	}{
		{[]string{"ServerUnavailable n3"}, 2 * time.Minute, with(func(f *selfwatch.Facts) { f.Members[2].State = model.MemberDead })},
		{[]string{"ServerUnavailable n3"}, 2 * time.Minute, with(func(f *selfwatch.Facts) { f.Members = f.Members[:2] })},
		{[]string{"RelayLag n1 destination=n2"}, time.Minute, with(func(f *selfwatch.Facts) {
			f.Relay = []selfwatch.Destination{{Server: "n2", Lag: 301 * time.Second}, {Server: "n3", Lag: 299 * time.Second}}
		})},
		{[]string{"RelayDropped n1 destination=n3"}, 0, with(func(f *selfwatch.Facts) { f.Relay = []selfwatch.Destination{{Server: "n3", Dropped: true}} })},
		{[]string{"ClockSkew n3"}, 30 * time.Second, with(func(f *selfwatch.Facts) {
			f.Skew = map[string]time.Duration{"id2": time.Second, "id3": -6 * time.Second}
		})},
		{[]string{"ClockSkew n1"}, 30 * time.Second, with(func(f *selfwatch.Facts) {
			f.Skew = map[string]time.Duration{"id2": time.Hour, "id3": time.Hour}
		})},
		{[]string{"ClockSkew n1", "ClockSkew n2"}, 30 * time.Second, with(func(f *selfwatch.Facts) { f.Skew = map[string]time.Duration{"id2": 6 * time.Second} })},
		{[]string{"StoresDisagree n1"}, 5 * time.Minute, with(func(f *selfwatch.Facts) { f.Mismatches = 2 })},
		{[]string{"StoreIncomplete n1"}, 10 * time.Minute, with(func(f *selfwatch.Facts) { f.Incomplete = "copying from n2" })},
		{[]string{"ControlNoQuorum n1"}, time.Minute, with(func(f *selfwatch.Facts) { f.Control = errors.New("1 of 3 voters") })},
		{[]string{"SplitSuspected n1"}, time.Minute, with(func(f *selfwatch.Facts) { f.Isolated = true })},
	} {
		t.Run(strings.Join(c.want, ","), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, selfwatch.Config{}, selfwatch.Settings{}, c.facts)
				if c.after > 0 {
					require.Empty(t, b.after(c.after-time.Second).firing())
				}
				require.Equal(t, c.want, b.after(16*time.Second).firing())
				require.Len(t, b.alerts(), len(c.want), "told at once")
				require.Zero(t, b.alerts()[0].EndsAt)
				for _, k := range []string{"summary", "description", "runbook", "summary_zh", "description_zh", "runbook_zh"} {
					require.NotEmpty(t, b.alerts()[0].Annotations[k])
					require.NotContains(t, b.alerts()[0].Annotations[k], "%!")
				}
				require.Subset(t, b.alerts()[0].Labels, map[string]string{"alertname": b.alerts()[0].Name})
				require.Contains(t, []string{"warning", "critical"}, b.alerts()[0].Labels["severity"])
				told := len(b.alerts())
				b.after(3 * time.Minute)
				require.Equal(t, told+3*len(c.want), len(b.alerts()), "told again each minute")
				require.Equal(t, b.alerts()[0].StartsAt, b.alerts()[len(b.alerts())-1].StartsAt)
				b.set(func(b *bench) { b.facts, b.put = three, nil })
				b.after(16 * time.Second)
				require.Empty(t, b.firing())
				require.Len(t, b.alerts(), len(c.want))
				require.WithinDuration(t, time.Now(), b.alerts()[0].EndsAt, 16*time.Second)
				b.set(func(b *bench) { b.put = nil })
				b.after(time.Hour)
				require.Less(t, len(b.alerts()), 7*len(c.want), "the end is not told for ever")
				for _, a := range b.alerts() {
					require.NotZero(t, a.EndsAt)
				}
			})
		})
	}
}

func TestCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		b := start(t, selfwatch.Config{}, selfwatch.Settings{}, with(func(f *selfwatch.Facts) {
			f.Certificates = []selfwatch.Certificate{{"server", now.Add(12 * time.Hour)}, {"ca", now.Add(31 * 24 * time.Hour)}}
		}))
		require.Empty(t, b.after(4*time.Hour).firing())
		require.Equal(t, []string{"CertificateExpiring n1 certificate=server"}, b.after(11*time.Minute).firing())
		b.set(func(b *bench) { b.facts.Certificates[0].Expires = now.Add(100 * 24 * time.Hour) })
		require.Empty(t, b.after(time.Minute).firing())
		require.Equal(t, []string{"CertificateExpiring n1 certificate=ca"}, b.after(24*time.Hour).firing())
	})
}

func TestTwoGoneAtOnceLookLikeASplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{}, selfwatch.Settings{}, with(func(f *selfwatch.Facts) {
			f.Members[1].State, f.Members[2].State = model.MemberDead, model.MemberDead
		}))
		require.Equal(t, []string{"ServerUnavailable n2", "ServerUnavailable n3", "SplitSuspected n1"}, b.after(3*time.Minute).firing())
		b.set(func(b *bench) { b.facts.Servers = b.facts.Servers[:1] })
		require.Empty(t, b.after(16*time.Second).firing(), "they were removed on purpose")
	})
}

func TestNotificationsFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{}, selfwatch.Settings{}, three)
		b.Delivered("hook", errors.New("status 500"))
		b.Delivered("hook", errors.New("status 500"))
		b.Delivered("mail", nil)
		require.Empty(t, b.after(time.Minute).firing())
		b.Delivered("hook", errors.New("status 502"))
		require.Equal(t, []string{"NotificationsFailing n1 receiver=hook"}, b.after(16*time.Second).firing())
		require.Contains(t, b.alerts()[0].Annotations["description"], "status 502")
		require.Equal(t, "critical", b.Parts()[0].Status)
		b.Delivered("hook", nil)
		require.Empty(t, b.after(16*time.Second).firing())
	})
}

func TestFailuresOfReceiversThatAreGoneDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{}, selfwatch.Settings{}, three)
		fail := func(names ...string) []string {
			for _, n := range names {
				for range 3 {
					b.Delivered(n, errors.New("status 500"))
				}
			}
			return b.after(16 * time.Second).firing()
		}
		hook, mail := "NotificationsFailing n1 receiver=hook", "NotificationsFailing n1 receiver=mail"
		require.Equal(t, []string{hook, mail}, fail("hook", "mail"), "nobody has said yet which there are")
		b.Receivers(map[string]int64{"hook": 1, "mail": 2})
		require.Equal(t, []string{hook, mail}, b.after(16*time.Second).firing())
		b.Receivers(map[string]int64{"hook": 1, "mail": 5})
		require.Equal(t, []string{hook}, b.after(16*time.Second).firing(), "it was changed: it has yet to fail")
		require.Equal(t, []string{hook, mail}, fail("mail"))
		b.Receivers(map[string]int64{"web hook": 6, "mail": 5})
		require.Equal(t, []string{mail}, b.after(16*time.Second).firing(), "it was renamed")
		require.Equal(t, []string{mail}, fail("hook"), "its last attempt ends late")
		b.Receivers(nil)
		require.Empty(t, b.after(16*time.Second).firing())
	})
}

func TestTuning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := with(func(f *selfwatch.Facts) {
			f.Members[2].State = model.MemberDead
			f.Relay = []selfwatch.Destination{{Server: "n3", Lag: time.Minute}}
		})
		limit, soon := 30.0, model.Duration(10*time.Second)
		b := start(t, selfwatch.Config{Language: "zh-CN"}, selfwatch.Settings{Rules: map[string]selfwatch.RuleSettings{
			"RelayLag":          {Threshold: &limit, For: &soon, Severity: "info"},
			"ServerUnavailable": {Disabled: true},
		}}, dead)
		require.Equal(t, []string{"RelayLag n1 destination=n3"}, b.after(10*time.Minute).firing())
		require.Equal(t, "info", b.alerts()[0].Labels["severity"])
		require.Contains(t, b.alerts()[0].Annotations["summary"], "样本")
		// Another severity is another alert: the old one ends.
		b.set(func(b *bench) { b.put = nil })
		require.NoError(t, b.Update(selfwatch.Settings{Rules: map[string]selfwatch.RuleSettings{"RelayLag": {Threshold: &limit, Severity: "critical"}}}))
		synctest.Wait()
		require.Len(t, b.alerts(), 2)
		ends := map[string]bool{}
		for _, a := range b.alerts() {
			ends[a.Labels["severity"]] = !a.EndsAt.IsZero()
		}
		require.Equal(t, map[string]bool{"info": true, "critical": false}, ends)
		require.Equal(t, []string{"RelayLag n1 destination=n3", "ServerUnavailable n3"}, b.after(3*time.Minute).firing())
		// What is turned off ends at once.
		require.NoError(t, b.Update(selfwatch.Settings{Rules: map[string]selfwatch.RuleSettings{"RelayLag": {Disabled: true}}}))
		synctest.Wait()
		require.Equal(t, []string{"ServerUnavailable n3"}, b.firing())
		// Faulty settings change nothing.
		require.Error(t, b.Update(selfwatch.Settings{Rules: map[string]selfwatch.RuleSettings{"Nope": {}}}))
		require.True(t, b.Settings().Rules["RelayLag"].Disabled)
	})
}

func TestAlertsAreToldAgainWhenTheyWereNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{}, selfwatch.Settings{}, with(func(f *selfwatch.Facts) { f.Relay = []selfwatch.Destination{{Server: "n3", Dropped: true}} }))
		require.Len(t, b.alerts(), 1)
		b.set(func(b *bench) { b.facts, b.putErr, b.put = three, errors.New("full"), nil })
		b.after(20 * time.Minute)
		require.Greater(t, b.refusals(), 70, "at each look")
		b.set(func(b *bench) { b.putErr = nil })
		b.after(16 * time.Second)
		require.NotEmpty(t, b.alerts())
		require.NotZero(t, b.alerts()[0].EndsAt)
	})
}

func TestDeadMan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{}, selfwatch.Settings{DeadMan: selfwatch.DeadMan{URL: "https://example.com/{server}/secret"}}, three)
		b.after(5 * time.Minute)
		require.InDelta(t, 5, len(b.called()), 1)
		require.Equal(t, "https://example.com/n1/secret", b.called()[0])
		// Not well: silence is the message.
		b.set(func(b *bench) { b.facts.Unwell, b.calls = errors.New("checks do not run"), nil })
		b.after(5 * time.Minute)
		require.LessOrEqual(t, len(b.called()), 1)
		require.Contains(t, fmt.Sprint(b.Parts()), "checks do not run")
		// Well again, but nobody answers.
		b.set(func(b *bench) { b.facts.Unwell, b.calls, b.status = nil, nil, 0 })
		b.after(5 * time.Minute)
		require.NotEmpty(t, b.called())
		p := b.Parts()[len(b.Parts())-1]
		require.Equal(t, "dead man's switch", p.Name)
		require.Equal(t, "warning", p.Status)
		require.Contains(t, p.Message, "connection refused")
		require.NotContains(t, p.Message, "secret")
		b.set(func(b *bench) { b.status = 503 })
		require.Contains(t, fmt.Sprint(b.after(time.Minute).Parts()), "503")
		require.Greater(t, metric(t, b.reg, "panoptes_selfwatch_dead_man_failures_total"), 4.0)
		// Turned off at once.
		require.NoError(t, b.Update(selfwatch.Settings{}))
		b.set(func(b *bench) { b.calls = nil })
		b.after(10 * time.Minute)
		require.Empty(t, b.called())
		require.Equal(t, []selfwatch.Part{{Name: "self-monitoring", Level: "L1", Status: "ok", Message: "nothing is wrong with this server"}}, b.Parts())
	})
}

func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

func TestCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{}, selfwatch.Settings{Canary: selfwatch.Canary{Receiver: "mail"}}, three)
		b.after(61 * time.Minute)
		require.Len(t, b.sent(), 6)
		for _, at := range b.sent() {
			require.Less(t, at.Sub(at.Truncate(10*time.Minute)), time.Second, "at fixed times, so that a new owner keeps the step")
		}
		require.Empty(t, b.firing())
		require.Greater(t, metric(t, b.reg, "panoptes_selfwatch_canary_last_success_timestamp_seconds"), 0.0)
		// It fails: tried again each minute, told after the interval.
		b.set(func(b *bench) { b.canary, b.canaries = errors.New("mailbox full"), nil })
		b.after(11 * time.Minute)
		require.Greater(t, len(b.sent()), 1)
		require.Empty(t, b.firing())
		b.after(3 * time.Minute)
		require.Equal(t, []string{"NoCanary all receiver=mail"}, b.firing())
		require.Contains(t, b.alerts()[0].Annotations["description"], "mailbox full")
		b.set(func(b *bench) { b.canary = nil })
		require.Empty(t, b.after(2*time.Minute).firing())
		// Somebody else owns it now.
		b.set(func(b *bench) { b.owns = false })
		b.after(2 * time.Minute)
		b.set(func(b *bench) { b.canaries = nil })
		b.after(time.Hour)
		require.Empty(t, b.sent())
		require.Empty(t, b.firing())
		// Back again: not at once, and nobody is blamed for the time between.
		b.set(func(b *bench) { b.owns = true })
		b.after(11 * time.Minute)
		require.Len(t, b.sent(), 1)
		require.Empty(t, b.firing())
	})
}

func TestSettingsNameTheirFaults(t *testing.T) {
	for in, field := range map[string]string{
		`{"rules":{"Nope":{}}}`:                                      "rules.Nope",
		`{"rules":{"HighCPU":{"threshold":101}}}`:                    "rules.HighCPU.threshold",
		`{"rules":{"ServerUnavailable":{"threshold":1}}}`:            "rules.ServerUnavailable.threshold",
		`{"rules":{"HighCPU":{"for":"25h"}}}`:                        "rules.HighCPU.for",
		`{"rules":{"HighCPU":{"severity":"bad"}}}`:                   "rules.HighCPU.severity",
		`{"dead_man":{"url":"ftp://x"}}`:                             "dead_man.url",
		`{"dead_man":{"url":"http://x","interval":"1s"}}`:            "dead_man.interval",
		`{"canary":{"receiver":"r","interval":"1s"}}`:                "canary.interval",
		`{"canary":{"receiver":"` + strings.Repeat("r", 300) + `"}}`: "canary.receiver",
		`{"rules":{"HighCPU":{"treshold":1}}}`:                       "",
		`{"dead_man":{"interval":5}}`:                                "dead_man.interval",
		`{} {}`:                                                      "",
	} {
		_, err := selfwatch.ParseSettings([]byte(in))
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, in)
		require.Equal(t, field, inv[0].Field, in)
		require.NotEmpty(t, inv[0].Msg)
	}
	for _, r := range selfwatch.Rules() {
		limit := ""
		if r.Unit != "" {
			limit = fmt.Sprintf(`,"threshold":%g`, r.Threshold)
		}
		s, err := selfwatch.ParseSettings(fmt.Appendf(nil, `{"rules":{"%s":{"for":"1m","severity":"info"%s}}}`, r.Name, limit))
		require.NoError(t, err, "the defaults of %s can be written down", r.Name)
		require.Len(t, s.Rules, 1)
		for _, s := range []string{r.Title.EN, r.Title.ZH, r.Runbook.EN, r.Runbook.ZH, r.Level, r.Severity} {
			require.NotEmpty(t, s, r.Name)
		}
	}
}

func TestMetricsAreSound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{}, selfwatch.Settings{}, with(func(f *selfwatch.Facts) {
			f.Relay = []selfwatch.Destination{{Server: "n3", Dropped: true}, {Server: "n2", Dropped: true}}
		}))
		require.EqualValues(t, 1, metric(t, b.reg, "panoptes_selfwatch_alert_firing"))
		problems, err := testutil.GatherAndLint(b.reg)
		require.NoError(t, err)
		require.Empty(t, problems)
	})
}
