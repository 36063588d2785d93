package control_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
	"panoptes/test/harness"
)

func TestOldSingleServerGrows(t *testing.T) {
	cl := newCluster(t)
	cfg := cl.config("01JD0000000000000000000001")
	old := config(cfg.Dir) // as one server has made it: plaintext, its name, any port
	c, stop := start(t, old, control.Deps{})
	_, err := c.Put(t.Context(), "old", []byte("v"), model.KVAny)
	require.NoError(t, err)
	stop()

	n1 := cl.run(cfg)
	require.Eventually(t, func() bool {
		ms, err := n1.ctl.Members(t.Context())
		return err == nil && len(ms) == 1 && ms[0].PeerURL == "https://"+cfg.PeerAddr && ms[0].NodeID == cfg.NodeID && ms[0].ClientURL != ""
	}, 30*time.Second, 20*time.Millisecond, "it corrects its address and its name")
	require.True(t, n1.has("old"))
	n2 := cl.join(n1, "n2")
	cl.join(n1, "n3")
	cl.voters(n2, 3)
	cl.everywhere("old")
}

func TestAddressChanges(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	n2 := cl.join(n1, "n2")
	n3 := cl.join(n1, "n3")
	cl.voters(n1, 3)
	n3.stop()
	cfg := n3.cfg
	cfg.PeerAddr = harness.FreeAddr(t, "127.0.0.1")
	cl.run(cfg)
	require.Eventually(t, func() bool {
		ms, err := n2.ctl.Members(t.Context())
		m := member(t, ms, "n3")
		return err == nil && m.PeerURL == "https://"+cfg.PeerAddr && m.Healthy
	}, 30*time.Second, 50*time.Millisecond)
	put(t, n1, "after")
	cl.everywhere("after")
}

func TestStrangersAreRefused(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	dir := t.TempDir()
	for name, files := range map[string]control.TLSFiles{
		"agent":        cl.ca.issue(t, filepath.Join(dir, "agent"), "panoptes-agent"),
		"other CA":     newAuthority(t).issue(t, filepath.Join(dir, "other"), serverCN, cl.ca),
		"server as is": cl.ca.issue(t, filepath.Join(dir, "server"), serverCN),
	} {
		cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		require.NoError(t, err)
		for _, addr := range []string{n1.cfg.PeerAddr, n1.cfg.ClientAddr} {
			conn, err := tls.Dial("tcp", addr, &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err == nil { // with TLS 1.3 the refusal comes with the first read
				wait := 20 * time.Second
				if name == "server as is" {
					wait = 300 * time.Millisecond // nothing comes
				}
				_ = conn.SetReadDeadline(time.Now().Add(wait))
				_, err = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			refused := err != nil && !os.IsTimeout(err)
			require.Equal(t, name != "server as is", refused, "%s at %s: %v", name, addr, err)
		}
	}
}

func TestRestartReadsNewRoots(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	cl.join(n1, "n2")
	cl.join(n1, "n3")
	cl.voters(n1, 3)
	watch := n1.ctl.Watch(t.Context(), "w/", 0)
	next(t, watch)

	// Both roots everywhere, one server after the other; then certificates of the new one.
	next2 := newAuthority(t)
	for _, id := range []string{"n2", "n3", "n1"} {
		n := cl.nodes[id]
		dir := filepath.Dir(n.cfg.PeerTLS.Cert)
		cl.ca.issue(t, dir, serverCN, next2)
		began := time.Now()
		require.NoError(t, n.ctl.Restart(t.Context()))
		took := time.Since(began)
		t.Logf("restart of %s: %s", id, took.Round(time.Millisecond))
		require.Less(t, took, 15*time.Second)
		rev := put(t, n, "w/"+id)
		b := next(t, watch)
		require.Equal(t, rev, b.Revision, "the watch goes on without a gap or a reset")
		require.False(t, b.Reset)
	}
	for _, n := range cl.nodes {
		next2.issue(t, filepath.Dir(n.cfg.PeerTLS.Cert), serverCN, cl.ca) // read at the next handshakes
	}
	for _, id := range []string{"n2", "n3", "n1"} {
		n := cl.nodes[id]
		next2.issue(t, filepath.Dir(n.cfg.PeerTLS.Cert), serverCN) // the old root goes
		require.NoError(t, n.ctl.Restart(t.Context()))
		put(t, n, "w/again "+id)
	}
	cl.voters(n1, 3)
	cl.everywhere("w/again n1")
}

func TestRemoveOneself(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	n2 := cl.join(n1, "n2")
	n3 := cl.join(n1, "n3")
	cl.voters(n1, 3)
	require.NoError(t, n1.ctl.Remove(t.Context(), "n1"), "the leader itself")
	require.Eventually(t, func() bool {
		st := n1.ctl.Status(t.Context())
		return st.Removed && st.Err != ""
	}, 30*time.Second, 20*time.Millisecond)
	require.ErrorContains(t, n1.ctl.Writable(), "removed from the cluster")
	ms := cl.voters(n2, 2)
	require.Len(t, ms, 2)
	put(t, n3, "after")
	require.ErrorIs(t, n2.ctl.Remove(t.Context(), "n1"), model.ErrNotFound)
	n1.stop() // Run went on until now
	cl.join(n2, "n4")
	cl.voters(n2, 3)
}

func TestRecoverFromOneSurvivor(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	n2 := cl.join(n1, "n2")
	n3 := cl.join(n1, "n3")
	cl.voters(n1, 3)
	rev := put(t, n1, "kept")
	cl.everywhere("kept")
	var wg sync.WaitGroup
	for _, n := range []*node{n1, n2, n3} {
		wg.Go(n.stop)
	}
	wg.Wait()

	_, err := control.Recover(t.Context(), config(t.TempDir()), nil)
	require.ErrorIs(t, err, model.ErrNotFound, "nothing is made of nothing")
	got, err := control.Recover(t.Context(), n2.cfg, nil)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"n1", "n3"}, got.Removed)
	require.Greater(t, got.Revision, rev)
	require.DirExists(t, got.Copy)

	n2 = cl.run(n2.cfg)
	require.True(t, n2.has("kept"))
	put(t, n2, "writable")
	cl.voters(n2, 1)

	// One that was given up and comes back is turned away.
	c, err := control.New(n3.cfg, control.Deps{Logger: testLog("n3")})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	require.Eventually(t, func() bool { return c.Status(ctx).Removed }, 20*time.Second, 50*time.Millisecond)
	cancel()
	require.NoError(t, <-done)

	delete(cl.nodes, "n1")
	delete(cl.nodes, "n3")
	cl.join(n2, "n4")
	cl.join(n2, "n5")
	cl.voters(n2, 3)
	cl.everywhere("kept")
}

// The number of a member is made of its address and the second.
func TestRemovedAndAddedAtOnce(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	addr := harness.FreeAddr(t, "127.0.0.1")
	for range 5 {
		_, err := n1.ctl.AddLearner(t.Context(), "n2", addr)
		require.NoError(t, err)
		require.NoError(t, n1.ctl.Remove(t.Context(), "n2"))
	}
	ms, err := n1.ctl.Members(t.Context())
	require.NoError(t, err)
	require.Len(t, ms, 1)
}

func TestEvenNumberOfVotersByHand(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	n2 := cl.join(n1, "n2")
	require.NoError(t, n1.ctl.Promote(t.Context(), "n2"))
	require.NoError(t, n1.ctl.Promote(t.Context(), "n2"), "again")
	cl.voters(n1, 2)
	require.ErrorIs(t, n1.ctl.Promote(t.Context(), "nobody"), model.ErrNotFound)
	require.NoError(t, n1.ctl.MoveLeader(t.Context(), "n2"))
	require.Equal(t, "n2", n2.ctl.Leader())
	require.NoError(t, n1.ctl.MoveLeader(t.Context(), "n1"), "asked of a follower")
	require.Equal(t, "n1", n1.ctl.Leader())
}

func TestLostDataDoNotComeBackUnderTheSameMember(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	n2 := cl.join(n1, "n2")
	cl.join(n1, "n3")
	cl.voters(n1, 3)
	n2.stop()
	require.NoError(t, os.RemoveAll(n2.cfg.Dir))
	c, err := control.New(n2.cfg, control.Deps{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	require.Eventually(t, func() bool {
		err := c.Writable()
		return err != nil && strings.Contains(err.Error(), "remove that member")
	}, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, n1.ctl.Remove(ctx, "n2"))
	_, err = n1.ctl.AddLearner(ctx, "n2", n2.cfg.PeerAddr)
	require.NoError(t, err)
	select {
	case <-c.Ready():
	case <-time.After(time.Minute):
		t.Fatalf("it does not go on: %v", c.Writable())
	}
	cl.voters(n1, 3)
	cancel()
	require.NoError(t, <-done)
}
