package alert_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/notify"
)

// TestThreeServersNotifyOnce gives every alert to three servers that tell each
// other what they sent.
// What stands still for longer than the others wait is told by them, too.
func TestThreeServersNotifyOnce(t *testing.T) {
	want := map[string]int{"shop firing": 1, "shop resolved": 1, "later firing": 1}
	var got map[string]int
	for try := 0; try < 4 && !maps.Equal(want, got); try++ {
		got = toldByThree(t)
	}
	require.Equal(t, want, got)
}

// toldByThree counts what was told of each check.
func toldByThree(t *testing.T) map[string]int {
	h := newHook(t)
	var nodes [3]*alert.Alerting
	type news struct {
		part string
		b    []byte
	}
	var inbox [3]chan news
	for i := range inbox {
		inbox[i] = make(chan news, 1000)
	}
	done := make(chan error, 3)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range nodes {
		n, err := notify.New(notify.Config{}, notify.Deps{})
		require.NoError(t, err)
		nodes[i], err = alert.New(alert.Config{Dir: t.TempDir()}, alert.Deps{
			Receivers: n, Position: func() int { return i }, PeerTimeout: 300 * time.Millisecond,
			Broadcast: func(part string, b []byte) {
				for j := range inbox {
					if j != i {
						inbox[j] <- news{part, append([]byte(nil), b...)}
					}
				}
			},
		})
		require.NoError(t, err)
		require.NoError(t, nodes[i].Update([]model.Receiver{webhook("hook", h.URL)}, []model.Route{routeTo("hook")}, nil, nil))
		go func() { done <- nodes[i].Run(ctx) }()
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case m := <-inbox[i]:
					_ = nodes[i].Merge(m.part, m.b)
				}
			}
		}()
	}
	// A silence made on one mutes on all.
	_, err := nodes[2].SetSilence(t.Context(), alert.Silence{Matchers: []string{`check="quiet"`}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "x", Comment: "x"})
	require.NoError(t, err)
	for _, n := range nodes {
		require.Eventually(t, func() bool {
			s, err := n.Silences(t.Context())
			return err == nil && len(s) == 1
		}, soon, 5*time.Millisecond)
	}
	told := func() map[string]int {
		count := map[string]int{}
		for _, m := range h.messages() {
			for _, a := range m.Alerts {
				count[a.Labels["check"]+" "+a.Status]++
			}
		}
		return count
	}
	since := time.Now().Add(-time.Second)
	for _, n := range nodes {
		require.NoError(t, n.Put(t.Context(), firing("shop", since), firing("quiet", since)))
	}
	require.Eventually(t, func() bool { return told()["shop firing"] > 0 }, soon, 5*time.Millisecond)
	for _, n := range nodes {
		require.NoError(t, n.Put(t.Context(), resolved("shop", since)))
	}
	require.Eventually(t, func() bool { return told()["shop resolved"] > 0 }, soon, 5*time.Millisecond)
	// All have had their turn when a later alert has been through all of them.
	for _, n := range nodes {
		require.NoError(t, n.Put(t.Context(), firing("later", since)))
	}
	require.Eventually(t, func() bool { return told()["later firing"] > 0 }, soon, 5*time.Millisecond)
	cancel()
	for range nodes {
		require.NoError(t, <-done)
	}
	return told()
}

func TestSnapshotThatFailsLosesNothing(t *testing.T) {
	h := newHook(t)
	dir := t.TempDir()
	r := startWith(t, alert.Config{Dir: dir, SnapshotInterval: 20 * time.Millisecond})
	rec, routes := []model.Receiver{webhook("hook", h.URL)}, []model.Route{routeTo("hook")}
	require.NoError(t, r.Update(rec, routes, nil, nil))
	since := time.Now().Add(-time.Second)
	require.NoError(t, r.Put(t.Context(), firing("a", since)))
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "nflog"))
		return err == nil && len(h.messages()) == 1
	}, soon, 5*time.Millisecond)
	// From now on no snapshot can be written: a directory stands in its place.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "nflog.tmp")))
	require.Eventually(t, func() bool { return os.Mkdir(filepath.Join(dir, "nflog.tmp"), 0o700) == nil }, soon, time.Millisecond)
	require.NoError(t, r.Put(t.Context(), firing("b", since)))
	require.Eventually(t, func() bool { return len(h.messages()) == 2 }, soon, 5*time.Millisecond)
	require.Eventually(t, func() bool { return kept(t, dir, "b") }, soon, 5*time.Millisecond)
	// The journal is moved aside while it is copied: a copy of one instant has all.
	var dead string
	require.Eventually(t, func() bool {
		dead = t.TempDir()
		return os.CopyFS(dead, os.DirFS(dir)) == nil && kept(t, dead, "a") && kept(t, dead, "b")
	}, soon, time.Millisecond)
	require.NoError(t, os.Remove(filepath.Join(dir, "nflog.tmp")))
	require.NoError(t, os.Remove(filepath.Join(dead, "nflog.tmp")))
	r.stop()

	again := start(t, dead)
	require.NoError(t, again.Update(rec, routes, nil, nil))
	require.NoError(t, again.Put(t.Context(), firing("a", since), firing("b", since), firing("c", since)))
	require.Eventually(t, func() bool { return len(h.messages()) == 3 }, soon, 5*time.Millisecond)
	again.stop()
	require.Equal(t, "c", h.messages()[2].Alerts[0].Labels["check"])
}

// kept reports whether the snapshot or a journal has the entry of a check.
func kept(t *testing.T, dir, check string) bool {
	for _, f := range []string{"nflog", "nflog.journal", "nflog.journal.old"} {
		if b, err := os.ReadFile(filepath.Join(dir, f)); err == nil && bytes.Contains(b, []byte(`check="`+check+`"`)) {
			return true
		}
	}
	return false
}

func TestDamagedFilesAreSetAside(t *testing.T) {
	h := newHook(t)
	dir := t.TempDir()
	for _, f := range []string{"nflog", "silences", "nflog.journal", "silences.journal", "alerts.json"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), []byte("\x05damaged beyond repair"), 0o600))
	}
	r := start(t, dir)
	require.NoError(t, r.Update([]model.Receiver{webhook("hook", h.URL)}, []model.Route{routeTo("hook")}, nil, nil))
	require.NoError(t, r.Put(t.Context(), firing("a", time.Now().Add(-time.Second))))
	require.Eventually(t, func() bool { return len(h.messages()) == 1 }, soon, 5*time.Millisecond)
	aside, err := filepath.Glob(filepath.Join(dir, "*.damaged-*"))
	require.NoError(t, err)
	require.Len(t, aside, 2)
}

// BenchmarkStorm measures from 1,000 alerts in to 1,000 notifications out, each
// in the log on disk.
func BenchmarkStorm(b *testing.B) {
	h := newHook(b)
	n, err := notify.New(notify.Config{}, notify.Deps{})
	require.NoError(b, err)
	a, err := alert.New(alert.Config{Dir: b.TempDir()}, alert.Deps{Receivers: n})
	require.NoError(b, err)
	require.NoError(b, a.Update([]model.Receiver{webhook("hook", h.URL)}, []model.Route{routeTo("hook")}, nil, nil))
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	round := 0
	for b.Loop() {
		round++
		since := time.Now().Add(-time.Second)
		list := make([]alert.Alert, 1000)
		for i := range list {
			list[i] = firing(fmt.Sprintf("check-%d-%d", round, i), since)
		}
		require.NoError(b, a.Put(ctx, list...))
		require.Eventually(b, func() bool { return len(h.messages()) == 1000*round }, time.Minute, time.Millisecond)
	}
	cancel()
	require.NoError(b, <-done)
}
