package wire_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// proxy passes TCP through until it is told to swallow everything: the
// connections stay open, and nothing arrives any more.
type proxy struct {
	l     net.Listener
	to    string
	deaf  atomic.Bool
	mu    sync.Mutex
	conns []net.Conn
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{l: l, to: to}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			wg.Go(func() { p.pass(in, out) })
			wg.Go(func() { p.pass(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *proxy) pass(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if p.deaf.Load() {
			if err != nil {
				return // and the other side is not told
			}
			continue
		}
		if err != nil {
			_ = to.Close()
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// Both notice within the time of a probe and its answer. A machine that stands
// still meanwhile proves nothing, so the best of some tries counts.
func TestSilentPeerIsNoticedOnBothSides(t *testing.T) {
	const limit = 3500 * time.Millisecond
	client, server := time.Hour, time.Hour
	for try := 0; try < 8 && max(client, server) >= limit; try++ {
		c, s := silentPeer(t)
		client, server = min(client, c), min(server, s)
	}
	require.Less(t, client, limit, "the client notices")
	require.Less(t, server, limit, "the server notices")
}

// silentPeer tells how long it took the two sides to notice.
func silentPeer(t *testing.T) (client, server time.Duration) {
	a := newAuthority(t)
	serverEnded := make(chan time.Duration, 1)
	var cut atomic.Int64
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		s.HandleStream("test.wait", nil, func(_ model.Peer, st wire.Stream) error {
			for {
				if _, err := st.Recv(); err != nil {
					serverEnded <- time.Since(time.Unix(0, cut.Load()))
					return err
				}
			}
		})
		s.Handle("test.echo", nil, echo)
	})
	p := newProxy(t, addr)
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", p.l.Addr().String())
	s, err := conn.Open(within(t, 30*time.Second), "test.wait")
	require.NoError(t, err)
	require.NoError(t, s.Send([]byte("x")))
	_, err = conn.Call(within(t, 30*time.Second), "test.echo", nil)
	require.NoError(t, err)

	cut.Store(time.Now().UnixNano())
	p.deaf.Store(true)
	// The client goes on sending: what it hears counts, not what it says.
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for s.Send(make([]byte, 100)) == nil {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	_, err = s.Recv()
	require.ErrorIs(t, err, model.ErrUnavailable)
	client = time.Since(time.Unix(0, cut.Load()))
	close(stop)
	sending.Wait()
	server = <-serverEnded

	// It comes back by itself.
	p.deaf.Store(false)
	require.Eventually(t, func() bool {
		_, err := conn.Call(within(t, 5*time.Second), "test.echo", nil)
		return err == nil
	}, 30*time.Second, 20*time.Millisecond)
	return client, server
}

func TestQuietConnectionStays(t *testing.T) {
	for try := 1; !staysQuiet(t); try++ { // one that stood still may take the other side for gone
		require.Less(t, try, 4, "a stream without messages has ended")
	}
}

// staysQuiet reports whether a stream without messages lives for four seconds.
func staysQuiet(t *testing.T) bool {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) { s.HandleStream("test.echo", nil, echoStream) })
	s, err := dial(t, a, "a1", model.RoleAgent).Conn("server", addr).Open(within(t, time.Minute), "test.echo")
	require.NoError(t, err)
	select {
	case <-s.Context().Done():
		return false
	case <-time.After(4 * time.Second):
	}
	if s.Send([]byte("x")) != nil {
		return false
	}
	_, err = s.Recv()
	return err == nil
}

func TestNobodyThere(t *testing.T) {
	a := newAuthority(t)
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", harness.FreeAddr(t, "127.0.0.1"))
	began := time.Now()
	_, err := conn.Call(within(t, 90*time.Second), "test.echo", nil)
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused")
	_, err = conn.Open(within(t, 90*time.Second), "test.echo")
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.Less(t, time.Since(began), 60*time.Second, "nobody waits for the end of the time given")
}

func TestDeadlineIsPassedOn(t *testing.T) {
	a := newAuthority(t)
	left, entered, ended := make(chan time.Duration, 10), make(chan struct{}, 10), make(chan struct{}, 10)
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		s.Handle("test.slow", nil, func(ctx context.Context, _ model.Peer, _ []byte) ([]byte, error) {
			if d, ok := ctx.Deadline(); ok {
				left <- time.Until(d)
			}
			entered <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		})
	})
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", addr)
	arrived := false
	for limit := 300 * time.Millisecond; !arrived; limit *= 2 { // it may not even get there in time
		require.Less(t, limit, time.Minute)
		_, err := conn.Call(within(t, limit), "test.slow", nil)
		require.ErrorIs(t, err, model.ErrUnavailable, "an answer that is not there in time")
		select {
		case got := <-left:
			require.LessOrEqual(t, got, limit+time.Millisecond)
			<-entered
			<-ended
			arrived = true
		default:
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	_, err := conn.Call(ctx, "test.slow", nil)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, model.ErrUnavailable)
	<-ended
}

func TestRevokedWhileConnected(t *testing.T) {
	a := newAuthority(t)
	s, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		s.HandleStream("test.echo", nil, echoStream)
		s.Handle("test.call", nil, echo)
	})
	bad := dial(t, a, "bad", model.RoleAgent).Conn("server", addr)
	good := dial(t, a, "good", model.RoleAgent).Conn("server", addr)
	ctx := within(t, time.Minute)
	bs, err := bad.Open(ctx, "test.echo")
	require.NoError(t, err)
	gs, err := good.Open(ctx, "test.echo")
	require.NoError(t, err)
	for _, st := range []wire.ClientStream{bs, gs} {
		require.NoError(t, st.Send([]byte("x")))
		_, err = st.Recv()
		require.NoError(t, err)
	}
	a.revoke("bad")
	s.Disconnect("bad")
	_, err = bs.Recv()
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.Eventually(t, func() bool {
		_, err = bad.Call(ctx, "test.call", nil)
		require.Error(t, err)
		return errors.Is(err, model.ErrUnauthorized)
	}, 30*time.Second, 10*time.Millisecond, "and is told why when it comes back")
	require.NoError(t, gs.Send([]byte("y")))
	_, err = gs.Recv()
	require.NoError(t, err, "others are not concerned")
}

func TestOneConnectionOfANodeIsClosed(t *testing.T) {
	a := newAuthority(t)
	came := make(chan wire.Stream, 2)
	_, addr := startServer(t, a, wire.ServerConfig{}, func(s *wire.Server) {
		s.HandleStream("test.echo", nil, func(from model.Peer, s wire.Stream) error {
			came <- s
			return echoStream(from, s)
		})
	})
	ctx := within(t, time.Minute)
	open := func() (here wire.ClientStream, there wire.Stream) {
		here, err := dial(t, a, "a1", model.RoleAgent).Conn("server", addr).Open(ctx, "test.echo")
		require.NoError(t, err)
		return here, <-came
	}
	first, there := open()
	second, _ := open()
	wire.HangUp(there)
	_, err := first.Recv()
	require.ErrorIs(t, err, model.ErrUnavailable)
	wire.HangUp(there)
	wire.HangUp(second)
	require.NoError(t, second.Send([]byte("x")))
	b, err := second.Recv()
	require.NoError(t, err)
	require.Equal(t, "x", string(b))
}

func TestLiveConnectionsAreLookedAtAgain(t *testing.T) {
	a := newAuthority(t)
	_, addr := startServer(t, a, wire.ServerConfig{IdentifyEvery: time.Nanosecond}, func(s *wire.Server) { s.Handle("test.echo", nil, echo) })
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", addr)
	_, err := conn.Call(within(t, time.Minute), "test.echo", nil)
	require.NoError(t, err)
	a.revoke("a1")
	_, err = conn.Call(within(t, time.Minute), "test.echo", nil)
	require.ErrorIs(t, err, model.ErrUnauthorized)
	require.ErrorContains(t, err, "revoked")
}

// A call in flight is answered, and the end takes three seconds at most: less
// than a machine may stand still, so there are some tries.
func TestStopIsBounded(t *testing.T) {
	for try := 1; ; try++ {
		answer, took := stopWhileCalled(t)
		if answer == "done" && took < 3*time.Second {
			return
		}
		require.Less(t, try, 4, "the answer is %q, the end took %s", answer, took)
	}
}

func stopWhileCalled(t *testing.T) (answered string, took time.Duration) {
	a := newAuthority(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: &tls.Config{
		Certificates: []tls.Certificate{a.issue(t, "server", model.RoleServer)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool,
	}}, wire.ServerDeps{Identify: a.identify, Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	entered := make(chan struct{}, 3)
	s.HandleStream("test.told", nil, func(_ model.Peer, st wire.Stream) error {
		entered <- struct{}{}
		<-st.Context().Done()
		return nil
	})
	s.HandleStream("test.reads", nil, func(_ model.Peer, st wire.Stream) error {
		entered <- struct{}{}
		_, err := st.Recv()
		return err
	})
	finish := make(chan struct{})
	s.Handle("test.call", nil, func(context.Context, model.Peer, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-finish
		return []byte("done"), nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	conn := dial(t, a, "a1", model.RoleAgent).Conn("server", l.Addr().String())
	var wg sync.WaitGroup
	for _, m := range []string{"test.told", "test.reads"} {
		st, err := conn.Open(within(t, time.Minute), m)
		require.NoError(t, err)
		wg.Go(func() { _, _ = st.Recv() })
	}
	answer := make(chan string, 1)
	wg.Go(func() {
		b, err := conn.Call(within(t, time.Minute), "test.call", nil)
		if err != nil {
			b = []byte(err.Error())
		}
		answer <- string(b)
	})
	for range 3 {
		<-entered
	}
	cancel()
	began := time.Now()
	time.AfterFunc(700*time.Millisecond, func() { close(finish) })
	answered = <-answer
	require.NoError(t, <-done)
	took = time.Since(began)
	wg.Wait()
	return answered, took
}

// A handler that hangs, as on a disk that does not answer, must not keep the
// program from ending.
func TestHangingHandlerDoesNotKeepTheServer(t *testing.T) {
	a := newAuthority(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: &tls.Config{
		Certificates: []tls.Certificate{a.issue(t, "server", model.RoleServer)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool,
	}}, wire.ServerDeps{Identify: a.identify})
	require.NoError(t, err)
	entered, finish, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.HandleStream("test.hangs", nil, func(model.Peer, wire.Stream) error {
		close(entered)
		<-finish
		close(left)
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	st, err := dial(t, a, "a1", model.RoleAgent).Conn("server", l.Addr().String()).Open(within(t, time.Minute), "test.hangs")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = st.Recv() })
	<-entered
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		t.Error("the server waits for its handler")
	}
	close(finish)
	<-left
	wg.Wait()
}

func TestMetrics(t *testing.T) {
	a := newAuthority(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	s, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: &tls.Config{
		Certificates: []tls.Certificate{a.issue(t, "server", model.RoleServer)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool,
	}}, wire.ServerDeps{Identify: a.identify, Registerer: reg})
	require.NoError(t, err)
	s.Handle("test.echo", nil, echo)
	runUntilEnd(t, s.Run)
	_, err = dial(t, a, "a1", model.RoleAgent).Conn("server", l.Addr().String()).Call(within(t, time.Minute), "test.echo", make([]byte, 1000))
	require.NoError(t, err)
	_, err = dial(t, a, "", "").Conn("server", l.Addr().String()).Call(within(t, time.Minute), "test.echo", nil)
	require.ErrorIs(t, err, model.ErrUnauthorized)
	n, err := testutil.GatherAndCount(reg, "panoptes_wire_server_calls_total", "panoptes_wire_server_refused_total")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, p := range m.GetLabel() {
				if f.GetName() == "panoptes_wire_server_bytes_total" && p.GetName() == "method" && p.GetValue() == "test.echo" {
					require.Equal(t, 1000.0, m.GetCounter().GetValue())
				}
			}
		}
	}
}
