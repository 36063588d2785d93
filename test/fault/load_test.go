//go:build fault && linux

package fault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// load is everything that goes on while a row breaks things.
type load struct {
	c       *cluster
	samples *samples
	records *records
	began   time.Time
	ended   time.Time
	stop    func() // ends the writers; what is under way is repeated until acknowledged
	giveUp  context.CancelFunc
	use     map[*process]usage // of each process when the load began to run
}

// startLoad applies the row's checks, starts the writers, and returns when all
// of them got some acknowledgements and all checks are up.
func (c *cluster) startLoad() *load {
	c.t.Helper()
	n := c.someone()
	c.wait(30*time.Second, "records are not taken", func() error {
		return n.call(http.MethodPost, "/v1/apply", map[string]any{"documents": c.set.documents()}, nil)
	})
	ctx, stop := context.WithCancel(context.Background())
	hard, giveUp := context.WithCancel(context.Background())
	l := &load{c: c, began: time.Now(), stop: stop, giveUp: giveUp}
	var err error
	l.samples, err = startSamples(ctx, hard, c)
	require.NoError(c.t, err)
	l.records, err = startRecords(ctx, hard, c)
	require.NoError(c.t, err)
	c.t.Cleanup(func() {
		stop()
		giveUp()
		l.samples.wg.Wait()
		l.records.wg.Wait()
	})
	c.wait(60*time.Second, "the load does not run", func() error {
		for _, n := range c.members() {
			if err := c.allUp(n); err != nil {
				return err
			}
		}
		if _, fewest := l.samples.acked(); fewest < 20 {
			return fmt.Errorf("a writer has %d batches acknowledged, the first answer: %s", fewest, l.refusal())
		}
		if n := l.records.acked(); options.writes > 0 && n < 100 {
			return fmt.Errorf("%d changes acknowledged: %s", n, l.refusal())
		}
		return nil
	})
	l.began = time.Now()
	l.use = map[*process]usage{}
	for _, n := range c.members() {
		if u, err := n.usage(); err == nil {
			l.use[n.proc] = u
		}
	}
	c.note("load runs")
	return l
}

func (l *load) refusal() string {
	for w := range l.samples.writers {
		if r := l.samples.writers[w].refused; r != "" {
			return r
		}
	}
	for w := range l.records.writers {
		if r := l.records.writers[w].refused; r != "" {
			return r
		}
	}
	return ""
}

// allUp asks one server whether it holds all checks of the row for up.
func (c *cluster) allUp(n *node) error {
	for i := 1; i <= c.set.checks; i++ {
		if s, err := n.status(checkName(i)); err != nil || s.Status != "up" {
			return fmt.Errorf("%s: %s is %+v (%v)", n.name, checkName(i), s, err)
		}
	}
	return nil
}

// checkState is the state of a check as a server shows it.
type checkState struct {
	Status, Message string
	Regions         map[string]struct{ Status string }
}

func (n *node) status(check string) (checkState, error) {
	var answer struct{ State checkState }
	err := n.get("/v1/checks/"+check, &answer)
	return answer.State, err
}

// more waits until every writer got n more acknowledgements.
func (l *load) more(n int, limit time.Duration) {
	l.c.t.Helper()
	_, before := l.samples.acked()
	records := l.records.acked()
	l.c.wait(limit, "writers do not get on", func() error {
		_, now := l.samples.acked()
		if now < before+n || options.writes > 0 && l.records.acked() < records+n {
			return fmt.Errorf("%d more batches, %d more changes: %s", now-before, l.records.acked()-records, l.refusal())
		}
		return nil
	})
}

// expect is what a row allows.
type expect struct {
	down      []string      // checks whose targets were broken: of them and no others people are told that they are down
	sampleGap time.Duration // longest time a writer of samples may wait; 0: not looked at
	recordGap time.Duration // the same for configuration
	checkGap  time.Duration // longest time no one may have run a check
	from      time.Time     // when the fault ended; recovery is counted from here
}

// quiesce ends the writers. What is under way is repeated until it is
// acknowledged, for a minute.
func (l *load) quiesce() {
	l.stop()
	release := time.AfterFunc(60*time.Second, l.giveUp)
	l.samples.wg.Wait()
	l.records.wg.Wait()
	release.Stop()
}

// askSample is what it takes to ask three servers on two processors for one
// sample, and to have them compare it, at most.
const askSample = 10 * time.Microsecond

// verify ends the load and asks every server for everything that was
// acknowledged; all must agree within a minute, and what the asking itself takes.
func (l *load) verify(e expect) {
	t, c := l.c.t, l.c
	t.Helper()
	if e.from.IsZero() {
		e.from = time.Now()
	}
	l.quiesce()
	l.ended = time.Now()
	c.note("load ended; asking every server")
	res := result{row: c.row, seed: c.seed}
	many, _ := l.samples.acked()
	deadline := time.Now().Add(60*time.Second + time.Duration(many)*askSample)
	var faults []error
	last := ""
	for first := true; first || time.Now().Before(deadline); first = false {
		faults = nil
		res.lostSamples, res.lostRecords, res.lostEvents = 0, 0, 0
		for _, n := range c.members() {
			lost, err := l.samples.lost(n)
			res.lostSamples += lost
			faults = append(faults, err)
			lostRecords, lostEvents, err := l.records.lost(n)
			res.lostRecords += lostRecords
			res.lostEvents += lostEvents
			faults = append(faults, err)
		}
		if errors.Join(faults...) == nil {
			faults = append(faults, c.equal())
		}
		err := errors.Join(faults...)
		if err == nil {
			break
		}
		if text := clip([]byte(err.Error())); text != last {
			c.note("not yet: %s", text)
			last = text
		}
		c.hold(500 * time.Millisecond)
	}
	res.recovery = time.Since(e.from)
	if err := errors.Join(faults...); err != nil {
		t.Errorf("%s after the fault ended the servers still differ: %s", res.recovery.Round(time.Second), err)
	}
	res.samples, _ = l.samples.acked()
	res.records = l.records.acked()
	var at, samplesAt, recordsAt, checksAt time.Time
	res.sampleGap, at = l.samples.gap()
	samplesAt = at
	c.note("longest wait of a writer of samples %s, from %s", res.sampleGap.Round(time.Millisecond), c.since(at))
	res.recordGap, at = l.records.gap()
	recordsAt = at
	c.note("longest wait of a writer of records %s, from %s", res.recordGap.Round(time.Millisecond), c.since(at))
	var worst string
	var err error
	if res.checkGap, checksAt, worst, err = l.checkGap(); err != nil {
		t.Errorf("gaps of checks: %s", err)
	}
	c.note("longest time without a run of a check %s (%s)", res.checkGap.Round(time.Millisecond), worst)
	var names map[string]int
	res.sent, res.repeated, names = c.world.tally()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c.note("notified: %s: %d", name, names[name])
	}
	l.growth()
	limit := func(what string, at time.Time, got, want time.Duration) {
		if still := c.still.Between(at, at.Add(got)); want > 0 && got > want && still > 0 {
			c.note("%s: the machine stood still for %s of it", what, still.Round(time.Millisecond))
			got -= still
		}
		if want > 0 && got > want {
			t.Errorf("%s: %s, allowed are %s", what, got.Round(time.Millisecond), want)
		}
	}
	limit("longest wait of a writer of samples", samplesAt, res.sampleGap, e.sampleGap)
	limit("longest wait of a writer of records", recordsAt, res.recordGap, e.recordGap)
	limit("longest time without a run of a check", checksAt, res.checkGap, e.checkGap)
	c.told(e.down)
	res.passed = !t.Failed()
	results.add(res)
	t.Log(res.line())
}

// told checks that of each broken target somebody was told, and of no other.
func (c *cluster) told(down []string) {
	c.t.Helper()
	broken := map[string]bool{}
	for _, name := range down {
		broken[name] = true
		if len(c.world.got("CheckDown", "firing", name)) == 0 {
			c.t.Errorf("missed: nobody was told that %s is down", name)
		}
	}
	wrong := map[string]int{}
	for _, d := range c.world.got("CheckDown", "firing", "") {
		if !broken[d.Labels["check"]] {
			wrong[d.Labels["check"]]++
		}
	}
	if len(wrong) > 0 {
		c.t.Errorf("told that targets are down that are not: %v", wrong)
	}
}

func (c *cluster) since(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%.2fs", t.Sub(c.began).Seconds())
}

// equal asks the servers to compare their stores.
func (c *cluster) equal() error {
	if options.nodigest || !strings.Contains(c.flags, "--join") || len(c.members()) < 2 {
		return nil
	}
	for _, n := range c.members() {
		var answer struct {
			Windows, Mismatches, Repaired int
			Seconds                       float64
		}
		patient := newClient(n.url, 5*time.Minute)
		if err := patient.call(http.MethodPost, "/v1/cluster/check", nil, &answer); err != nil {
			return err
		}
		if answer.Windows == 0 || answer.Mismatches > 0 {
			return fmt.Errorf("%s compared its store: %+v", n.name, answer)
		}
	}
	return nil
}

// checkGap is the longest time in which nobody ran one of the checks, from the
// start of the load to its end.
func (l *load) checkGap() (longest time.Duration, from time.Time, worst string, err error) {
	if l.c.set.checks == 0 {
		return 0, time.Time{}, "no checks", nil
	}
	window := int(l.ended.Sub(l.began).Seconds()) + 5
	n := l.c.someone()
	list, err := n.query(fmt.Sprintf(`probe_success{check=~"target-.*"}[%ds]`, window), l.ended)
	if err != nil {
		return 0, time.Time{}, "", err
	}
	times := map[string][]int64{}
	for _, s := range list {
		for _, p := range s.points {
			times[s.labels["check"]] = append(times[s.labels["check"]], p.ms)
		}
	}
	for i := 1; i <= l.c.set.checks; i++ {
		name := checkName(i)
		at := append(times[name], l.began.UnixMilli(), l.ended.UnixMilli())
		slices.Sort(at)
		for k := 1; k < len(at); k++ {
			if at[k-1] < l.began.UnixMilli() {
				continue
			}
			if d := time.Duration(at[k]-at[k-1]) * time.Millisecond; d > longest {
				longest, from = d, time.UnixMilli(at[k-1])
				worst = fmt.Sprintf("%s from %s", name, l.c.since(from))
			}
		}
	}
	return longest, from, worst, nil
}
