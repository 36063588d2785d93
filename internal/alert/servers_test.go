package alert_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/notify"
)

// trio is three servers in fake time with links that can be cut, and a receiver
// in memory. Each server is given every alert each minute.
type trio struct {
	t     *testing.T
	names []string

	mu     sync.Mutex
	nodes  map[string]*server
	cuts   map[[2]string]bool
	got    []delivery
	before func(from string) // when a request is about to begin
	after  func(from string) // when it has been taken in, before it is answered
	inbox  chan net.Conn
	refuse bool // the receiver takes nothing
	// interval is the group_interval of the route.
	interval string
	wg       sync.WaitGroup
}

type delivery struct {
	from, id, status, group string
	at                      time.Time
}

type server struct {
	c      *trio
	name   string
	dir    string
	a      *alert.Alerting
	cancel context.CancelFunc
	done   chan struct{}
	up     bool          // guarded by trio.mu
	view   []string      // guarded by trio.mu: who lives, as gossip has it
	sends  []alert.Alert // guarded by trio.mu: what it is given each minute
	still  chan struct{} // guarded by trio.mu: not nil while it stands still
}

// from is the address of a pipe's end: the server that dialled.
type named struct {
	net.Conn
	from string
}

type fromAddr string

func (fromAddr) Network() string     { return "pipe" }
func (a fromAddr) String() string    { return string(a) }
func (c named) RemoteAddr() net.Addr { return fromAddr(c.from) }

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return fromAddr("sink") }

func three(t *testing.T, script func(*trio)) { threeEvery(t, "5s", script) }

func threeEvery(t *testing.T, interval string, script func(*trio)) {
	t.Helper()
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		c := &trio{t: t, names: []string{"n1", "n2", "n3"}, nodes: map[string]*server{}, cuts: map[[2]string]bool{}, inbox: make(chan net.Conn), interval: interval}
		l := &pipeListener{conns: c.inbox, closed: make(chan struct{})}
		sink := &http.Server{Handler: http.HandlerFunc(c.sink)}
		c.wg.Go(func() { _ = sink.Serve(l) })
		for i, name := range c.names {
			c.nodes[name] = &server{c: c, name: name, dir: dirs[i]}
		}
		defer func() {
			for _, name := range c.names {
				c.stop(name)
			}
			_ = sink.Close()
			c.wg.Wait()
		}()
		for _, name := range c.names {
			c.start(name)
		}
		c.gossip()
		time.Sleep(time.Second)
		script(c)
	})
}

func (c *trio) sink(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	var m message
	if json.Unmarshal(b, &m) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	if c.refuse {
		c.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	c.got = append(c.got, delivery{r.RemoteAddr, r.Header.Get("Idempotency-Key"), m.Status, m.GroupKey, time.Now()})
	after := c.after
	c.mu.Unlock()
	if after != nil {
		after(r.RemoteAddr)
	}
}

// linked reports whether two servers reach each other. It needs mu.
func (c *trio) linked(a, b string) bool {
	x, y := c.nodes[a], c.nodes[b]
	return x.up && y.up && x.still == nil && y.still == nil && !c.cuts[[2]string{a, b}]
}

// gossip has every server see who lives, and exchange everything with those it
// had lost.
func (c *trio) gossip() {
	c.mu.Lock()
	var meet [][2]string
	for _, a := range c.names {
		n := c.nodes[a]
		var view []string
		for _, b := range c.names {
			if a == b || c.linked(a, b) {
				view = append(view, b)
				if a != b && !slices.Contains(n.view, b) {
					meet = append(meet, [2]string{a, b})
				}
			}
		}
		n.view = view
	}
	c.mu.Unlock()
	for _, p := range meet {
		c.exchange(p[0], p[1])
	}
}

func (c *trio) exchange(from, to string) {
	for _, part := range []string{"nflog", "silences"} {
		if b, err := c.nodes[from].a.State(part); err == nil && c.nodes[to].a != nil {
			_ = c.nodes[to].a.Merge(part, b)
		}
	}
}

func (c *trio) changed() { time.AfterFunc(3*time.Second, c.gossip) }

func (c *trio) start(name string) {
	s := c.nodes[name]
	send, err := notify.New(notify.Config{}, notify.Deps{Dialer: s.dial})
	require.NoError(c.t, err)
	settled := make(chan struct{})
	s.a, err = alert.New(alert.Config{Dir: s.dir, SnapshotInterval: 20 * time.Minute}, alert.Deps{
		Receivers: send, Position: s.position, Broadcast: s.broadcast, Settled: settled,
	})
	require.NoError(c.t, err)
	s.configure(c.interval)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan struct{})
	c.mu.Lock()
	s.up = true
	c.mu.Unlock()
	c.wg.Go(func() {
		defer close(s.done)
		_ = s.a.Run(ctx) // what it could not send at its end does not matter here
	})
	c.wg.Go(func() { s.resend(ctx) })
	time.AfterFunc(time.Second, func() { c.gossip(); close(settled) })
}

func (s *server) configure(interval string) {
	route := routeTo("hook")
	route.GroupInterval = interval
	require.NoError(s.c.t, s.a.Update([]model.Receiver{webhook("hook", "http://sink/")}, []model.Route{route}, nil, nil))
}

// stop ends a server; what it does from the first moment reaches nobody.
func (c *trio) stop(name string) {
	s := c.nodes[name]
	c.kill(name)
	s.cancel()
	<-s.done
}

// kill cuts a server off from everything, as its death would.
func (c *trio) kill(name string) {
	c.mu.Lock()
	c.nodes[name].up = false
	c.mu.Unlock()
	c.nodes[name].cancel()
	c.changed()
}

func (s *server) position() int {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return max(0, slices.Index(s.view, s.name))
}

func (s *server) broadcast(part string, b []byte) {
	b = slices.Clone(b)
	for _, o := range s.c.names {
		if o == s.name {
			continue
		}
		s.c.wg.Go(func() {
			time.Sleep(5 * time.Millisecond)
			s.c.mu.Lock()
			ok := s.c.linked(s.name, o)
			s.c.mu.Unlock()
			if ok {
				_ = s.c.nodes[o].a.Merge(part, b)
			}
		})
	}
}

func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s.c.mu.Lock()
	before := s.c.before
	s.c.mu.Unlock()
	if before != nil {
		before(s.name)
	}
	s.c.mu.Lock()
	up := s.up
	s.c.mu.Unlock()
	if !up {
		return nil, errors.New("dead")
	}
	a, b := net.Pipe()
	select {
	case s.c.inbox <- named{b, s.name}:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// put gives all servers an alert, now and each minute.
func (c *trio) put(list ...alert.Alert) {
	c.mu.Lock()
	for _, n := range c.nodes {
		n.sends = append(n.sends, list...)
	}
	c.mu.Unlock()
	for _, name := range c.names {
		c.nodes[name].say()
	}
}

// end resolves all alerts.
func (c *trio) end() {
	c.mu.Lock()
	var last []alert.Alert
	for _, n := range c.nodes {
		last = slices.Clone(n.sends)
		n.sends = nil
	}
	c.mu.Unlock()
	for i := range last {
		last[i].EndsAt = time.Now()
	}
	for _, n := range c.nodes {
		_ = n.a.Put(context.Background(), last...)
	}
}

func (s *server) say() {
	s.c.mu.Lock()
	list := slices.Clone(s.sends)
	up := s.up
	s.c.mu.Unlock()
	for i := range list {
		list[i].EndsAt = time.Now().Add(4 * time.Minute)
	}
	if up && len(list) > 0 {
		_ = s.a.Put(context.Background(), list...)
	}
}

func (s *server) resend(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.say()
		}
	}
}

func (c *trio) deliveries() []delivery {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

func (c *trio) cut(on bool, pairs ...string) {
	c.mu.Lock()
	for i := 0; i+1 < len(pairs); i += 2 {
		c.cuts[[2]string{pairs[i], pairs[i+1]}], c.cuts[[2]string{pairs[i+1], pairs[i]}] = on, on
	}
	c.mu.Unlock()
	c.changed()
}

func TestAThousandGroupsAreToldOnce(t *testing.T) {
	three(t, func(c *trio) {
		var list []alert.Alert
		for i := range 1000 {
			list = append(list, firing(fmt.Sprint("shop", i), time.Now()))
		}
		c.put(list...)
		time.Sleep(20 * time.Second)
		groups := map[string]int{}
		for _, d := range c.deliveries() {
			groups[d.group]++
		}
		require.Len(t, groups, 1000)
		require.LessOrEqual(t, len(c.deliveries()), 1001)
		c.end()
		time.Sleep(20 * time.Second)
		require.LessOrEqual(t, len(c.deliveries()), 2002)
	})
}

func TestTheSenderDiesAroundTheRequest(t *testing.T) {
	f := func(when string, want int) {
		t.Helper()
		three(t, func(c *trio) {
			die := func(from string) {
				if from == "n1" {
					c.kill("n1")
				}
			}
			c.mu.Lock()
			if when == "before" {
				c.before = die
			} else {
				c.after = die
			}
			c.mu.Unlock()
			c.put(firing("shop", time.Now()))
			time.Sleep(2 * time.Minute)
			got := c.deliveries()
			require.Len(t, got, want)
			for _, d := range got {
				require.Equal(t, got[0].id, d.id, "a receiver can tell that it is the same")
				require.NotEmpty(t, d.id)
			}
			require.Equal(t, "n2", got[len(got)-1].from)
			c.end()
			time.Sleep(time.Minute)
			require.Len(t, c.deliveries(), want+1)
		})
	}
	f("before", 1)
	f("after", 2)
}

func TestASplitIsToldOnceASideAndNotAgain(t *testing.T) {
	threeEvery(t, "1m", func(c *trio) {
		c.put(firing("old", time.Now()))
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 1)
		c.cut(true, "n1", "n2", "n1", "n3")
		time.Sleep(time.Minute)
		c.put(firing("shop", time.Now()))
		_, err := c.nodes["n1"].a.SetSilence(t.Context(), alert.Silence{Matchers: []string{`check="x"`}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "x", Comment: "x"})
		require.NoError(t, err)
		_, err = c.nodes["n3"].a.SetSilence(t.Context(), alert.Silence{Matchers: []string{`check="y"`}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "x", Comment: "x"})
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		got := c.deliveries()
		require.Len(t, got, 3)
		require.Equal(t, got[1].id, got[2].id)
		require.NotEqual(t, got[1].from, got[2].from)
		c.cut(false, "n1", "n2", "n1", "n3")
		time.Sleep(3 * time.Hour)
		require.Len(t, c.deliveries(), 3)
		for _, n := range c.nodes {
			s, err := n.a.Silences(t.Context())
			require.NoError(t, err)
			require.Len(t, s, 2)
		}
		// The repetition comes when it is due, once.
		time.Sleep(90 * time.Minute)
		got = c.deliveries()
		require.Len(t, got, 5)
		require.NotEqual(t, got[0].id, got[3].id)
	})
}

func TestAllRestartWhileAlertsFire(t *testing.T) {
	three(t, func(c *trio) {
		c.put(firing("shop", time.Now()), firing("blog", time.Now()))
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 2)
		for _, name := range c.names {
			c.stop(name)
		}
		time.Sleep(30 * time.Second)
		for _, name := range []string{"n3", "n1", "n2"} {
			c.start(name)
		}
		time.Sleep(3 * time.Minute)
		require.Len(t, c.deliveries(), 2)
		now := time.Now()
		c.put(firing("new", now))
		time.Sleep(10 * time.Second)
		got := c.deliveries()
		require.Len(t, got, 3)
		require.Less(t, got[2].at.Sub(now), 2*time.Second)
		c.end()
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 6)
	})
}

// A server that stood still wakes up with an old log and old alerts.
func TestAServerThatStoodStillListensFirst(t *testing.T) {
	three(t, func(c *trio) {
		// n1 hears nothing while the others tell of an alert.
		c.cut(true, "n1", "n2", "n1", "n3")
		time.Sleep(5 * time.Second)
		since := time.Now()
		for _, name := range []string{"n2", "n3"} {
			require.NoError(t, c.nodes[name].a.Put(t.Context(), firing("shop", since)))
		}
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 1)
		c.cut(false, "n1", "n2", "n1", "n3")
		c.nodes["n1"].a.StandStill(time.Minute)
		c.put(firing("shop", since))
		time.Sleep(3 * time.Minute)
		require.Len(t, c.deliveries(), 1, "it would have told it again before the others' log arrived")
		// What comes now is told as ever.
		now := time.Now()
		c.put(firing("new", now))
		time.Sleep(time.Second)
		got := c.deliveries()
		require.Len(t, got, 2)
		require.Equal(t, "n1", got[1].from)
		c.end()
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 4)
	})
	// Nobody could send alerts again meanwhile: that they ran out means nothing.
	three(t, func(c *trio) {
		a := firing("shop", time.Now())
		a.EndsAt = time.Now().Add(31 * time.Second)
		require.NoError(t, c.nodes["n1"].a.Put(t.Context(), a))
		time.Sleep(32 * time.Second)
		require.Len(t, c.deliveries(), 1)
		c.nodes["n1"].a.StandStill(5 * time.Minute)
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 1)
		a.EndsAt = time.Now()
		require.NoError(t, c.nodes["n1"].a.Put(t.Context(), a))
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 2)
	})
}

// A server that starts knows nothing until the others' log has arrived.
func TestAServerThatJoinsTellsNothingTwice(t *testing.T) {
	three(t, func(c *trio) {
		c.stop("n1")
		time.Sleep(5 * time.Second)
		c.put(firing("shop", time.Now()))
		_, err := c.nodes["n2"].a.SetSilence(t.Context(), alert.Silence{Matchers: []string{`check="quiet"`}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "x", Comment: "x"})
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		require.Len(t, c.deliveries(), 1)
		c.nodes["n1"].dir = t.TempDir() // new on a new disk
		c.start("n1")
		c.nodes["n1"].say() // before it has heard anything
		c.put(firing("quiet", time.Now()))
		time.Sleep(time.Minute)
		require.Len(t, c.deliveries(), 1)
		s, err := c.nodes["n1"].a.Silences(t.Context())
		require.NoError(t, err)
		require.Len(t, s, 1)
	})
}

// One clock is ten minutes ahead: its entries in the log lie in the future, and
// what happens next is told once all the same.
func TestALogFromTheFutureRepeatsNothing(t *testing.T) {
	three(t, func(c *trio) {
		c.put(firing("shop", time.Now()))
		time.Sleep(20 * time.Second)
		require.Len(t, c.deliveries(), 1)
		b, err := c.nodes["n1"].a.State("nflog")
		require.NoError(t, err)
		c.stop("n1")
		ahead := alert.Ahead(t, b, 10*time.Minute)
		for _, name := range []string{"n2", "n3"} {
			require.NoError(t, c.nodes[name].a.Merge("nflog", ahead))
		}
		time.Sleep(10 * time.Second)
		c.put(firing("blog", time.Now()))
		c.end()
		time.Sleep(5 * time.Minute)
		status := map[string]int{}
		for _, d := range c.deliveries() {
			status[d.group[strings.Index(d.group, "check="):]+d.status]++
		}
		require.Equal(t, 1, status[`check="shop"}resolved`], c.deliveries())
		// It fires again and ends again, both within those ten minutes.
		c.put(firing("shop", time.Now()))
		time.Sleep(30 * time.Second)
		c.end()
		time.Sleep(30 * time.Second)
		n := 0
		for _, d := range c.deliveries() {
			if strings.Contains(d.group, "shop") {
				n++
			}
		}
		require.Equal(t, 4, n)
	})
}

// A server was away when an alert ended and the others told so: its own copy of
// the alert is old news, whether their log comes at its start or later.
func TestAServerThatReturnsTellsNothingThatIsOver(t *testing.T) {
	for _, late := range []bool{false, true} {
		three(t, func(c *trio) {
			c.put(firing("shop", time.Now()), firing("blog", time.Now()))
			time.Sleep(time.Minute)
			require.Len(t, c.deliveries(), 2)
			c.stop("n1")
			time.Sleep(5 * time.Second)
			c.end()
			time.Sleep(30 * time.Second)
			require.Len(t, c.deliveries(), 4)
			// One of the two goes down again.
			c.put(firing("blog", time.Now()))
			time.Sleep(30 * time.Second)
			require.Len(t, c.deliveries(), 5)
			if late {
				c.cut(true, "n1", "n2", "n1", "n3")
			}
			c.start("n1")
			time.Sleep(30 * time.Second)
			if late {
				c.cut(false, "n1", "n2", "n1", "n3")
			}
			time.Sleep(10 * time.Second)
			require.Len(t, c.deliveries(), 5, "it told what is over")
			list, err := c.nodes["n1"].a.Alerts(t.Context())
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, "blog", list[0].Labels["check"])
			time.Sleep(10 * time.Minute)
			require.Len(t, c.deliveries(), 5)
			c.put(firing("shop", time.Now()))
			time.Sleep(10 * time.Second)
			require.Len(t, c.deliveries(), 6, "the next outage is told")
			c.end()
			time.Sleep(time.Minute)
			require.Len(t, c.deliveries(), 8)
		})
	}
}

// An alert ends while the receiver takes nothing, and the servers forget
// their groups before it can: the end is told all the same, and with it the next
// outage, which the log would otherwise take for the one it knows.
func TestAnEndThatCouldNotBeToldIsToldLater(t *testing.T) {
	// Servers that try at the same time all get through: it is the same to a receiver.
	told := func(c *trio) []delivery {
		list := c.deliveries()
		seen := map[string]bool{}
		return slices.DeleteFunc(list, func(d delivery) bool {
			again := seen[d.id]
			seen[d.id] = true
			return again
		})
	}
	for name, forget := range map[string]func(*trio){
		"reload": func(c *trio) {
			for _, name := range c.names {
				c.nodes[name].configure("6s")
			}
		},
		"restart": func(c *trio) {
			for _, name := range c.names {
				c.stop(name)
			}
			for _, name := range c.names {
				c.start(name)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			three(t, func(c *trio) {
				c.put(firing("shop", time.Now()))
				time.Sleep(time.Minute)
				require.Len(t, told(c), 1)
				refuse := func(on bool) {
					c.mu.Lock()
					defer c.mu.Unlock()
					c.refuse = on
				}
				refuse(true)
				c.end()
				time.Sleep(4 * time.Minute) // the store forgets it too
				require.Len(t, told(c), 1)
				forget(c)
				time.Sleep(time.Minute)
				refuse(false)
				time.Sleep(2 * time.Minute)
				got := told(c)
				require.Len(t, got, 2)
				require.Equal(t, "resolved", got[1].status)
				c.put(firing("shop", time.Now()))
				time.Sleep(30 * time.Second)
				got = told(c)
				require.Len(t, got, 3)
				require.Equal(t, "firing", got[2].status)
				c.end()
				time.Sleep(time.Minute)
				require.Len(t, told(c), 4)
				// What was told is not told again.
				forget(c)
				time.Sleep(10 * time.Minute)
				require.Len(t, told(c), 4)
			})
		})
	}
}
