package verdict

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// schedule is a cron expression of five fields; each is a set of bits.
type schedule struct {
	minute, hour, day, month, weekday uint64
	// With both restricted, a day matches when either does, as cron has it.
	anyDay, anyWeekday bool
}

var cronFields = []struct {
	name     string
	min, max int
	names    []string
}{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day", 1, 31, nil},
	{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{"weekday", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// parseCron reads "minute hour day month weekday" with *, lists, ranges, steps
// and English names of months and weekdays (0 and 7 are Sunday).
func parseCron(s string) (schedule, error) {
	fields := strings.Fields(s)
	if len(fields) != 5 || len(s) > 256 {
		return schedule{}, fmt.Errorf("%q must have five fields: minute hour day month weekday, for example \"0 3 * * sun\"", s)
	}
	var sets [5]uint64
	for i, f := range fields {
		set, err := parseCronField(strings.ToLower(f), i)
		if err != nil {
			return schedule{}, err
		}
		sets[i] = set
	}
	sc := schedule{
		minute: sets[0], hour: sets[1], day: sets[2], month: sets[3], weekday: sets[4] | sets[4]>>7&1,
		anyDay: strings.HasPrefix(fields[2], "*"), anyWeekday: strings.HasPrefix(fields[4], "*"),
	}
	if sc.anyWeekday && !sc.possible() {
		return schedule{}, fmt.Errorf("%q never happens: none of the months has such a day", s)
	}
	return sc, nil
}

func parseCronField(f string, i int) (set uint64, err error) {
	def := cronFields[i]
	bad := func(part string) error {
		return fmt.Errorf("%s %q must be *, a number from %d to %d, a range such as %d-%d, a step such as */2, or a list of those",
			def.name, part, def.min, def.max, def.min, def.min+2)
	}
	number := func(s string) (int, bool) {
		for k, n := range def.names {
			if s == n {
				return k + def.min, true
			}
		}
		n, err := strconv.Atoi(s)
		return n, err == nil && n >= def.min && n <= def.max && s[0] != '+'
	}
	for part := range strings.SplitSeq(f, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > def.max {
				return 0, bad(part)
			}
		}
		lo, hi := def.min, def.max
		if span != "*" {
			a, b, ranged := strings.Cut(span, "-")
			var ok bool
			if lo, ok = number(a); !ok {
				return 0, bad(part)
			}
			switch {
			case ranged:
				if hi, ok = number(b); !ok || hi < lo {
					return 0, bad(part)
				}
			case !stepped:
				hi = lo
			}
		}
		for v := lo; v <= hi; v += step {
			set |= 1 << v
		}
	}
	return set, nil
}

func (sc schedule) possible() bool {
	longest := [13]int{1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}
	for m := 1; m <= 12; m++ {
		if sc.month>>m&1 == 1 && bits.TrailingZeros64(sc.day) <= longest[m] {
			return true
		}
	}
	return false
}

func (sc schedule) matchesDay(t time.Time) bool {
	if sc.month>>int(t.Month())&1 == 0 {
		return false
	}
	day := sc.day>>t.Day()&1 == 1
	weekday := sc.weekday>>int(t.Weekday())&1 == 1
	if sc.anyDay || sc.anyWeekday {
		return day && weekday
	}
	return day || weekday
}

// next returns the first time after t, in t's location; false when there is
// none within nine years (29 February can be eight years away). An hour that is
// skipped in spring is made up for right after it; one that comes twice in
// autumn counts once.
func (sc schedule) next(t time.Time) (time.Time, bool) {
	loc := t.Location()
	// From the day before: a skipped hour may move past midnight.
	date := time.Date(t.Year(), t.Month(), t.Day()-1, 12, 0, 0, 0, loc)
	for range 9*366 + 1 {
		if sc.matchesDay(date) {
			if best, ok := sc.nextOn(date, t); ok {
				return best, true
			}
		}
		date = time.Date(date.Year(), date.Month(), date.Day()+1, 12, 0, 0, 0, loc)
	}
	return time.Time{}, false
}

// nextOn looks at one day. It takes the least of all times, since the change of
// the clock can turn their order round.
func (sc schedule) nextOn(date, after time.Time) (best time.Time, found bool) {
	for h := range 24 {
		if sc.hour>>h&1 == 0 {
			continue
		}
		for set := sc.minute; set != 0; set &= set - 1 {
			c := time.Date(date.Year(), date.Month(), date.Day(), h, bits.TrailingZeros64(set), 0, 0, date.Location())
			// Of a time that comes twice the first counts; time.Date may give either.
			for _, shift := range []time.Duration{time.Hour, 30 * time.Minute} {
				if e := c.Add(-shift); e.Hour() == c.Hour() && e.Minute() == c.Minute() {
					c = e
				}
			}
			if c.After(after) && (!found || c.Before(best)) {
				best, found = c, true
			}
		}
	}
	return best, found
}
