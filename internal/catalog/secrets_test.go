package catalog_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/catalog"
	"panoptes/internal/model"
)

// onDisk says whether any file below dir holds the text.
func onDisk(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte(text)) {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func TestSecretsAreSealedAtRest(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir)
	ctx := t.Context()
	rec, err := f.Create(ctx, "", "sink", j(`{"name":"hook","note":"visible-note","hook":{"url":"https://secret-url","headers":{"Authorization":"secret-token"}},"hooks":[{"url":"https://secret-list"}]}`))
	require.NoError(t, err)
	require.Contains(t, string(rec.Spec), "secret-token", "in clear inside the process")
	_, err = f.Create(ctx, "", "person", j(`{"name":"alice","password":"secret-word"}`))
	require.NoError(t, err)
	f.stop()
	require.NotEmpty(t, onDisk(t, filepath.Join(dir, "control"), "visible-note"), "the search works")
	require.FileExists(t, filepath.Join(dir, "catalog.json"))
	require.Empty(t, onDisk(t, dir, "secret-"))
	st, err := os.Stat(filepath.Join(dir, "secret.key"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), st.Mode().Perm())
	for _, e := range f.audits() {
		require.NotContains(t, string(e.Data), "secret-")
		require.NotContains(t, string(e.Data), "hash")
	}
	require.NotContains(t, f.log.String(), "secret-token")

	f = start(t, dir)
	got, err := f.Get("sink", "hook")
	require.NoError(t, err)
	require.JSONEq(t, string(rec.Spec), string(got.Spec), "and back after a restart")
	red := f.Redact(got)
	require.JSONEq(t, `{"name":"hook","note":"visible-note","hook":{"url":"<redacted>","headers":{"Authorization":"<redacted>"}},"hooks":[{"url":"<redacted>"}]}`, string(red.Spec))
	p, err := f.Get("person", "alice")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"alice"}`, string(f.Redact(p).Spec), "hidden fields are not even mentioned")
}

func TestSealedSecretsCannotBeMoved(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir)
	ctx := t.Context()
	a, err := f.Create(ctx, "", "sink", j(`{"name":"a","hook":{"url":"https://secret-a"}}`))
	require.NoError(t, err)
	b, err := f.Create(ctx, "", "sink", j(`{"name":"b","hook":{"url":"https://b"}}`))
	require.NoError(t, err)
	kv, err := f.store.Get(ctx, "/panoptes/record/sink/"+a.ID)
	require.NoError(t, err)
	moved := bytes.Replace(kv.Value, []byte(`"name":"a"`), []byte(`"name":"b"`), 2)
	_, err = f.store.Put(ctx, "/panoptes/record/sink/"+b.ID, moved, model.KVAny)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		got, err := f.Get("sink", "b")
		return err == nil && got.Revision > b.Revision
	}, 30*time.Second, time.Millisecond)
	got, err := f.Get("sink", "b")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"b","hook":{"url":""}}`, string(got.Spec), "the record lives, the foreign secret does not")
	require.Contains(t, f.log.String(), "hook.url")
}

func TestRedactedKeepsTheSecret(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	_, err := f.Create(ctx, "", "sink", j(`{"name":"s","hook":{"url":"u0","headers":{"A":"a","B":"b"}},"hooks":[{"url":"u1","method":"GET"},{"url":"u2","method":"POST"}]}`))
	require.NoError(t, err)
	put := func(spec, want string) {
		t.Helper()
		_, err := f.Update(ctx, "", "sink", "s", json.RawMessage(spec), 0)
		require.NoError(t, err)
		got, err := f.Get("sink", "s")
		require.NoError(t, err)
		require.JSONEq(t, want, string(got.Spec))
	}
	put(`{"name":"s","hook":{"url":"<redacted>","headers":{"A":"<redacted>","B":"new"}},"hooks":[{"url":"<redacted>","method":"GET"},{"url":"<redacted>","method":"POST"}]}`,
		`{"name":"s","hook":{"url":"u0","headers":{"A":"a","B":"new"}},"hooks":[{"url":"u1","method":"GET"},{"url":"u2","method":"POST"}]}`)
	// Entries of a list are recognised, not counted.
	put(`{"name":"s","hook":{"url":"<redacted>"},"hooks":[{"url":"<redacted>","method":"POST"},{"url":"<redacted>","method":"GET"}]}`,
		`{"name":"s","hook":{"url":"u0"},"hooks":[{"url":"u2","method":"POST"},{"url":"u1","method":"GET"}]}`)
	put(`{"name":"s","hook":{"url":"<redacted>"},"hooks":[{"url":"<redacted>","method":"PUT"},{"url":"<redacted>","method":"GET"}]}`,
		`{"name":"s","hook":{"url":"u0"},"hooks":[{"url":"u2","method":"PUT"},{"url":"u1","method":"GET"}]}`)
	put(`{"name":"s","hook":{},"hooks":[{"url":"<redacted>","method":"GET"}]}`, `{"name":"s","hook":{},"hooks":[{"url":"u1","method":"GET"}]}`)
	// One that cannot be told is refused.
	_, err = f.Update(ctx, "", "sink", "s", j(`{"name":"s","hook":{},"hooks":[{"url":"<redacted>","method":"X"},{"url":"<redacted>","method":"Y"}]}`), 0)
	require.Equal(t, "hooks[0].url", fieldOf(t, err))
	_, err = f.Update(ctx, "", "sink", "s", j(`{"name":"s","hook":{"url":"<redacted>"}}`), 0)
	require.Equal(t, "hook.url", fieldOf(t, err), "it was removed before")
	// Patches, too.
	rec, err := f.Patch(ctx, "", "sink", "s", j(`{"note":"n","hooks":[{"url":"<redacted>","method":"GET"}]}`), 0)
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"s","note":"n","hook":{},"hooks":[{"url":"u1","method":"GET"}]}`, string(rec.Spec))
}

func TestHiddenFieldsStay(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	_, err := f.Create(ctx, "", "person", j(`{"name":"alice","password":"pw"}`))
	require.NoError(t, err)
	want := func(hash string) {
		t.Helper()
		rec, err := f.Get("person", "alice")
		require.NoError(t, err)
		var p person
		require.NoError(t, json.Unmarshal(rec.Spec, &p))
		require.Equal(t, hash, p.Hash)
		require.Empty(t, p.Password)
	}
	want("hash-of-pw")
	_, err = f.Update(ctx, "", "person", "alice", j(`{"name":"alice","role":"admin"}`), 0)
	require.NoError(t, err)
	want("hash-of-pw")
	_, err = f.Patch(ctx, "", "person", "alice", j(`{"password":"new"}`), 0)
	require.NoError(t, err)
	want("hash-of-new")
	docs, err := f.Export([]string{"person"})
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"alice","role":"admin"}`, string(docs[0].Spec))
	changes, err := f.Apply(ctx, "", docs, false)
	require.NoError(t, err)
	require.Equal(t, catalog.OpNone, changes[0].Op)
	want("hash-of-new")
	_, err = f.Patch(ctx, "", "person", "alice", j(`{"hash":null}`), 0)
	require.NoError(t, err)
	want("")
}
