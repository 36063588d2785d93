package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
	"panoptes/test/harness"
)

const serverCN = "panoptes-server"

// cluster is a set of members in this process.
type cluster struct {
	t     *testing.T
	ca    *authority
	nodes map[string]*node
}

type node struct {
	cfg  control.Config
	ctl  *control.Control
	stop func()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	return &cluster{t: t, ca: newAuthority(t), nodes: map[string]*node{}}
}

func (cl *cluster) config(id string) control.Config {
	cl.t.Helper()
	dir := filepath.Join(cl.t.TempDir(), id)
	return control.Config{
		Dir: filepath.Join(dir, "control"), NodeID: id, ClusterID: "test", ReserveBytes: 1 << 20, MinFreeBytes: 1 << 20,
		PeerAddr: harness.FreeAddr(cl.t, "127.0.0.1"), ClientAddr: harness.FreeAddr(cl.t, "127.0.0.1"),
		PeerTLS: cl.ca.issue(cl.t, filepath.Join(dir, "pki"), serverCN), AllowedCN: serverCN,
	}
}

// run starts a member and waits until it is ready.
func (cl *cluster) run(cfg control.Config) *node {
	cl.t.Helper()
	n := &node{cfg: cfg}
	n.ctl, n.stop = start(cl.t, cfg, control.Deps{Logger: testLog(cfg.NodeID)})
	cl.nodes[cfg.NodeID] = n
	return n
}

// first founds the cluster.
func (cl *cluster) first() *node { return cl.run(cl.config("n1")) }

// join adds a member with the help of one that is there.
func (cl *cluster) join(via *node, id string) *node {
	cl.t.Helper()
	cfg := cl.config(id)
	initial, err := via.ctl.AddLearner(cl.t.Context(), id, cfg.PeerAddr)
	require.NoError(cl.t, err)
	cfg.Join, cfg.Initial = true, initial
	return cl.run(cfg)
}

func member(t testing.TB, ms []control.ControlMember, id string) control.ControlMember {
	t.Helper()
	i := slices.IndexFunc(ms, func(m control.ControlMember) bool { return m.NodeID == id })
	require.GreaterOrEqual(t, i, 0, "no member %s in %+v", id, ms)
	return ms[i]
}

// voters waits until n sees that number of voters, all healthy.
func (cl *cluster) voters(n *node, want int) []control.ControlMember {
	cl.t.Helper()
	var ms []control.ControlMember
	require.EventuallyWithT(cl.t, func(ct *assert.CollectT) {
		var err error
		ms, err = n.ctl.Members(cl.t.Context())
		require.NoError(ct, err)
		got := 0
		for _, m := range ms {
			if !m.Learner && m.Healthy {
				got++
			}
		}
		require.Equal(ct, want, got, "%+v", ms)
	}, 30*time.Second, 50*time.Millisecond)
	return ms
}

func put(t testing.TB, n *node, key string) int64 {
	t.Helper()
	rev, err := n.ctl.Put(t.Context(), key, []byte("v"), model.KVAny)
	require.NoError(t, err)
	return rev
}

func (n *node) has(key string) bool {
	_, err := n.ctl.Get(context.Background(), key)
	return err == nil
}

// everywhere waits until all nodes have the key.
func (cl *cluster) everywhere(key string) {
	cl.t.Helper()
	for id, n := range cl.nodes {
		require.Eventually(cl.t, func() bool { return n.has(key) }, 30*time.Second, 20*time.Millisecond, "%s on %s", key, id)
	}
}

func TestGrowFromOneToThree(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	put(t, n1, "before")
	n2 := cl.join(n1, "n2")
	require.True(t, n2.has("before") || cl.t.Failed())

	ms, err := n1.ctl.Members(t.Context())
	require.NoError(t, err)
	m := member(t, ms, "n2")
	require.True(t, m.Learner && m.Started, "%+v", m)
	require.Eventually(t, func() bool {
		ms, err := n1.ctl.Members(t.Context())
		return err == nil && member(t, ms, "n2").Healthy && member(t, ms, "n2").Note != ""
	}, 30*time.Second, 50*time.Millisecond, "why it has no vote is said")
	put(t, n2, "through a learner")
	require.True(t, n2.has("through a learner"), "a writer reads what it wrote")
	require.True(t, n2.ctl.Status(t.Context()).Learner)

	n3 := cl.join(n2, "n3") // by the learner
	ms = cl.voters(n1, 3)
	require.Equal(t, "n1", n3.ctl.Leader())
	require.True(t, member(t, ms, "n1").Leader && member(t, ms, "n1").Self)
	require.NotEmpty(t, member(t, ms, "n3").ClientURL)
	put(t, n3, "after")
	cl.everywhere("after")

	initial, err := n2.ctl.AddLearner(t.Context(), "n3", n3.cfg.PeerAddr)
	require.NoError(t, err, "asking again is harmless")
	require.Len(t, initial, 3)
	_, err = n2.ctl.AddLearner(t.Context(), "n9", n3.cfg.PeerAddr)
	require.ErrorIs(t, err, model.ErrConflict)
}

func TestTwoJoinAtOnce(t *testing.T) {
	cl := newCluster(t)
	n1 := cl.first()
	cfgs := []control.Config{cl.config("n2"), cl.config("n3")}
	for i := range cfgs { // both added before either starts
		initial, err := n1.ctl.AddLearner(t.Context(), cfgs[i].NodeID, cfgs[i].PeerAddr)
		require.NoError(t, err)
		cfgs[i].Join, cfgs[i].Initial = true, initial
	}
	_, err := n1.ctl.AddLearner(t.Context(), "n4", harness.FreeAddr(t, "127.0.0.1"))
	require.ErrorIs(t, err, model.ErrLimit)
	var wg sync.WaitGroup
	nodes := make([]*node, 2)
	for i, cfg := range cfgs {
		wg.Go(func() {
			c, err := control.New(cfg, control.Deps{})
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- c.Run(ctx) }()
			t.Cleanup(func() {
				cancel()
				require.NoError(t, <-done)
			})
			select {
			case <-c.Ready():
			case <-time.After(30 * time.Second):
				t.Error("not ready", fmt.Sprint(c.Writable()))
			}
			nodes[i] = &node{cfg: cfg, ctl: c}
		})
	}
	wg.Wait()
	cl.voters(n1, 3)
}

// testLog is silent unless CONTROL_TEST_LOG is set.
func testLog(node string) *slog.Logger {
	if os.Getenv("CONTROL_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", node)
}
