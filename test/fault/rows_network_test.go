//go:build fault && linux

package fault

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// heard says nil when at least want deliveries of an alert have arrived.
func (c *cluster) heard(alertname, status, check string, want int) error {
	if got := c.world.got(alertname, status, check); len(got) < want {
		return fmt.Errorf("%s %s of %q arrived %d times, want %d", alertname, status, check, len(got), want)
	}
	return nil
}

// refusesChanges checks that a server without a majority answers 503 with a reason.
func (n *node) refusesChanges() error {
	code, body, err := n.do(http.MethodPost, "/v1/checks", map[string]any{"name": "refused", "type": "tcp", "target": "192.0.2.1:1", "paused": true})
	if err != nil {
		return err
	}
	if code != http.StatusServiceUnavailable || len(body) < 40 {
		return fmt.Errorf("%s answered %d %s to a change, want 503 with a reason", n.name, code, clip(body))
	}
	return nil
}

// watches checks that a server sees fresh runs of its own checks.
func (n *node) watches() error {
	list, err := n.query(fmt.Sprintf(`count(count_over_time(probe_success{region=%q}[10s]))`, n.region), time.Now())
	if err != nil {
		return err
	}
	if len(list) == 0 || int(list[0].points[0].value) < n.c.set.checks {
		return fmt.Errorf("%s does not see fresh runs of its %d checks: %v", n.name, n.c.set.checks, list)
	}
	return nil
}

// takes checks that a server takes samples itself.
func (n *node) takes() error {
	s := samples{perSeries: 1}
	code, body, err := n.do(http.MethodPost, "/api/v1/write", s.encodeAs("taken", 0, batch{first: time.Now().UnixMilli()}),
		"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "0.1.0")
	if err == nil && code/100 != 2 {
		err = fmt.Errorf("%s answered %d %s to samples", n.name, code, clip(body))
	}
	return err
}

// The network is cut in two: both sides watch, store and warn, the smaller one
// refuses changes, and afterwards all have everything.
func TestSplit(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	alone := c.pick()
	heal := c.split(alone)
	cut := time.Now()
	c.wait(10*time.Second, "the split is not named", func() error {
		for _, n := range c.nodes {
			var v clusterView
			if err := n.get("/v1/cluster", &v); err != nil {
				return err
			}
			if !v.Split || n == alone && (v.Writable || v.Reason == "") {
				return fmt.Errorf("%s says %+v", n.name, v)
			}
		}
		return nil
	})
	c.note("the split is named after %s", time.Since(cut).Round(10*time.Millisecond))
	require.NoError(t, alone.refusesChanges())
	for _, n := range c.nodes {
		c.wait(15*time.Second, "does not watch", n.watches)
		c.wait(15*time.Second, "takes no samples", n.takes)
	}
	c.hold(lasts(30*time.Second, 5*time.Minute) - time.Since(cut))
	for _, n := range c.nodes {
		require.NoError(t, n.watches())
		require.NoError(t, n.takes())
	}
	heal()
	from := time.Now()
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	l.verify(expect{from: from, sampleGap: sampleLimit + clientPatience, recordGap: recordLimit + 2*clientPatience, checkGap: checkLimit})
}

// leaders counts how often the leader changed, until stop.
func (c *cluster) leaders() (stop func() int) {
	quit, done := make(chan struct{}), make(chan int)
	go func() {
		last, changes := "", 0
		for {
			for _, n := range c.members() {
				var v clusterView
				if n.get("/v1/cluster", &v) == nil && v.Leader != "" {
					if last != "" && v.Leader != last {
						changes++
					}
					last = v.Leader
					break
				}
			}
			select {
			case <-quit:
				done <- changes
				return
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
	return func() int { close(quit); return <-done }
}

// What one server sends to another is lost.
func TestOneWay(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	from, to := c.pick(), c.pick()
	for to == from {
		to = c.pick()
	}
	count := c.leaders()
	c.note("cut %s -> %s", from.name, to.name)
	c.net.CutOneWay(addresses(from), addresses(to))
	c.hold(lasts(20*time.Second, 60*time.Second))
	c.net.HealOneWay(addresses(from), addresses(to))
	healed := time.Now()
	c.note("healed")
	c.waitWhole(60 * time.Second)
	changes := count()
	c.note("%d changes of leader", changes)
	require.LessOrEqual(t, changes, 4)
	l.more(20, 30*time.Second)
	l.verify(expect{from: healed, sampleGap: 2 * sampleLimit, recordGap: 2*recordLimit + 2*clientPatience, checkGap: 10 * time.Second})
}

// A link goes and comes every two seconds.
func TestFlap(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	a := c.pick()
	count := c.leaders()
	begin := time.Now()
	length := lasts(30*time.Second, 3*time.Minute)
	for time.Since(begin) < length {
		heal := c.split(a)
		c.hold(2 * time.Second)
		heal()
		c.hold(2 * time.Second)
	}
	healed := time.Now()
	c.waitWhole(60 * time.Second)
	changes := count()
	c.note("%d changes of leader in %s", changes, length)
	require.LessOrEqual(t, float64(changes), 3*length.Minutes()+2)
	l.more(20, 30*time.Second)
	l.verify(expect{from: healed, sampleGap: 2 * sampleLimit, recordGap: 2*recordLimit + 2*clientPatience, checkGap: 10 * time.Second})
}

// A region loses its uplink: nothing else is called down, and people are told
// once that the region is impaired.
func TestRegionUplink(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 100, every: "5s"})
	l := c.startLoad()
	n := c.nodes[2]
	c.note("uplink of %s (%s) cut", n.region, n.name)
	a, b := addresses(n), append(addresses(c.others(n)...), harness.World)
	c.net.Cut(a, b)
	cut := time.Now()
	impaired := func() []delivery {
		c.world.mu.Lock()
		defer c.world.mu.Unlock()
		var out []delivery
		for _, d := range c.world.deliveries {
			if d.Status == "firing" && d.Labels["alertname"] == "RegionImpaired" && d.Labels["region"] == n.region {
				out = append(out, d)
			}
		}
		return out
	}
	c.wait(60*time.Second, "nobody was told that the region is impaired", func() error {
		if len(impaired()) == 0 {
			_, _, names := c.world.tally()
			return fmt.Errorf("notified so far: %v", names)
		}
		return nil
	})
	c.note("told that the region is impaired after %s", time.Since(cut).Round(100*time.Millisecond))
	c.hold(lasts(30*time.Second, 3*time.Minute) - time.Since(cut))
	c.net.Heal(a, b)
	healed := time.Now()
	c.note("healed")
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	c.wait(30*time.Second, "checks are not up", func() error {
		for _, m := range c.nodes {
			if err := c.allUp(m); err != nil {
				return err
			}
		}
		return nil
	})
	require.Len(t, impaired(), 1, "told once that the region is impaired: %v", impaired())
	l.verify(expect{from: healed, checkGap: 10*time.Second + checkLimit})
}

// A target cannot be reached from one region: that is degraded and names the
// region; by policy any it is down.
func TestDownInOneRegion(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 5, every: "2s"})
	l := c.startLoad()
	const strict = "strict"
	require.NoError(t, c.nodes[0].call(http.MethodPost, "/v1/checks", map[string]any{"name": strict, "type": "http", "target": "http://" + targetAddr(50) + ":" + worldPort + "/",
		"interval": "2s", "timeout": "1s", "policy": "any"}, nil))
	state := func(check, want, region string) func() error {
		return func() error {
			for _, n := range c.nodes {
				s, err := n.status(check)
				if err != nil {
					return err
				}
				if s.Status != want || region != "" && (s.Regions[region].Status != "down" || !strings.Contains(s.Message, region)) {
					return fmt.Errorf("%s holds %s for %+v", n.name, check, s)
				}
			}
			return nil
		}
	}
	c.wait(20*time.Second, "not up", state(strict, "up", ""))
	n := c.nodes[2]
	c.note("cut %s | %s and %s", n.name, checkName(1), strict)
	c.net.Cut(addresses(n), []string{targetAddr(1), targetAddr(50)})
	took := c.wait(15*time.Second, "not degraded", state(checkName(1), "degraded", n.region))
	c.note("degraded, naming the region, on all servers after %s", took.Round(10*time.Millisecond))
	c.wait(15*time.Second, "not down", state(strict, "down", n.region))
	c.wait(15*time.Second, "nobody was told", func() error { return c.heard("CheckDown", "firing", strict, 1) })
	c.hold(lasts(5*time.Second, 30*time.Second))
	c.net.HealAll()
	healed := time.Now()
	c.wait(20*time.Second, "not up", state(checkName(1), "up", ""))
	c.wait(20*time.Second, "not up", state(strict, "up", ""))
	c.wait(20*time.Second, "nobody was told of the end", func() error { return c.heard("CheckDown", "resolved", strict, 1) })
	require.Less(t, took, 2*2*time.Second+3*time.Second)
	l.verify(expect{from: healed, down: []string{strict}})
	require.Len(t, c.world.got("CheckDown", "firing", strict), 1)
}

// Targets fail: people are told within the interval and 3 s, once from three servers.
func TestTargetDown(t *testing.T) {
	const count, interval = 10, 5 * time.Second
	c := newCluster(t, setup{regions: three, checks: count, every: interval.String()})
	l := c.startLoad()
	var down []string
	var took []time.Duration
	for i := 1; i <= count; i++ {
		c.hold(time.Duration(c.rand.Int64N(int64(time.Second))))
		c.world.set(true, i)
		broken := time.Now()
		c.wait(interval+15*time.Second, "nobody was told", func() error { return c.heard("CheckDown", "firing", checkName(i), 1) })
		d := c.world.got("CheckDown", "firing", checkName(i))[0].At.Sub(broken)
		took = append(took, d)
		down = append(down, checkName(i))
	}
	c.note("failure to notification: %v", took)
	c.hold(10 * time.Second)
	for i := 1; i <= count; i++ {
		c.world.set(false, i)
	}
	c.wait(interval+20*time.Second, "nobody was told of the end", func() error {
		for _, name := range down {
			if err := c.heard("CheckDown", "resolved", name, 1); err != nil {
				return err
			}
		}
		return nil
	})
	c.hold(5 * time.Second)
	for i, name := range down {
		require.LessOrEqual(t, took[i], interval+3*time.Second, "failure to notification of %s", name)
		require.Len(t, c.world.got("CheckDown", "firing", name), 1, "told once from three servers")
		require.Len(t, c.world.got("CheckDown", "resolved", name), 1, "told once from three servers")
	}
	l.verify(expect{down: down})
}

// Targets fail while the network is cut in two: each side may tell once, and
// nobody is told again after it is healed.
func TestNotifySplit(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu", "eu", "eu"}, checks: 10})
	l := c.startLoad()
	heal := c.split(c.pick())
	c.hold(8 * time.Second)
	var down []string
	for i := 1; i <= 5; i++ {
		c.world.set(true, i)
		down = append(down, checkName(i))
	}
	c.wait(20*time.Second, "nobody was told", func() error {
		for _, name := range down {
			if err := c.heard("CheckDown", "firing", name, 1); err != nil {
				return err
			}
		}
		return nil
	})
	c.hold(lasts(20*time.Second, 2*time.Minute))
	heal()
	healed := time.Now()
	c.waitWhole(60 * time.Second)
	before := map[string]int{}
	for _, name := range down {
		before[name] = len(c.world.got("CheckDown", "firing", name))
		require.LessOrEqual(t, before[name], 2, "each side tells once at most")
	}
	c.hold(lasts(20*time.Second, 2*time.Minute))
	for _, name := range down {
		require.Len(t, c.world.got("CheckDown", "firing", name), before[name], "told again after healing")
	}
	l.more(20, 30*time.Second)
	l.verify(expect{from: healed, down: down})
}

// The links between the servers are slow and lose a tenth of the packets:
// nobody is taken for dead, nothing is lost.
func TestSlowLinks(t *testing.T) {
	c := newCluster(t, setup{regions: three, checks: 10})
	l := c.startLoad()
	var ends []func()
	for i, a := range c.nodes {
		for _, b := range c.nodes[i+1:] {
			ends = append(ends, c.net.Slow(a.host, b.host, 75*time.Millisecond, 0.1, uint64(c.seed)))
		}
	}
	c.note("150 ms and 10 %% loss between all servers")
	before, _ := l.samples.acked()
	begin := time.Now()
	states := map[string]int{}
	for time.Since(begin) < lasts(20*time.Second, 2*time.Minute) {
		for _, n := range c.nodes {
			list, err := n.view()
			require.NoError(t, err)
			for _, v := range list {
				states[v.State]++
			}
		}
		c.hold(200 * time.Millisecond)
	}
	after, _ := l.samples.acked()
	c.note("states seen: %v; %.0f samples/s acknowledged", states, float64(after-before)/time.Since(begin).Seconds())
	for _, end := range ends {
		end()
	}
	from := time.Now()
	c.waitWhole(60 * time.Second)
	l.more(20, 30*time.Second)
	require.Zero(t, states["dead"], "a server was taken for dead")
	l.verify(expect{from: from})
}
