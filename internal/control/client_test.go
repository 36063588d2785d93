package control_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
)

// client starts a server that is no member of f's cluster.
func (f *family) client(endpoints ...string) *control.Control {
	f.t.Helper()
	cfg := f.config("client")
	cfg.Dir, cfg.PeerAddr, cfg.ClientAddr = "", "", ""
	cfg.Endpoints = func() []string { return endpoints }
	c, _ := start(f.t, cfg, control.Deps{})
	return c
}

// A write takes no longer than that when a member is lost; of a busy machine the
// best try counts.
func TestClientOfThree(t *testing.T) {
	const limit = 3500 * time.Millisecond
	worst := time.Hour
	for try := 0; try < 4 && worst > limit && !t.Failed(); try++ {
		t.Run(fmt.Sprint("try ", try+1), func(t *testing.T) { worst = clientOfThree(t) })
	}
	require.Less(t, worst, limit)
}

// clientOfThree tells for how long a write waited at most.
func clientOfThree(t *testing.T) (worst time.Duration) {
	f := newFamily(t, 3)
	c := f.client(f.kids["n1"].cfg.ClientAddr) // it finds the others by itself
	ctx := t.Context()
	require.NoError(t, c.Writable())
	r1, err := c.Put(ctx, "k", []byte("1"), model.KVAbsent)
	require.NoError(t, err)
	_, err = c.Put(ctx, "k", []byte("x"), model.KVAbsent)
	require.ErrorIs(t, err, model.ErrConflict)
	r2, err := c.Put(ctx, "k", []byte("2"), r1)
	require.NoError(t, err)
	kv, err := c.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, model.KV{Key: "k", Value: []byte("2"), Revision: r2}, kv)
	_, err = c.Get(ctx, "none")
	require.ErrorIs(t, err, model.ErrNotFound)
	kvs, rev, err := c.List(ctx, "k")
	require.NoError(t, err)
	require.Len(t, kvs, 1)
	require.GreaterOrEqual(t, rev, r2)

	watch := c.Watch(ctx, "k", 0)
	require.True(t, next(t, watch).Reset)
	var ms []control.ControlMember
	require.Eventually(t, func() bool {
		ms, err = c.Members(ctx)
		return err == nil && len(ms) == 3 && c.Leader() != "" && !slices.ContainsFunc(ms, func(m control.ControlMember) bool { return !m.Healthy })
	}, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, c.MoveLeader(ctx, "n2"))
	require.Eventually(t, func() bool { return c.Leader() == "n2" }, 30*time.Second, 50*time.Millisecond)

	// The member in use dies, then the next is paused: one is left and the first is back.
	gap := func(what string, fault func()) {
		t.Helper()
		fault()
		at := time.Now()
		rev, err := c.Put(ctx, "k", []byte(what), model.KVAny)
		require.NoError(t, err, what)
		t.Logf("member %s: the next write took %s", what, time.Since(at).Round(time.Millisecond))
		worst = max(worst, time.Since(at))
		b := next(t, watch)
		require.False(t, b.Reset)
		require.Equal(t, rev, b.Revision, what)
	}
	gap("n1 killed", f.kids["n1"].kill)
	f.kids["n1"] = spawn(t, f.kids["n1"].cfg).ready()
	f.voters("n1", 3)
	lead, _ := f.leader("n1")
	gap("leader paused", func() { lead.signal(syscall.SIGSTOP) })
	lead.signal(syscall.SIGCONT)
	f.voters("n1", 3)

	// Without a majority it reads on, says so, and comes back.
	f.kids["n1"].kill()
	f.kids["n2"].kill()
	require.Eventually(t, func() bool {
		err := c.Writable()
		return errors.Is(err, model.ErrUnavailable) && strings.Contains(err.Error(), "n1, n2")
	}, 30*time.Second, 50*time.Millisecond)
	_, err = c.Put(ctx, "k", []byte("no"), model.KVAny)
	require.ErrorIs(t, err, model.ErrUnavailable)
	kv, err = c.Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, "leader paused", string(kv.Value))
	spawn(t, f.kids["n1"].cfg).ready()
	require.Eventually(t, func() bool { return c.Writable() == nil }, 30*time.Second, 50*time.Millisecond)
	_, err = c.Put(ctx, "k", []byte("yes"), model.KVAny)
	require.NoError(t, err)
	return worst
}

func TestClientAddsMembers(t *testing.T) {
	f := newFamily(t, 1)
	c := f.client(f.kids["n1"].cfg.ClientAddr)
	for _, id := range []string{"n2", "n3"} {
		cfg := f.config(id)
		initial, err := c.AddLearner(t.Context(), id, cfg.PeerAddr)
		require.NoError(t, err)
		cfg.Join, cfg.Initial = true, initial
		f.kids[id] = spawn(t, cfg).ready()
	}
	f.voters("n1", 3)
	require.NoError(t, c.Remove(t.Context(), "n3"))
	ms, err := c.Members(t.Context())
	require.NoError(t, err)
	require.Len(t, ms, 2)
}

// lossy passes bytes on to a member; told to, it loses an answer and the connection.
type lossy struct {
	ln    net.Listener
	to    string
	mute  atomic.Bool
	muted atomic.Int64 // answers lost
}

func newLossy(t *testing.T, to string) *lossy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &lossy{ln: ln, to: to}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			go l.pipe(out, in, false)
			go l.pipe(in, out, true)
		}
	}()
	return l
}

func (l *lossy) pipe(dst, src net.Conn, answers bool) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if answers && l.mute.CompareAndSwap(true, false) {
			l.muted.Add(1)
			return // the connection ends with the answer
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}

// A write without conditions whose answer is lost must not be carried out again.
func TestLostAnswerIsNotAppliedTwice(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	l := newLossy(t, n1.cfg.ClientAddr)
	cfg := cl.config("client")
	cfg.Dir, cfg.PeerAddr, cfg.ClientAddr = "", "", ""
	cfg.Endpoints = func() []string { return []string{l.ln.Addr().String()} }
	c, _ := start(t, cfg, control.Deps{})
	watch := n1.ctl.Watch(t.Context(), "count/", 0)
	next(t, watch)
	for i := range 10 {
		before := l.muted.Load()
		l.mute.Store(true) // for one answer, which is that of the write nearly always
		rev, err := c.Put(t.Context(), "count/k", []byte{byte(i)}, model.KVAny)
		require.NoError(t, err)
		require.Greater(t, l.muted.Load(), before)
		b := next(t, watch)
		require.Equal(t, rev, b.Revision)
		require.Len(t, b.Events, 1)
	}
	kvs, _, err := n1.ctl.List(t.Context(), "count/")
	require.NoError(t, err)
	require.Len(t, kvs, 1)
	select {
	case b := <-watch:
		t.Fatalf("a write was carried out again: %+v", b)
	default:
	}
}
