package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/cluster"
	"panoptes/internal/model"
)

// childEnv makes this test binary a member: "id seed,seed".
const childEnv = "PANOPTES_TEST_CLUSTER_MEMBER"

func TestMain(m *testing.M) {
	if s := os.Getenv(childEnv); s != "" {
		os.Exit(child(s))
	}
	code := m.Run()
	// A probe of the library that is on its way ends by itself, after a second or,
	// on a busy machine, some more.
	var leak error
	for began := time.Now(); time.Since(began) < 20*time.Second; {
		if leak = goleak.Find(); leak == nil {
			break
		}
	}
	if leak != nil && code == 0 {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

func child(s string) int {
	id, seeds, _ := strings.Cut(s, " ")
	c, err := cluster.New(cluster.Config{NodeID: id, ClusterID: "c1", Bind: "127.0.0.1:0", Key: key},
		cluster.Deps{Seeds: func() []string { return strings.Split(seeds, ",") }})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Println(c.Addr())
	go func() {
		// Says what it thinks of itself when it has been paused.
		for last := time.Now(); ; last = time.Now() {
			<-time.After(5 * time.Millisecond)
			if time.Since(last) > time.Second {
				fmt.Println("woke", c.Isolated())
			}
		}
	}()
	if err := c.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// TestDetectionTimes measures the promises with the intervals that are used in
// earnest: three members, of which one is a process that really is killed or paused.
func TestDetectionTimes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes real seconds")
	}
	for _, fault := range []string{"kill", "pause", "cut", "terminate"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, 0, 2)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"=third "+strings.Join(g.seeds, ","))
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			var addr string
			_, err = fmt.Fscanln(out, &addr)
			require.NoError(t, err)
			for _, s := range g.all {
				g.eventually(func() bool { return state(s, "third") == model.MemberAlive && len(s.Alive()) == 3 }, "all three are there")
			}
			a := g.all[0]
			began := time.Now()
			switch fault {
			case "kill":
				require.NoError(t, cmd.Process.Kill())
			case "pause":
				require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
			case "terminate":
				require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
				g.eventually(func() bool { return state(a, "third") == model.MemberLeft }, "it said goodbye")
				t.Logf("left after %v", time.Since(began).Round(time.Millisecond))
				return
			case "cut":
				// Its own packets still arrive: n1 and n2 stop listening instead by
				// being cut off from each other and from it.
				cut(g.all[:1], g.all[1:])
				for _, s := range g.all[:1] {
					s.Cut(func(string, string) bool { return true })
				}
				a = g.all[1]
			}
			id := "third"
			if fault == "cut" {
				id = "n1"
			}
			var first model.MemberState
			g.eventually(func() bool { first = state(a, id); return first != model.MemberAlive }, "suspect")
			suspect := time.Since(began)
			g.eventually(func() bool { return state(a, id) == model.MemberDead }, "dead")
			dead := time.Since(began)
			t.Logf("%s: suspect after %v, dead after %v", fault, suspect.Round(time.Millisecond), dead.Round(time.Millisecond))
			// Else this machine was too busy to measure anything.
			steady := func() bool { return counter(t, a, "panoptes_cluster_stalls_total") == 0 }
			if steady() {
				require.Equal(t, model.MemberSuspect, first)
				require.Less(t, suspect, 2*time.Second)
				require.Less(t, dead, 5*time.Second)
			}
			began = time.Now()
			switch fault {
			case "kill":
				return
			case "pause":
				require.NoError(t, cmd.Process.Signal(syscall.SIGCONT))
				var woke string
				var isolated bool
				_, err = fmt.Fscanln(out, &woke, &isolated)
				require.NoError(t, err)
				if steady() { // or it tells of another pause
					require.True(t, isolated, "what it knows is old until somebody answers")
				}
			case "cut":
				heal(g.all)
			}
			g.eventually(func() bool { return state(a, id) == model.MemberAlive }, "alive again")
			t.Logf("%s: alive again after %v", fault, time.Since(began).Round(time.Millisecond))
			if steady() {
				require.Less(t, time.Since(began), 5*time.Second)
			}
		})
	}
}

func TestLossyNetworkDoesNotFlap(t *testing.T) {
	g := newGroup(t, calm, 3)
	for _, s := range g.all {
		s.Cut(func(network, _ string) bool { return network == "udp" && rand.IntN(10) == 0 })
	}
	g.never(func() bool {
		return slices.ContainsFunc(g.all, func(s *server) bool { return len(s.Alive()) != 3 || s.Isolated() })
	}, "a lost packet in ten is no reason")
}

// TestStrangersCannotExhaust opens streams without the key.
func TestStrangersCannotExhaust(t *testing.T) {
	g := newGroup(t, fast, 2)
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	for range 100 {
		c, err := net.Dial("tcp", g.all[0].Addr())
		require.NoError(t, err)
		conns = append(conns, c)
	}
	g.eventually(func() bool { return counter(t, g.all[0], "panoptes_cluster_streams_refused_total") > 0 }, "most are refused")
	g.eventually(func() bool { return len(g.all[0].Alive()) == 2 }, "members are not disturbed")
	u, err := net.Dial("udp", g.all[0].Addr())
	require.NoError(t, err)
	conns = append(conns, u)
	for i := range 200 {
		_, _ = u.Write(make([]byte, i))
	}
	g.eventually(func() bool { return counter(t, g.all[0], "panoptes_cluster_library_complaints_total") > 0 }, "noise is counted")
	g.eventually(func() bool { return len(g.all[0].Alive()) == 2 }, "members are not disturbed")
}

func TestMetadataThatDoesNotFit(t *testing.T) {
	m := model.Member{Name: "n1", Region: "eu", Role: model.RoleServer, Version: "1.0.0", Load: 1, Labels: map[string]string{"a": strings.Repeat("x", 600)},
		Addresses: model.Addresses{Cluster: "[2001:db8::1]:9701", HTTP: "http://[2001:db8::1]:9700"}}
	b, whole := cluster.EncodeMeta(m)
	require.False(t, whole)
	require.LessOrEqual(t, len(b), 512)
	got, err := cluster.DecodeMeta(b)
	require.NoError(t, err)
	m.Labels = nil
	require.Equal(t, m, got)
	m.Name = strings.Repeat("n", 600)
	b, whole = cluster.EncodeMeta(m)
	require.False(t, whole)
	got, err = cluster.DecodeMeta(b)
	require.NoError(t, err)
	require.Equal(t, m.Addresses.Cluster, got.Addresses.Cluster)
}

// FuzzMessage gives a member what only the holder of the key could send: it may
// be damaged all the same, or of another version.
func FuzzMessage(f *testing.F) {
	f.Add(cluster.ABeat("x", "127.0.0.1:1", 7, "y", "z"), []byte{1})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 1, 5, 'n', 'o', 't', 'e', 's', 'h', 'i'}, []byte{1, 5, 'n', 'o', 't', 'e', 's', 2, 'h', 'i'})
	f.Add([]byte{9}, []byte{1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	m, _ := cluster.EncodeMeta(model.Member{Name: "n", Labels: map[string]string{"k": "v"}})
	f.Add(m, m)
	c, err := cluster.New(cluster.Config{NodeID: "a", Bind: "127.0.0.1:0", Key: key}, cluster.Deps{})
	require.NoError(f, err)
	f.Cleanup(func() { _ = c.Close() })
	c.Part("notes", cluster.Part{State: func() ([]byte, error) { return nil, nil }, Merge: func([]byte) error { return nil }})
	f.Fuzz(func(t *testing.T, msg, state []byte) {
		c.FuzzMessage(msg, state)
		got, err := cluster.DecodeMeta(msg)
		if err != nil {
			return
		}
		// What was understood survives being passed on.
		b, whole := cluster.EncodeMeta(got)
		if !whole {
			return
		}
		again, err := cluster.DecodeMeta(b)
		require.NoError(t, err)
		require.Equal(t, got.Name, again.Name)
		require.Equal(t, got.Labels, again.Labels)
	})
}
