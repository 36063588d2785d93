package catalog_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/catalog"
	"panoptes/internal/model"
)

func ops(changes []catalog.Change) (out []string) {
	for _, ch := range changes {
		out = append(out, ch.Op+" "+ch.Kind+"/"+ch.Name)
	}
	return out
}

func TestApply(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	// In the wrong order on purpose; the name may stand beside the spec.
	docs := []catalog.Doc{
		{Kind: "node", Name: "leaf", Spec: j(`{"sink":"hook","parent":"root"}`)},
		{Kind: "site", Name: "b", Spec: j(`{"target":"x","parent":"a"}`)},
		{Kind: "node", Name: "root", Spec: j(`{"name":"root","sink":"hook"}`)},
		{Kind: "sink", Spec: j(`{"name":"hook","hook":{"url":"secret-1"}}`)},
		{Kind: "site", Name: "a", Spec: j(`{"target":"x"}`)},
	}
	want := []string{"create node/leaf", "create site/b", "create node/root", "create sink/hook", "create site/a"}

	plan, err := f.Apply(ctx, "", docs, true)
	require.NoError(t, err)
	require.Equal(t, want, ops(plan))
	require.Empty(t, f.List("site"), "a dry run writes nothing")
	require.Contains(t, plan[3].Diff, "+  url: <redacted>")
	require.NotContains(t, plan[3].Diff, "secret")

	changes, err := f.Apply(ctx, "user/alice", docs, false)
	require.NoError(t, err)
	require.Equal(t, want, ops(changes))
	require.Len(t, f.audits(), len(docs))
	for _, d := range docs {
		_, err := f.Get(d.Kind, map[bool]string{true: d.Name, false: "hook"}[d.Name != ""])
		require.NoError(t, err)
	}

	again, err := f.Apply(ctx, "", docs, false)
	require.NoError(t, err)
	for _, ch := range again {
		require.Equal(t, catalog.OpNone, ch.Op, ch.Name)
		require.Empty(t, ch.Diff)
	}
	require.Len(t, f.audits(), len(docs))

	docs[1].Spec = j(`{"target":"z","parent":"a"}`)
	docs[3].Spec = j(`{"name":"hook","hook":{"url":"secret-2"}}`)
	changes, err = f.Apply(ctx, "", docs, false)
	require.NoError(t, err)
	require.Equal(t, []string{"none node/leaf", "update site/b", "none node/root", "update sink/hook", "none site/a"}, ops(changes))
	require.Empty(t, cmp.Diff(strings.Join([]string{
		"--- site/b", "+++ site/b", "@@ -1,4 +1,4 @@", " every: 60", " name: b", " parent: a", "-target: x", "+target: z", "",
	}, "\n"), changes[1].Diff))
	require.Equal(t, "# only secrets change\n", changes[3].Diff)
	rec, err := f.Get("sink", "hook")
	require.NoError(t, err)
	require.Contains(t, string(rec.Spec), "secret-2")
}

func TestApplyWritesAllOrNothingOfWhatIsWrong(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	check := func(want []string, docs ...catalog.Doc) {
		t.Helper()
		_, err := f.Apply(ctx, "", docs, false)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		var got []string
		for _, fe := range inv {
			got = append(got, fe.Field)
		}
		require.Empty(t, cmp.Diff(want, got))
		require.Empty(t, f.List("site"))
		require.Empty(t, f.List("node"))
	}
	good := catalog.Doc{Kind: "site", Name: "good", Spec: j(`{"target":"x"}`)}
	check([]string{"documents[1].spec.target"}, good, catalog.Doc{Kind: "site", Name: "bad", Spec: j(`{}`)})
	check([]string{"documents[1].kind", "documents[2].spec"}, good, catalog.Doc{Kind: "what"}, catalog.Doc{Kind: "site", Name: "x", Spec: j(`[]`)})
	check([]string{"documents[1].name"}, good, good)
	check([]string{"documents[0].spec.name"}, catalog.Doc{Kind: "site", Name: "a", Spec: j(`{"name":"b","target":"x"}`)})
	check([]string{"documents[1].spec.sink"}, good, catalog.Doc{Kind: "node", Name: "root", Spec: j(`{"sink":"nobody"}`)})
	check([]string{"documents[0].spec.hook.url"}, catalog.Doc{Kind: "sink", Name: "s", Spec: j(`{"hook":{"url":"<redacted>"}}`)})
	// What Normalize learns from its view is the combined result: two roots.
	_, err := f.Apply(ctx, "", []catalog.Doc{
		{Kind: "node", Name: "r1", Spec: j(`{}`)}, {Kind: "node", Name: "r2", Spec: j(`{}`)},
	}, false)
	require.Error(t, err)
	require.Empty(t, f.List("node"))
	_, err = f.Apply(ctx, "", make([]catalog.Doc, catalog.MaxDocs+1), false)
	require.ErrorIs(t, err, model.ErrTooLarge)
}

func TestManyReferencesInOneRecord(t *testing.T) {
	f := start(t, t.TempDir())
	var docs []catalog.Doc
	for i := range 300 {
		docs = append(docs, catalog.Doc{Kind: "site", Name: fmt.Sprintf("s%03d", i), Spec: j(`{"target":"x","parent":"s%03d"}`, min(i+1, 299))})
	}
	_, err := f.Apply(t.Context(), "", docs, false)
	require.NoError(t, err, "a chain of parents, each after the one it needs")
	require.Len(t, f.List("site"), 300)
	require.ErrorIs(t, f.Delete(t.Context(), "", "site", "s150", 0), model.ErrConflict)
	require.NoError(t, f.Delete(t.Context(), "", "site", "s000", 0))
}

func TestExportIsWhatApplyTakes(t *testing.T) {
	f := start(t, t.TempDir())
	ctx := t.Context()
	_, err := f.Apply(ctx, "", []catalog.Doc{
		{Kind: "node", Name: "a-leaf", Spec: j(`{"parent":"z-root","sink":"hook"}`)},
		{Kind: "node", Name: "z-root", Spec: j(`{"sink":"hook"}`)},
		{Kind: "sink", Name: "hook", Spec: j(`{"hook":{"url":"secret"}}`)},
		{Kind: "person", Name: "alice", Spec: j(`{"password":"secret"}`)},
	}, false)
	require.NoError(t, err)
	docs, err := f.Export(nil)
	require.NoError(t, err)
	var names []string
	for _, d := range docs {
		names = append(names, d.Kind+"/"+d.Name)
		require.NotContains(t, string(d.Spec), "secret")
		require.NotContains(t, string(d.Spec), "hash")
	}
	require.Equal(t, []string{"sink/hook", "node/z-root", "node/a-leaf", "person/alice"}, names)
	changes, err := f.Apply(ctx, "", docs, false)
	require.NoError(t, err)
	for _, ch := range changes {
		require.Equal(t, catalog.OpNone, ch.Op)
	}
	_, err = f.Export([]string{"site", "what"})
	require.Equal(t, "kind[1]", fieldOf(t, err))
}

// BenchmarkApply10000 creates ten thousand records at once.
func BenchmarkApply10000(b *testing.B) {
	f := start(b, b.TempDir())
	round := 0
	for b.Loop() {
		round++
		docs := make([]catalog.Doc, 10_000)
		for i := range docs {
			docs[i] = catalog.Doc{Kind: "site", Name: fmt.Sprintf("r%d-%05d", round, i), Spec: j(`{"target":"https://shop.example/%d","labels":{"team":"web"}}`, i)}
		}
		_, err := f.Apply(b.Context(), "", docs, false)
		require.NoError(b, err)
	}
}

// BenchmarkPatch changes one of a thousand records again and again.
func BenchmarkPatch(b *testing.B) {
	f := start(b, b.TempDir())
	var docs []catalog.Doc
	for i := range 1000 {
		docs = append(docs, catalog.Doc{Kind: "site", Name: fmt.Sprint("s", i), Spec: j(`{"target":"x"}`)})
	}
	_, err := f.Apply(b.Context(), "", docs, false)
	require.NoError(b, err)
	began, n := time.Now(), 0
	for b.Loop() {
		n++
		_, err := f.Patch(b.Context(), "", "site", "s7", j(`{"every":%d}`, n+100), 0)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "writes/s")
}

func FuzzPatchKeepsSecrets(f *testing.F) {
	for _, s := range [][2]string{
		{`{"hook":{"url":"s"}}`, `{"hook":{"url":"<redacted>"}}`},
		{`{"hooks":[{"url":"s1","method":"a"},{"url":"s2"}]}`, `{"hooks":[{"url":"<redacted>"}]}`},
		{`{"hook":{"headers":{"a":"s","b/~":"t"}}}`, `{"hook":{"headers":{"b/~":"<redacted>","a":null}}}`},
		{`{"hook":{"url":["s"]}}`, `{"hook":"<redacted>"}`},
		{`{"a":{"b":1}}`, `{"a":{"b":null},"c":[{}]}`},
		{`{"hooks":{"x":{"url":"s"}}}`, `[]`},
		{`{"hook":{"url":""}}`, `{"":"0"}}`},
	} {
		f.Add([]byte(s[0]), []byte(s[1]))
	}
	f.Fuzz(func(t *testing.T, spec, patch []byte) {
		old, err := decode(spec)
		if err != nil {
			return
		}
		merged, err := catalog.MergeForTest(kinds()[2], spec, patch)
		if err != nil {
			return
		}
		tree, err := decode(merged)
		require.NoError(t, err, "%s", merged)
		// No text may appear that neither the record nor the patch had.
		had := map[string]bool{}
		texts(old, had)
		if p, err := decode(patch); err == nil {
			texts(p, had)
		}
		now := map[string]bool{}
		texts(tree, now)
		for s := range now {
			require.True(t, had[s], "%q came from nowhere", s)
		}
		// Where secrets are, none is left that only stands for one.
		require.NotContains(t, secretValues(tree), model.Redacted, "%s", merged)
		// Redacting and keeping is the identity.
		kept, err := catalog.KeepForTest(kinds()[2], catalog.RedactForTest(kinds()[2], merged), merged)
		if err == nil {
			require.JSONEq(t, string(merged), string(kept))
		}
		// Sealing and opening, too.
		opened, rest, err := catalog.SealForTest(kinds()[2], merged)
		require.NoError(t, err)
		require.JSONEq(t, string(merged), string(opened))
		for _, s := range secretValues(tree) {
			if s != "" {
				require.NotContains(t, secretValues(must(decode(rest))), s)
			}
		}
	})
}

func must(v any, err error) any {
	if err != nil {
		panic(err)
	}
	return v
}

func decode(raw []byte) (v any, err error) {
	err = json.Unmarshal(raw, &v)
	return v, err
}

func texts(v any, into map[string]bool) {
	switch v := v.(type) {
	case string:
		into[v] = true
	case []any:
		for _, e := range v {
			texts(e, into)
		}
	case map[string]any:
		for _, e := range v {
			texts(e, into)
		}
	}
}

// secretValues collects the texts at hook.url, hook.headers.* and in hooks.
func secretValues(tree any) (out []string) {
	hook := func(v any) {
		h, _ := v.(map[string]any)
		if s, ok := h["url"].(string); ok {
			out = append(out, s)
		}
		headers, _ := h["headers"].(map[string]any)
		for _, e := range headers {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
	}
	m, _ := tree.(map[string]any)
	hook(m["hook"])
	list, _ := m["hooks"].([]any)
	for _, e := range list {
		hook(e)
	}
	return out
}
