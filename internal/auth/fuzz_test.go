package auth_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/auth"
)

func FuzzAuthenticate(f *testing.F) {
	for _, s := range []string{"Bearer pnk_a_b", "Basic YTpi", "Bearer ", "basic", "Digest x", "Bearer\tx"} {
		f.Add(s, "panoptes_session=abc")
	}
	f.Add("", `panoptes_session="a;b"; x=y`)
	a, err := auth.New(auth.Config{DataDir: f.TempDir()}, auth.Deps{Catalog: &memCatalog{}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, header, cookie string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Authorization"] = []string{header}
		r.Header["Cookie"] = []string{cookie}
		if id, _ := a.Authenticate(r, "192.0.2.1"); id != nil {
			t.Fatalf("%q %q opened %+v", header, cookie, id)
		}
	})
}

func FuzzSessionFile(f *testing.F) {
	f.Add([]byte(`{"put":{"hash":"a","user_id":"u"}}` + "\n" + `{"delete":"a"}` + "\n" + `{"put":{"ha`))
	f.Add([]byte("\x00\n{}\n"))
	f.Add([]byte(`{"put":{"hash":"a","user_id":"u"}}` + "\n" + `{"delete":"a","ended":"2026-01-02T03:04:05Z"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "sessions")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		s := auth.NewFileStore(path)
		before, ended, err := s.Load()
		require.NoError(t, err)
		require.NoError(t, s.Put(auth.Session{Hash: "new"}))
		require.NoError(t, s.Close())
		after, still, err := auth.NewFileStore(path).Load()
		require.NoError(t, err)
		require.Len(t, still, len(ended))
		require.True(t, slices.ContainsFunc(after, func(s auth.Session) bool { return s.Hash == "new" }))
		require.GreaterOrEqual(t, len(after), len(before))
	})
}

func FuzzVerifyPassword(f *testing.F) {
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=4294967295,t=2,p=255$$")
	f.Fuzz(func(t *testing.T, phc string) {
		if len(phc) < 200 && !strings.Contains(phc, "m=2") { // large costs are slow, not wrong
			auth.VerifyPassword(phc, "x")
		}
	})
}

func BenchmarkHashPassword(b *testing.B) {
	for b.Loop() {
		auth.HashPassword("correct horse battery staple")
	}
}
