package control_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

// gapLimit is promised; the race detector and a busy machine take their share.
const gapLimit = 3 * time.Second

func TestLeaderIsLost(t *testing.T) {
	for _, how := range []struct {
		name  string
		limit time.Duration
		do    func(*child)
	}{
		{"killed", gapLimit, func(k *child) { k.kill() }},
		{"paused", gapLimit, func(k *child) { k.signal(syscall.SIGSTOP) }},
		{"stopped", time.Second, func(k *child) { k.stop() }},
	} {
		t.Run(how.name, func(t *testing.T) {
			gap := time.Hour
			for try := 0; try < 4 && gap > how.limit && !t.Failed(); try++ { // of a busy machine the best try counts
				t.Run(fmt.Sprint("try ", try+1), func(t *testing.T) { gap = loseLeader(t, how.name, how.do) })
			}
			require.Less(t, gap, how.limit)
		})
	}
}

// loseLeader tells for how long no write was acknowledged. None is lost.
func loseLeader(t *testing.T, name string, do func(*child)) time.Duration {
	f := newFamily(t, 3)
	lead, _ := f.leader("n1")
	var rest []*child
	for _, k := range f.all() {
		if k != lead {
			rest = append(rest, k)
		}
	}
	l := startLoad(t, func() []*child { return rest })
	l.more(50)
	at := time.Now()
	do(lead)
	l.more(100)
	gap := l.gap(at)
	t.Logf("leader %s: %s without an acknowledged write", name, gap.Round(time.Millisecond))
	back := lead
	if name == "paused" {
		lead.signal(syscall.SIGCONT)
	} else {
		back = spawn(t, lead.cfg).ready()
	}
	l.more(20)
	l.check(append(rest, back)...)
	return gap
}

func TestMajorityLostAndBack(t *testing.T) {
	f := newFamily(t, 3)
	n1, n2, n3 := f.kids["n1"], f.kids["n2"], f.kids["n3"]
	n1.must(request{Do: "move", ID: "n1"})
	n1.must(request{Do: "put", Key: "a", Value: "1", Expect: model.KVAny})
	n2.signal(syscall.SIGSTOP)
	n3.kill()

	require.Eventually(t, func() bool {
		_, err := n1.do(request{Do: "writable"})
		return errors.Is(err, model.ErrUnavailable) && strings.Contains(err.Error(), "n2, n3")
	}, 30*time.Second, 50*time.Millisecond, "a leader that was cut off says so and names who is missing")
	began := time.Now()
	_, err := n1.do(request{Do: "put", Key: "a", Value: "2", Expect: model.KVAny, Timeout: 3 * time.Second})
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.Contains(t, err.Error(), "n2, n3")
	require.Less(t, time.Since(began), 8*time.Second, "it ends with the time given")
	a := n1.must(request{Do: "get", Key: "a"})
	require.Equal(t, "1", a.Value, "reading goes on")
	a = n1.must(request{Do: "members"})
	require.False(t, member(t, a.Members, "n3").Healthy)

	n2.signal(syscall.SIGCONT)
	require.Eventually(t, func() bool {
		_, err := n1.do(request{Do: "put", Key: "a", Value: "3", Expect: model.KVAny, Timeout: time.Second})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond)
	spawn(t, n3.cfg).ready()
}

func TestAllKilledAndBack(t *testing.T) {
	f := newFamily(t, 3)
	l := startLoad(t, f.all)
	l.more(100)
	for _, k := range f.all() {
		k.kill()
	}
	l.stop()
	var back []*child
	for _, k := range f.all() {
		back = append(back, spawn(t, k.cfg))
	}
	began := time.Now()
	for _, k := range back {
		k.ready()
	}
	t.Logf("ready %s after the restart of all", time.Since(began).Round(time.Millisecond))
	l.check(back...)
}

func TestGrowAndShrinkUnderLoad(t *testing.T) {
	f := newFamily(t, 1)
	l := startLoad(t, func() []*child { return []*child{f.kids["n1"]} })
	l.more(20)
	for _, id := range []string{"n2", "n3"} {
		f.join("n1", id)
	}
	f.voters("n1", 3)

	// One that is killed in the middle of joining asks again and goes on.
	cfg := f.config("n4")
	cfg.Join = true
	cfg.Initial = f.kids["n1"].must(request{Do: "add", ID: "n4", Addr: cfg.PeerAddr}).Initial
	for _, at := range []string{"begin", "member/snap/db", "member/wal/*.wal"} {
		k := spawn(t, cfg)
		require.Eventually(t, func() bool {
			found, err := filepath.Glob(filepath.Join(cfg.Dir, at))
			return err == nil && len(found) > 0
		}, 30*time.Second, time.Millisecond)
		k.kill()
		require.NoError(t, checkDir(t, cfg.Dir), "an interrupted start is no damage")
		cfg.Initial = f.kids["n2"].must(request{Do: "add", ID: "n4", Addr: cfg.PeerAddr}).Initial
	}
	f.kids["n4"] = spawn(t, cfg).ready()
	f.join("n1", "n5")
	f.voters("n1", 5)
	l.more(20)

	// The leader goes, a dead one is removed, one removes itself: three are left.
	_, err := f.kids["n1"].do(request{Do: "add", ID: "n6", Addr: f.config("n6").PeerAddr})
	require.NoError(t, err)
	_, err = f.kids["n1"].do(request{Do: "remove", ID: "n6"})
	require.NoError(t, err, "one that never started")
	f.kids["n5"].kill()
	f.kids["n1"].must(request{Do: "remove", ID: "n5"})
	f.kids["n4"].must(request{Do: "remove", ID: "n4"})
	require.Eventually(t, func() bool {
		_, err := f.kids["n4"].do(request{Do: "writable"})
		return err != nil && strings.Contains(err.Error(), "removed from the cluster")
	}, 30*time.Second, 50*time.Millisecond)
	f.voters("n1", 3)
	gone := spawn(t, f.kids["n5"].cfg) // it was away when it was removed
	require.Eventually(t, func() bool {
		_, err := gone.do(request{Do: "writable"})
		return err != nil && strings.Contains(err.Error(), "removed from the cluster")
	}, 20*time.Second, 50*time.Millisecond)
	gone.stop()
	gone = spawn(t, f.kids["n5"].cfg)
	require.Eventually(t, func() bool {
		_, err := gone.do(request{Do: "writable"})
		return err != nil && strings.Contains(err.Error(), "removed from the cluster")
	}, 30*time.Second, 20*time.Millisecond, "it knows after a restart")

	// A machine is replaced: the same address, another node.
	f.kids["n3"].kill()
	f.kids["n1"].must(request{Do: "remove", ID: "n3"})
	again := f.config("n3b")
	again.PeerAddr, again.ClientAddr, again.Join = f.kids["n3"].cfg.PeerAddr, f.kids["n3"].cfg.ClientAddr, true
	again.Initial = f.kids["n2"].must(request{Do: "add", ID: "n3b", Addr: again.PeerAddr}).Initial
	f.kids["n3b"] = spawn(t, again).ready()
	f.voters("n1", 3)
	l.more(20)
	l.check(f.kids["n1"], f.kids["n2"], f.kids["n3b"])
}
