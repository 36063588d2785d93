package catalog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/catalog"
	"panoptes/internal/control"
	"panoptes/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a catalog over a real store.
type fixture struct {
	*catalog.Catalog
	dir    string
	store  *control.Control
	log    *syncBuffer
	stop   func() // both
	audits func() []model.Event
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// newStore runs a store until the test ends or stop is called.
func newStore(t testing.TB, dir string) (c *control.Control, stop func()) {
	t.Helper()
	c, err := control.New(control.Config{Dir: dir, NodeID: "n1", ClusterID: "test", ReserveBytes: 1 << 20, MinFreeBytes: 1 << 20}, control.Deps{})
	require.NoError(t, err)
	stop = running(t, c)
	<-c.Ready()
	return c, stop
}

func running(t testing.TB, r interface{ Run(context.Context) error }) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

func open(t testing.TB, dir string, store *control.Control, stopStore func()) *fixture {
	t.Helper()
	f := &fixture{dir: dir, store: store, log: &syncBuffer{}}
	var mu sync.Mutex
	var events []model.Event
	c, err := catalog.New(
		catalog.Config{LastSeenPath: filepath.Join(dir, "catalog.json"), KeyPath: filepath.Join(dir, "secret.key")},
		catalog.Deps{
			Store: store, Kinds: kinds(), Logger: slog.New(slog.NewTextHandler(f.log, nil)),
			Audit: func(_ context.Context, e ...model.Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, e...)
			},
		})
	require.NoError(t, err)
	f.Catalog = c
	f.audits = func() []model.Event {
		mu.Lock()
		defer mu.Unlock()
		return append([]model.Event(nil), events...)
	}
	stopCatalog := running(t, c)
	f.stop = func() { stopCatalog(); stopStore() }
	return f
}

// start runs a catalog and its store in dir and waits until it is writable.
func start(t testing.TB, dir string) *fixture {
	t.Helper()
	store, stop := newStore(t, filepath.Join(dir, "control"))
	f := open(t, dir, store, stop)
	f.waitWritable(t)
	return f
}

func (f *fixture) waitWritable(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return f.Writable() == nil }, 30*time.Second, 5*time.Millisecond)
	<-f.Ready()
}

func j(format string, args ...any) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(format, args...))
}

func fieldOf(t testing.TB, err error) string {
	t.Helper()
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	return inv[0].Field
}

func TestLifeOfARecord(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()

	rec, err := f.Create(ctx, "user/alice", "site", j(`{"name":"shop","target":"https://shop"}`))
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"shop","target":"https://shop","every":60}`, string(rec.Spec))
	require.Len(t, rec.ID, 26)
	require.Positive(t, rec.Revision)

	// Visible at once, by name and by id.
	for _, key := range []string{"shop", rec.ID} {
		got, err := f.Get("site", key)
		require.NoError(t, err)
		require.Equal(t, rec, got)
	}
	gen := f.Generation()

	// The same name again.
	_, err = f.Create(ctx, "", "site", j(`{"name":"shop","target":"x"}`))
	require.ErrorIs(t, err, model.ErrConflict)
	require.Equal(t, gen, f.Generation())

	// Replace, with and without the revision seen.
	up, err := f.Update(ctx, "user/alice", "site", "shop", j(`{"name":"shop","target":"https://new"}`), rec.Revision)
	require.NoError(t, err)
	require.Greater(t, up.Revision, rec.Revision)
	require.Equal(t, rec.Created, up.Created)
	require.Greater(t, f.Generation(), gen)
	_, err = f.Update(ctx, "", "site", "shop", j(`{"name":"shop","target":"x"}`), rec.Revision)
	require.ErrorIs(t, err, model.ErrRevision)
	// A revision from the future is one that has not arrived here, not a conflict.
	_, err = f.Update(ctx, "", "site", "shop", j(`{"name":"shop","target":"x"}`), up.Revision+1000)
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.NotErrorIs(t, err, model.ErrRevision)

	// Patch and rename; the id stays.
	p, err := f.Patch(ctx, "", "site", rec.ID, j(`{"name":"store","every":null,"labels":{"team":"web"}}`), up.Revision)
	require.NoError(t, err)
	require.Equal(t, rec.ID, p.ID)
	require.JSONEq(t, `{"name":"store","target":"https://new","every":60,"labels":{"team":"web"}}`, string(p.Spec))
	_, err = f.Get("site", "shop")
	require.ErrorIs(t, err, model.ErrNotFound)
	other, err := f.Create(ctx, "", "site", j(`{"name":"shop","target":"x"}`))
	require.NoError(t, err, "the old name is free")
	require.NotEqual(t, rec.ID, other.ID)
	_, err = f.Patch(ctx, "", "site", "store", j(`{"name":"shop"}`), 0)
	require.ErrorIs(t, err, model.ErrConflict)

	// A change that changes nothing writes nothing.
	same, err := f.Patch(ctx, "", "site", "store", j(`{"every":60}`), 0)
	require.NoError(t, err)
	require.Equal(t, p.Revision, same.Revision)

	var names []string
	for _, r := range f.List("site") {
		names = append(names, r.Name)
	}
	require.Equal(t, []string{"shop", "store"}, names)

	require.ErrorIs(t, f.Delete(ctx, "", "site", "store", rec.Revision), model.ErrRevision)
	require.NoError(t, f.Delete(ctx, "", "site", "store", p.Revision))
	_, err = f.Get("site", rec.ID)
	require.ErrorIs(t, err, model.ErrNotFound)
	require.ErrorIs(t, f.Delete(ctx, "", "site", "store", 0), model.ErrNotFound)

	var codes []string
	for _, e := range f.audits() {
		require.Equal(t, model.EventAudit, e.Kind)
		codes = append(codes, e.Code+" "+e.Name+" "+e.Actor)
	}
	require.Equal(t, []string{
		"record.created shop user/alice", "record.updated shop user/alice", "record.updated store system",
		"record.created shop system", "record.deleted store system",
	}, codes)
}

func TestRefusesWhatIsWrong(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	invalid := func(kind, spec, field string) {
		t.Helper()
		_, err := f.Create(ctx, "", kind, json.RawMessage(spec))
		require.Equal(t, field, fieldOf(t, err))
	}
	invalid("site", `{"name":"a"}`, "target")
	invalid("site", `{"name":"a","target":"x","tarjet":"x"}`, "tarjet")
	invalid("site", `{"name":"","target":"x"}`, "name")
	invalid("site", `{"name":"01ARZ3NDEKTSV4RRFFQ69G5FAV","target":"x"}`, "name")
	invalid("site", `{"name":"a","target":"x","parent":"nobody"}`, "parent")
	invalid("site", `[1]`, "")
	invalid("site", `{`, "")
	invalid("sink", `{"name":"a","hook":{"url":"<redacted>"}}`, "hook.url")
	_, err := f.Create(ctx, "", "site", j(`{"name":"a","target":"%s"}`, strings.Repeat("x", catalog.MaxSpecBytes)))
	require.ErrorIs(t, err, model.ErrTooLarge)
	_, err = f.Create(ctx, "", "nothing", j(`{}`))
	require.ErrorIs(t, err, model.ErrNotFound)
	_, err = f.Patch(ctx, "", "site", "a", j(`{}`), 0)
	require.ErrorIs(t, err, model.ErrNotFound)
	require.Empty(t, f.List("site"))
	require.Empty(t, f.audits())
}

func TestReferences(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	s, err := f.Create(ctx, "", "sink", j(`{"name":"hook","hook":{"url":"https://h"}}`))
	require.NoError(t, err)
	byName, err := f.Create(ctx, "", "node", j(`{"name":"root","sink":"hook"}`))
	require.NoError(t, err)

	err = f.Delete(ctx, "", "sink", "hook", 0)
	require.ErrorIs(t, err, model.ErrConflict)
	require.ErrorContains(t, err, `node "root"`)
	_, err = f.Patch(ctx, "", "sink", "hook", j(`{"name":"other"}`), 0)
	require.ErrorIs(t, err, model.ErrConflict, "it is referred to by this name")

	_, err = f.Patch(ctx, "", "node", "root", j(`{"sink":%q}`, s.ID), 0)
	require.NoError(t, err)
	_, err = f.Patch(ctx, "", "sink", "hook", j(`{"name":"other"}`), 0)
	require.NoError(t, err, "referred to by id it may be renamed")
	require.ErrorIs(t, f.Delete(ctx, "", "sink", "other", 0), model.ErrConflict)

	require.NoError(t, f.Delete(ctx, "", "node", byName.ID, 0))
	require.NoError(t, f.Delete(ctx, "", "sink", "other", 0))
}

// Deleting a record while others begin to refer to it never leaves a dangling reference.
func TestReferencesUnderRace(t *testing.T) {
	dir := t.TempDir()
	store, stop := newStore(t, filepath.Join(dir, "control"))
	a := open(t, dir, store, func() {})
	b := open(t, dir, store, stop) // another server over the same store, with the same key
	a.waitWritable(t)
	b.waitWritable(t)
	ctx := t.Context()
	for i := range 15 {
		parent := fmt.Sprintf("p%d", i)
		rec, err := a.Create(ctx, "", "site", j(`{"name":%q,"target":"x"}`, parent))
		require.NoError(t, err)
		require.Eventually(t, func() bool { _, err := b.Get("site", rec.ID); return err == nil }, 30*time.Second, time.Millisecond)
		var wg sync.WaitGroup
		var createErr, deleteErr error
		wg.Go(func() {
			_, createErr = b.Create(ctx, "", "site", j(`{"name":"c%d","target":"x","parent":%q}`, i, parent))
		})
		wg.Go(func() { deleteErr = a.Delete(ctx, "", "site", parent, 0) })
		wg.Wait()
		require.True(t, (createErr == nil) != (deleteErr == nil), "exactly one wins: create %v, delete %v", createErr, deleteErr)
		if createErr != nil {
			require.Equal(t, "parent", fieldOf(t, createErr))
		} else {
			require.ErrorIs(t, deleteErr, model.ErrConflict)
		}
	}
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	dir := t.TempDir()
	store, stop := newStore(t, filepath.Join(dir, "control"))
	servers := []*fixture{open(t, dir, store, func() {}), open(t, dir, store, stop)}
	for _, s := range servers {
		s.waitWritable(t)
	}
	ctx := t.Context()
	_, err := servers[0].Create(ctx, "", "site", j(`{"name":"n","target":"x","every":1}`))
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err := servers[1].Get("site", "n"); return err == nil }, 30*time.Second, time.Millisecond)
	const writers, each = 6, 10
	var wg sync.WaitGroup
	for w := range writers {
		s := servers[w%2]
		wg.Go(func() {
			for i := range each {
				// One label of its own without a revision: never overtaken for good.
				if _, err := s.Patch(ctx, "", "site", "n", j(`{"labels":{"w%d_%d":"1"}}`, w, i), 0); err != nil {
					t.Error(err)
				}
				// A counter with the revision seen: read, write, or begin again.
				for {
					rec, err := s.Get("site", "n")
					if err != nil {
						t.Error(err)
						return
					}
					var v site
					_ = json.Unmarshal(rec.Spec, &v)
					if _, err = s.Patch(ctx, "", "site", "n", j(`{"every":%d}`, v.Every+1), rec.Revision); err == nil {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool {
		rec, err := servers[0].Get("site", "n")
		require.NoError(t, err)
		var v site
		require.NoError(t, json.Unmarshal(rec.Spec, &v))
		return v.Every == 1+writers*each && len(v.Labels) == writers*each
	}, 30*time.Second, 5*time.Millisecond)
}

func TestNamesAreUniqueUnderRace(t *testing.T) {
	f := start(t, t.TempDir())
	for i := range 5 {
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for w := range errs {
			wg.Go(func() { _, errs[w] = f.Create(t.Context(), "", "site", j(`{"name":"n%d","target":"%d"}`, i, w)) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				require.ErrorIs(t, err, model.ErrConflict)
			}
		}
		require.Equal(t, 1, won)
	}
	require.Len(t, f.List("site"), 5)
}

func TestSubscribersSeeEveryChangeInOrder(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	var mu sync.Mutex
	var got []string
	cancel := f.Subscribe(func(ch catalog.Change) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, ch.Op+" "+ch.Name)
	})
	block := make(chan struct{})
	f.Subscribe(func(catalog.Change) { <-block }) // holds up nobody
	var want []string
	for i := range 20 {
		name := fmt.Sprintf("s%d", i)
		_, err := f.Create(ctx, "", "site", j(`{"name":%q,"target":"x"}`, name))
		require.NoError(t, err)
		_, err = f.Patch(ctx, "", "site", name, j(`{"every":5}`), 0)
		require.NoError(t, err)
		require.NoError(t, f.Delete(ctx, "", "site", name, 0))
		want = append(want, "create "+name, "update "+name, "delete "+name)
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == len(want)
	}, 30*time.Second, time.Millisecond)
	require.Equal(t, want, got)
	cancel()
	_, err := f.Create(ctx, "", "site", j(`{"name":"late","target":"x"}`))
	require.NoError(t, err)
	close(block)
	f.stop()
	require.Len(t, got, len(want))
}
