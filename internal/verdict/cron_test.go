package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func TestCronNext(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	f := func(expr, after, want string) {
		t.Helper()
		sc, err := parseCron(expr)
		require.NoError(t, err)
		from, err := time.ParseInLocation("2006-01-02 15:04:05", after, berlin)
		require.NoError(t, err)
		got, ok := sc.next(from)
		require.True(t, ok)
		require.Equal(t, want, got.Format("2006-01-02 15:04 MST"), "%s after %s", expr, after)
	}
	f("0 3 * * *", "2026-01-01 03:00:00", "2026-01-02 03:00 CET")
	f("0 3 * * *", "2026-01-01 02:59:59", "2026-01-01 03:00 CET")
	f("*/15 * * * *", "2026-01-01 10:07:00", "2026-01-01 10:15 CET")
	f("30 22 * * sun", "2026-01-01 00:00:00", "2026-01-04 22:30 CET")
	f("30 22 * * 7", "2026-01-01 00:00:00", "2026-01-04 22:30 CET")
	f("0 0 1,15 * *", "2026-01-02 00:00:00", "2026-01-15 00:00 CET")
	f("0 0 13 * fri", "2026-01-03 00:00:00", "2026-01-09 00:00 CET") // either matches
	f("0 0 29 feb *", "2026-03-01 00:00:00", "2028-02-29 00:00 CET")
	f("5/20 8-9 * * mon-fri", "2026-01-02 09:30:00", "2026-01-02 09:45 CET")
	// 29 March 2026: 02:00 to 03:00 does not exist. 25 October: it comes twice.
	f("30 2 * * *", "2026-03-28 12:00:00", "2026-03-29 03:30 CEST")
	f("30 2 * * *", "2026-03-29 03:30:00", "2026-03-30 02:30 CEST")
	f("30 2 * * *", "2026-10-25 00:00:00", "2026-10-25 02:30 CEST")
	f("30 2 * * *", "2026-10-25 02:45:00", "2026-10-26 02:30 CET")
}

func TestCronRefusesNonsense(t *testing.T) {
	for _, s := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "a * * * *", "1,,2 * * * *", "+1 * * * *", "0 0 31 feb *", "- * * * *"} {
		_, err := parseCron(s)
		require.Error(t, err, s)
	}
}

func FuzzCron(f *testing.F) {
	for _, s := range []string{"0 3 * * sun", "*/5 1-3 1,2 jan-mar 1-5", "0 0 30 2 0", "59 23 31 12 7"} {
		f.Add(s)
	}
	from := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		sc, err := parseCron(s)
		if err != nil {
			return
		}
		if next, ok := sc.next(from); ok && !next.After(from) {
			t.Fatalf("%q: next after %s is %s", s, from, next)
		}
	})
}

func TestWindows(t *testing.T) {
	f := func(m model.Maintenance, at string, want bool) {
		t.Helper()
		m.Name, m.All = "m", true
		w, err := newWindow(m)
		require.NoError(t, err)
		now, err := time.Parse(time.RFC3339, at)
		require.NoError(t, err)
		require.Equal(t, want, w.active(now))
		require.Equal(t, want, w.active(now), "asking twice changes nothing")
	}
	once := model.Maintenance{Start: "2026-01-01T10:00:00Z", End: "2026-01-01T11:00:00Z"}
	f(once, "2026-01-01T09:59:59Z", false)
	f(once, "2026-01-01T10:00:00Z", true)
	f(once, "2026-01-01T11:00:00Z", false)
	night := model.Maintenance{Cron: "30 23 * * *", Duration: model.Duration(time.Hour), Timezone: "Europe/Berlin"}
	f(night, "2026-01-01T22:29:59Z", false)
	f(night, "2026-01-01T22:30:00Z", true)
	f(night, "2026-01-01T23:29:59Z", true) // over midnight
	f(night, "2026-01-01T23:30:00Z", false)
	f(night, "2026-07-01T21:30:00Z", true) // summer time
	spring := model.Maintenance{Cron: "30 2 * * *", Duration: model.Duration(time.Hour), Timezone: "Europe/Berlin"}
	f(spring, "2026-03-29T01:45:00Z", true) // the skipped hour is made up for
	night.Paused = true
	f(night, "2026-01-01T22:30:00Z", false)

	var inv model.Invalid
	require.ErrorAs(t, ValidateMaintenance(model.Maintenance{Name: "m", Cron: "x", Timezone: "Mars", Start: "soon"}), &inv)
	var fields []string
	for _, e := range inv {
		fields = append(fields, e.Field)
	}
	require.ElementsMatch(t, []string{"timezone", "checks", "start", "cron", "duration"}, fields)
}

// A window walks through a year of seconds boundaries the same way whether it
// is asked every second or only once.
func TestWindowRemembersNothingWrong(t *testing.T) {
	m := model.Maintenance{Name: "m", All: true, Cron: "0 */6 * * *", Duration: model.Duration(90 * time.Minute), Timezone: "America/New_York"}
	walking, err := newWindow(m)
	require.NoError(t, err)
	now := time.Date(2026, 3, 6, 0, 0, 0, 0, time.UTC)
	for range 5 * 24 * 12 {
		fresh, err := newWindow(m)
		require.NoError(t, err)
		require.Equal(t, fresh.active(now), walking.active(now), "at %s", now)
		now = now.Add(5 * time.Minute)
	}
}
