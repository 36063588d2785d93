package catalog_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/catalog"
	"panoptes/internal/control"
	"panoptes/internal/model"
)

// deadStore is a store that never gets ready, as without a majority.
func deadStore(t *testing.T) *control.Control {
	t.Helper()
	c, err := control.New(control.Config{
		Dir: t.TempDir(), NodeID: "n1", ClusterID: "test", ReserveBytes: 1 << 20, MinFreeBytes: 1 << 20,
		Initial: []control.Member{{NodeID: "n2", Addr: "127.0.0.1:1"}, {NodeID: "n3", Addr: "127.0.0.1:2"}},
	}, control.Deps{})
	require.NoError(t, err)
	return c
}

func waitReady(t *testing.T, f *fixture) {
	t.Helper()
	select {
	case <-f.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("not ready in 10s")
	}
}

func TestStartsWithoutTheStore(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir)
	ctx := t.Context()
	_, err := f.Create(ctx, "", "sink", j(`{"name":"hook","hook":{"url":"https://secret"}}`))
	require.NoError(t, err)
	_, err = f.Create(ctx, "", "site", j(`{"name":"shop","target":"x"}`))
	require.NoError(t, err)
	want, wantSites := f.List("sink"), f.List("site")
	f.stop()

	dead := deadStore(t)
	g := open(t, dir, dead, running(t, dead))
	waitReady(t, g)
	require.Empty(t, cmp.Diff(want, g.List("sink")), "secrets included")
	require.Empty(t, cmp.Diff(wantSites, g.List("site")))
	require.ErrorIs(t, g.Writable(), model.ErrUnavailable)
	_, err = g.Create(ctx, "", "site", j(`{"name":"new","target":"x"}`))
	require.ErrorIs(t, err, model.ErrUnavailable)
	_, err = g.Apply(ctx, "", []catalog.Doc{{Kind: "site", Name: "new", Spec: j(`{"target":"x"}`)}}, true)
	require.NoError(t, err, "planning works")
	g.stop()

	// With the store back, what changed meanwhile is told, and nothing else.
	store, stop := newStore(t, filepath.Join(dir, "control"))
	h := open(t, t.TempDir(), store, func() {}) // a server elsewhere, with another key: sites have no secrets
	h.waitWritable(t)
	_, err = h.Patch(ctx, "", "site", "shop", j(`{"every":5}`), 0)
	require.NoError(t, err)
	k := open(t, dir, store, stop)
	k.waitWritable(t)
	rec, err := k.Get("site", "shop")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"shop","target":"x","every":5}`, string(rec.Spec))
	rec, err = k.Get("sink", "hook")
	require.NoError(t, err)
	require.Contains(t, string(rec.Spec), "https://secret")
	rec, err = h.Get("sink", "hook")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"hook","hook":{"url":""}}`, string(rec.Spec), "another key opens nothing")
	k.stop()
}

func TestRecordsDeletedWhileAwayGo(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir)
	ctx := t.Context()
	for _, n := range []string{"a", "b"} {
		_, err := f.Create(ctx, "", "site", j(`{"name":%q,"target":"x"}`, n))
		require.NoError(t, err)
	}
	f.stop()
	saved, err := os.ReadFile(filepath.Join(dir, "catalog.json"))
	require.NoError(t, err)
	f = start(t, dir)
	require.NoError(t, f.Delete(ctx, "", "site", "a", 0))
	f.stop()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "catalog.json"), saved, 0o600))

	store, stop := newStore(t, filepath.Join(dir, "control"))
	f = open(t, dir, store, stop)
	f.waitWritable(t)
	require.Len(t, f.List("site"), 1)
	require.Equal(t, "b", f.List("site")[0].Name)
	f.stop()
}

func TestTornLastSeenFileIsIgnored(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir)
	_, err := f.Create(t.Context(), "", "site", j(`{"name":"shop","target":"torn-target"}`))
	require.NoError(t, err)
	f.stop()
	file := filepath.Join(dir, "catalog.json")
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	for name, torn := range map[string][]byte{
		"cut":     whole[:len(whole)/2],
		"empty":   {},
		"zeroes":  make([]byte, len(whole)),
		"changed": bytes.Replace(whole, []byte("torn-target"), []byte("torn-tarGet"), 1),
		"newer":   []byte(`{"sha256":"","body":{"version":2}}`),
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, whole, torn)
			require.NoError(t, os.WriteFile(file, torn, 0o600))
			store, stop := newStore(t, filepath.Join(dir, "control"))
			g := open(t, dir, store, stop)
			g.waitWritable(t)
			require.Contains(t, g.log.String(), "last seen configuration ignored")
			require.Len(t, g.List("site"), 1, "the store has it")
			g.stop()
			again, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, lastRecords(t, whole), lastRecords(t, again), "and the copy is whole again")
		})
	}
}

func TestWrongKeyFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	require.NoError(t, os.WriteFile(key, []byte("short"), 0o600))
	cfg := catalog.Config{LastSeenPath: filepath.Join(dir, "c.json"), KeyPath: key}
	_, err := catalog.New(cfg, catalog.Deps{Store: deadStore(t), Kinds: kinds()})
	require.ErrorContains(t, err, "32")
	require.NoError(t, os.WriteFile(key, bytes.Repeat([]byte("k"), 32), 0o644))
	require.NoError(t, os.Chmod(key, 0o644))
	_, err = catalog.New(cfg, catalog.Deps{Store: deadStore(t), Kinds: kinds()})
	require.NoError(t, err)
	st, err := os.Stat(key)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, st.Mode().Perm(), "closed to others")
}

func TestFullDiskIsSaid(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 40)
	dir := t.TempDir()
	store, err := control.New(control.Config{Dir: filepath.Join(dir, "control"), NodeID: "n1", ClusterID: "test", ReserveBytes: 1 << 20, MinFreeBytes: 1 << 20},
		control.Deps{FreeSpace: func(string) (int64, error) { return free.Load(), nil }})
	require.NoError(t, err)
	f := open(t, dir, store, running(t, store))
	f.waitWritable(t)
	free.Store(1<<20 - 1)
	_, err = f.Create(t.Context(), "", "site", j(`{"name":"a","target":"x"}`))
	require.ErrorIs(t, err, model.ErrNoSpace)
	free.Store(1 << 40)
	_, err = f.Create(t.Context(), "", "site", j(`{"name":"a","target":"x"}`))
	require.NoError(t, err)
	f.stop()
}

// Whatever is done, the catalog is what a plain map says, also after a restart.
func TestAgainstAModel(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir)
	ctx := t.Context()
	names := []string{"a", "b", "c", "d"}
	want := map[string]string{} // name to target
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			name := rapid.SampledFrom(names).Draw(rt, "name")
			target := fmt.Sprint("t", rapid.IntRange(0, 9).Draw(rt, "target"))
			old, there := want[name]
			switch rapid.SampledFrom([]string{"create", "update", "patch", "rename", "delete", "apply"}).Draw(rt, "op") {
			case "create":
				_, err := f.Create(ctx, "", "site", j(`{"name":%q,"target":%q}`, name, target))
				require.Equal(rt, there, err != nil)
				if !there {
					want[name] = target
				}
			case "update":
				_, err := f.Update(ctx, "", "site", name, j(`{"name":%q,"target":%q}`, name, target), 0)
				require.Equal(rt, there, err == nil)
				if there {
					want[name] = target
				}
			case "patch":
				_, err := f.Patch(ctx, "", "site", name, j(`{"target":%q}`, target), 0)
				require.Equal(rt, there, err == nil)
				if there {
					want[name] = target
				}
			case "rename":
				to := rapid.SampledFrom(names).Draw(rt, "to")
				_, taken := want[to]
				free := there && (!taken || to == name)
				_, err := f.Patch(ctx, "", "site", name, j(`{"name":%q}`, to), 0)
				require.Equal(rt, free, err == nil)
				if free {
					delete(want, name)
					want[to] = old
				}
			case "delete":
				err := f.Delete(ctx, "", "site", name, 0)
				require.Equal(rt, there, err == nil)
				delete(want, name)
			case "apply":
				_, err := f.Apply(ctx, "", []catalog.Doc{{Kind: "site", Name: name, Spec: j(`{"target":%q}`, target)}}, false)
				require.NoError(rt, err)
				want[name] = target
			}
		}
		equal(rt, f, want)
	})
	f.stop()
	f = start(t, dir)
	equal(t, f, want)
	f.stop()
}

func equal(t require.TestingT, f *fixture, want map[string]string) {
	got := map[string]string{}
	for _, r := range f.List("site") {
		got[r.Name] = targetOf(r)
	}
	require.Empty(t, cmp.Diff(want, got))
}

// An empty store never wipes out the last copy of the records.
func TestEmptyStoreKeepsTheLastSeenCopy(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir)
	_, err := f.Create(t.Context(), "", "site", j(`{"name":"shop","target":"x"}`))
	require.NoError(t, err)
	f.stop()
	want, err := os.ReadFile(filepath.Join(dir, "catalog.json"))
	require.NoError(t, err)

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "control")))
	g := start(t, dir)
	require.Empty(t, g.List("site"))
	_, err = g.Create(t.Context(), "", "site", j(`{"name":"other","target":"x"}`))
	require.NoError(t, err)
	g.stop()
	kept, err := filepath.Glob(filepath.Join(dir, "catalog.json.before-*"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	got, err := os.ReadFile(kept[0])
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))

	start(t, dir).stop()
	kept, err = filepath.Glob(filepath.Join(dir, "catalog.json.before-*"))
	require.NoError(t, err)
	require.Len(t, kept, 1, "a store with records sets nothing aside")
}

// lastRecords returns the records of a last seen copy: its revision rises with
// what the store keeps for itself.
func lastRecords(t *testing.T, file []byte) string {
	t.Helper()
	var f struct {
		Body struct {
			Records json.RawMessage `json:"records"`
		} `json:"body"`
	}
	require.NoError(t, json.Unmarshal(file, &f))
	require.NotEmpty(t, f.Body.Records)
	return string(f.Body.Records)
}
