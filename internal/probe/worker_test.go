package probe_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// fake is a kind whose runs take the time in the target.
type fake struct {
	fail *sync.Map // ids that fail
	runs func(id string)
}

func (fake) Name() string          { return "fake" }
func (fake) Schema() []probe.Field { return nil }
func (fake) About() probe.About    { return probe.About{} }
func (f fake) Compile(c *model.Check, _ *probe.Env) (probe.Probe, error) {
	d, err := time.ParseDuration(c.Target)
	if err != nil {
		d = 0
	}
	return fakeProbe{f, c.ID, d}, nil
}

type fakeProbe struct {
	f    fake
	id   string
	wait time.Duration
}

func (p fakeProbe) Run(ctx context.Context) probe.Outcome {
	if p.f.runs != nil {
		p.f.runs(p.id)
	}
	if p.wait > 0 {
		select {
		case <-time.After(p.wait):
		case <-ctx.Done():
			return probe.Outcome{Message: "timed out"}
		}
	}
	if p.f.fail != nil {
		if _, bad := p.f.fail.Load(p.id); bad {
			return probe.Outcome{Message: "bad"}
		}
	}
	return probe.Outcome{Success: true, Message: "ok"}
}

type sink struct {
	mu  sync.Mutex
	got []model.Result
}

func (s *sink) Result(r model.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r)
}

func (s *sink) all() []model.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]model.Result(nil), s.got...)
}

func (s *sink) of(id string) (out []model.Result) {
	for _, r := range s.all() {
		if r.CheckID == id {
			out = append(out, r)
		}
	}
	return out
}

func check(id, target string, interval time.Duration) model.Check {
	c := model.Check{ID: id, Name: "n" + id, Type: "fake", Target: target, Interval: model.Duration(interval), Timeout: model.Duration(interval)}
	c.Default()
	return c
}

func start(t *testing.T, k fake, s *sink) *probe.Worker {
	w, err := probe.NewWorker(probe.WorkerConfig{Node: "n1", Region: "eu"}, probe.WorkerDeps{Kinds: []probe.Kind{k}, Sink: s})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return w
}

func TestTenThousandChecksAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		w := start(t, fake{}, s)
		var list []model.Check
		for i := range 10000 {
			list = append(list, check(fmt.Sprintf("c%05d", i), "", 20*time.Second))
		}
		begin := time.Now()
		w.Update(list)
		time.Sleep(60 * time.Second) // fake time
		synctest.Wait()
		perSecond := make([]int, 61)
		for _, r := range s.all() {
			perSecond[int(r.Start.Sub(begin)/time.Second)]++
		}
		total := 0
		for i, n := range perSecond[:60] {
			total += n
			require.Less(t, n, 1000, "second %d", i)
			require.Greater(t, n, 250, "second %d", i)
		}
		require.InDelta(t, 30000, total, 600)
	})
}

func TestSlowChecksDelayNobodyAndNeverOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		var mu sync.Mutex
		started := map[string]int{}
		w := start(t, fake{runs: func(id string) { mu.Lock(); started[id]++; mu.Unlock() }}, s)
		var list []model.Check
		for i := range 200 {
			list = append(list, check(fmt.Sprintf("slow%d", i), "1h", 10*time.Second))
		}
		list = append(list, check("quick", "", 10*time.Second))
		w.Update(list)
		time.Sleep(100 * time.Second)
		synctest.Wait()
		require.GreaterOrEqual(t, len(s.of("quick")), 9)
		mu.Lock()
		defer mu.Unlock()
		// A run lasts its whole interval: it may end just when the next is due.
		require.GreaterOrEqual(t, started["slow7"], 4)
		require.LessOrEqual(t, started["slow7"], 10)
		q := s.of("quick")
		for i := 1; i < len(q); i++ {
			require.Equal(t, 10*time.Second, q[i].Start.Sub(q[i-1].Start).Round(time.Millisecond))
		}
	})
}

func TestUpdateKeepsPhasesAndRunsNewChecksPromptly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		w := start(t, fake{}, s)
		a, b := check("a", "", time.Minute), check("b", "", time.Minute)
		w.Update([]model.Check{a})
		for range 20 {
			time.Sleep(17 * time.Second)
			a.Revision++
			w.Update([]model.Check{a})
		}
		synctest.Wait()
		runs := s.of("a")
		require.GreaterOrEqual(t, len(runs), 5)
		for i := 1; i < len(runs); i++ {
			require.Equal(t, time.Minute, runs[i].Start.Sub(runs[i-1].Start).Round(time.Millisecond))
		}
		w.Update([]model.Check{a, b})
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, s.of("b"), 1)

		n := len(s.of("a"))
		w.Update([]model.Check{b})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Len(t, s.of("a"), n)
		b.Paused = true
		w.Update([]model.Check{b})
		n = len(s.of("b"))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Len(t, s.of("b"), n)
	})
}

func TestRunNowAndTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		w := start(t, fake{}, s)
		w.Update([]model.Check{check("a", "", time.Hour)})
		r, err := w.RunNow(t.Context(), "a")
		require.NoError(t, err)
		require.True(t, r.Success)
		require.True(t, r.Confirm)
		require.Equal(t, "eu", r.Region)
		require.Equal(t, "n1", r.Prober)
		require.Len(t, r.Samples, 2)
		_, err = w.RunNow(t.Context(), "zzz")
		require.ErrorIs(t, err, model.ErrNotFound)
		_, err = w.Test(t.Context(), model.Check{Name: "x", Type: "nope"})
		require.True(t, probe.IsInvalid(err))
		r, err = w.Test(t.Context(), check("", "1ms", time.Second))
		require.NoError(t, err)
		require.True(t, r.Success)
	})
}

func TestGuardAbstainsWhenMostTurnRedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		var fail sync.Map
		w := start(t, fake{fail: &fail}, s)
		var list []model.Check
		for i := range 20 {
			list = append(list, check(fmt.Sprintf("c%d", i), fmt.Sprintf("host%d", i), 5*time.Second))
		}
		w.Update(list)
		time.Sleep(20 * time.Second)
		fail.Store("c3", true) // one failure is no reason
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, r := range s.all() {
			require.False(t, r.Abstain)
		}
		for i := range 20 {
			fail.Store(fmt.Sprintf("c%d", i), true)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		last := s.of("c9")
		require.True(t, last[len(last)-1].Abstain)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		last = s.of("c9")
		require.False(t, last[len(last)-1].Abstain, "it must not hold its tongue for good")
	})
}

func TestStamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, fake{}, &sink{})
		c := check("a", "", time.Hour)
		c.Labels = map[string]string{"team": "web"}
		w.Update([]model.Check{c})
		r, err := w.RunNow(t.Context(), "a")
		require.NoError(t, err)
		b := probe.Stamp(r, c)
		require.Equal(t, `{__name__="probe_success", check="na", prober="n1", region="eu", team="web"}`, b[0].Labels.String())
		require.EqualValues(t, 1, b[0].V)
		require.Equal(t, r.Start.UnixMilli(), b[0].T)
	})
}

func TestDialerRefuses(t *testing.T) {
	f := func(p probe.Policy, addr string, ok bool) {
		t.Helper()
		err := probe.NewDialer(p).CheckAddrPort(netip.MustParseAddrPort(addr))
		require.Equal(t, ok, err == nil, "%s: %v", addr, err)
		if err != nil {
			var re *probe.RefusedError
			require.True(t, errors.As(err, &re))
		}
	}
	open := probe.Policy{AllowLoopback: true, AllowPrivate: true, DenyPorts: []int{9701}}
	for _, a := range []string{"169.254.169.254:80", "[fe80::1]:80", "[fd00:ec2::254]:80", "100.100.100.200:80", "168.63.129.16:80", "0.0.0.0:80", "0.1.2.3:80", "224.0.0.1:80",
		"[ff02::1]:80", "[::]:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80", "255.255.255.255:80", "127.0.0.1:9701", "[::1]:9701"} {
		f(open, a, false)
	}
	f(open, "127.0.0.1:80", true)
	f(open, "10.0.0.1:9701", true)
	f(open, "192.168.1.1:80", true)
	f(probe.Policy{}, "127.0.0.1:80", false)
	f(probe.Policy{}, "[::1]:80", false)
	f(probe.Policy{}, "10.0.0.1:80", false)
	f(probe.Policy{}, "192.0.2.1:80", true)
	f(probe.Policy{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "198.51.100.1:80", false)
	f(probe.Policy{Deny: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "192.0.2.1:80", false)
	_, err := probe.NewDialer(probe.Policy{}).DialContext(t.Context(), "tcp", "127.0.0.1:1")
	require.ErrorContains(t, err, "127.0.0.1")
	require.ErrorContains(t, err, "allow loopback")
	_, err = probe.NewDialer(open).DialContext(t.Context(), "udp", "169.254.169.254:53")
	require.ErrorContains(t, err, "refused")
}
