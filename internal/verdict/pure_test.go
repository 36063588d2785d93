package verdict_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPolicyDecides(t *testing.T) {
	f := func(policy string, failing, missing, total float64, want model.Status) {
		t.Helper()
		p, err := verdict.ParsePolicy(policy)
		require.NoError(t, err)
		require.Equal(t, want, p.Decide(verdict.Tally{Total: total, Failing: failing, Missing: missing}), "%s: %v of %v fail, %v missing", policy, failing, total, missing)
	}
	const up, down, degraded, unknown = model.StatusUp, model.StatusDown, model.StatusDegraded, model.StatusUnknown
	f("", 2, 0, 3, down)
	f("majority", 1, 0, 3, degraded)
	f("majority", 1, 0, 2, degraded) // half is no majority
	f("majority", 1, 1, 3, unknown)
	f("majority", 0, 1, 3, up)
	f("majority", 0, 2, 3, unknown)
	f("majority", 0, 0, 0, unknown)
	f("any", 1, 2, 3, down)
	f("any", 0, 1, 3, unknown)
	f("all", 2, 0, 3, degraded)
	f("all", 3, 0, 3, down)
	f("all", 0, 2, 3, up)
	f("2", 2, 0, 5, down)
	f("2", 1, 0, 5, degraded)
	f("3", 2, 0, 2, down) // no more than there are
	f("60%", 3, 0, 5, down)
	f("60%", 2, 0, 5, degraded)
	f("eu=2,us=1>=2", 2, 0, 3, down)
	f("eu=2,us=1>=2", 1, 0, 3, degraded)
	f("eu=2,us=1", 1.5, 0, 3, degraded)
}

func TestPolicyRefusesNonsense(t *testing.T) {
	for _, s := range []string{"most", "0", "-1", "1001", "0%", "101%", "NaN%", "eu", "eu=", "=2", "eu=-1", "eu=NaN", "eu=1,eu=2", "eu=0", "eu=1>=0", "eu=1>=x", "eu=1,,us=1"} {
		_, err := verdict.ParsePolicy(s)
		var fe *model.FieldError
		require.ErrorAs(t, err, &fe, s)
		require.Equal(t, "policy", fe.Field)
	}
}

func FuzzParsePolicy(f *testing.F) {
	for _, s := range []string{"majority", "60%", "2", "eu=2,us=1>=2", "eu=1e400", ">=", "=%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := verdict.ParsePolicy(s)
		if err != nil {
			return
		}
		if got := p.Decide(verdict.Tally{Total: 3, Failing: 3}); got != model.StatusDown {
			t.Fatalf("policy %q: all fail and it says %s", s, got)
		}
		if got := p.Decide(verdict.Tally{Total: 3}); got != model.StatusUp {
			t.Fatalf("policy %q: none fails and it says %s", s, got)
		}
	})
}

// Missing votes never make a decision that the votes themselves could not: any
// way of filling them in agrees with it.
func TestMissingVotesNeverDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := verdict.ParsePolicy(rapid.SampledFrom([]string{"majority", "any", "all", "2", "3", "50%", "34%", "eu=2>=2", "eu=3"}).Draw(t, "policy"))
		require.NoError(t, err)
		total := rapid.IntRange(1, 7).Draw(t, "total")
		failing := rapid.IntRange(0, total).Draw(t, "failing")
		missing := rapid.IntRange(0, total-failing).Draw(t, "missing")
		got := p.Decide(verdict.Tally{Total: float64(total), Failing: float64(failing), Missing: float64(missing)})
		later := rapid.IntRange(0, missing).Draw(t, "later failing")
		full := p.Decide(verdict.Tally{Total: float64(total), Failing: float64(failing + later)})
		if got == model.StatusDown {
			require.Equal(t, model.StatusDown, full)
		}
		if got == model.StatusUp || got == model.StatusDegraded {
			require.NotEqual(t, model.StatusDown, full)
		}
	})
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(minutes int, to model.Status) verdict.Transition {
	return verdict.Transition{At: epoch.Add(time.Duration(minutes) * time.Minute), To: to}
}

func TestUptimeIsWeighedByTime(t *testing.T) {
	u := verdict.Uptime([]verdict.Transition{at(-10, model.StatusUp), at(30, model.StatusDown), at(35, model.StatusDown), at(36, model.StatusUp), at(40, model.StatusMaintenance), at(50, model.StatusDegraded)},
		epoch, epoch.Add(time.Hour))
	require.Equal(t, 34*60.0, u.Up)
	require.Equal(t, 6*60.0, u.Down)
	require.Equal(t, 600.0, u.Degraded)
	require.Equal(t, 600.0, u.Maintenance)
	require.Equal(t, 1, u.Outages)
	require.InDelta(t, 44.0/50, *u.Uptime, 1e-9)

	u = verdict.Uptime(nil, epoch, epoch.Add(time.Hour))
	require.Equal(t, 3600.0, u.None)
	require.Nil(t, u.Uptime)
}

func TestSharesAndBarsSumToTheWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := append([]model.Status{"later"}, model.Statuses...)
		trs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) verdict.Transition {
			return at(rapid.IntRange(-100, 200).Draw(t, "minute"), rapid.SampledFrom(all).Draw(t, "to"))
		}), 0, 20).Draw(t, "transitions")
		from, to := epoch, epoch.Add(time.Duration(rapid.IntRange(1, 6000).Draw(t, "seconds"))*time.Second)
		u := verdict.Uptime(trs, from, to)
		sum := u.Up + u.Down + u.Degraded + u.Unknown + u.Maintenance + u.Paused + u.Pending + u.None
		require.InDelta(t, to.Sub(from).Seconds(), sum, 1e-6)

		n := rapid.IntRange(1, 90).Draw(t, "n")
		bars := verdict.Bars(trs, from, to, n)
		require.Len(t, bars, n)
		down := 0.0
		for i, b := range bars {
			down += b.Down
			if i > 0 {
				require.Equal(t, bars[i-1].To, b.From)
			}
			require.Equal(t, b.Down > 0, b.Status == model.StatusDown)
		}
		require.Equal(t, from, bars[0].From)
		require.Equal(t, to, bars[n-1].To)
		require.InDelta(t, u.Down, down, 1e-6)
	})
}

func TestBarsOfAYearDoNotOverflow(t *testing.T) {
	bars := verdict.Bars([]verdict.Transition{at(0, model.StatusUp)}, epoch, epoch.AddDate(5, 0, 0), 1000)
	require.Len(t, bars, 1000)
	require.Equal(t, epoch.AddDate(5, 0, 0), bars[999].To)
	require.Nil(t, verdict.Bars(nil, epoch, epoch, 10))
	require.Nil(t, verdict.Bars(nil, epoch, epoch.Add(1), -math.MaxInt32))
}
