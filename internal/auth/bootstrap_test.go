package auth_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/auth"
	"panoptes/internal/model"
)

func TestBootstrap(t *testing.T) {
	b := setUp(t)
	require.NoError(t, b.auth.Bootstrap(t.Context()))
	path := filepath.Join(b.dir, "initial-admin-password")
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	password := strings.TrimSpace(string(data))
	require.Contains(t, b.out.String(), password)
	l, err := b.login("admin", password)
	require.NoError(t, err)
	require.Equal(t, "admin", l.Identity.Role)

	b.out.Reset()
	b.open()
	require.NoError(t, b.auth.Bootstrap(t.Context()))
	require.Empty(t, b.out.String(), "printed once")
	require.Len(t, b.cat.List(model.KindUser), 1)
	require.FileExists(t, path)

	_, err = b.auth.ChangePassword(t.Context(), b.cookie(l.Token), "another horse", model.Credentials{Password: password})
	require.NoError(t, err)
	require.NoFileExists(t, path)
}

func TestBootstrapFromTheEnvironment(t *testing.T) {
	with := func(key string) func(*auth.Config) {
		return func(c *auth.Config) { c.AdminPassword, c.APIKey = "chosen horse", key }
	}
	b := setUp(t, with("first-secret-key"))
	require.NoError(t, b.auth.Bootstrap(t.Context()))
	require.NoFileExists(t, filepath.Join(b.dir, "initial-admin-password"))
	require.Empty(t, b.out.String())
	_, err := b.login("admin", "chosen horse")
	require.NoError(t, err)
	id, err := b.as("Authorization", "Bearer first-secret-key")
	require.NoError(t, err)
	require.Equal(t, "admin", id.Role)

	b.open(with("second-secret-key"))
	require.NoError(t, b.auth.Bootstrap(t.Context()))
	_, err = b.as("Authorization", "Bearer first-secret-key")
	require.ErrorIs(t, err, model.ErrUnauthorized)
	_, err = b.as("Authorization", "Bearer second-secret-key")
	require.NoError(t, err)
}

func TestNormalizeUser(t *testing.T) {
	normalize := func(spec, old string) (model.User, error) {
		var was json.RawMessage
		if old != "" {
			was = json.RawMessage(old)
		}
		b, err := auth.NormalizeUser(json.RawMessage(spec), was)
		var u model.User
		if err == nil {
			require.NoError(t, json.Unmarshal(b, &u))
		}
		return u, err
	}
	u, err := normalize(`{"name":"a","role":"viewer","password":"correct horse","epoch":-5}`, "")
	require.NoError(t, err)
	require.Empty(t, u.Password.Reveal())
	require.True(t, auth.VerifyPassword(u.PasswordHash.Reveal(), "correct horse"))
	old, err := json.Marshal(u)
	require.NoError(t, err)

	for _, c := range []struct {
		spec   string
		raised bool
	}{
		{`{"name":"a","role":"viewer"}`, false}, // PUT of what was shown
		{`{"name":"a","role":"viewer","password":"correct horse"}`, false},
		{`{"name":"a","role":"viewer","password":"<redacted>"}`, false},
		{`{"name":"a","role":"viewer","password":"another horse"}`, true},
		{`{"name":"a","role":"admin"}`, true},
		{`{"name":"a","role":"viewer","totp_secret":"JBSWY3DPEHPK3PXP"}`, true},
	} {
		v, err := normalize(c.spec, string(old))
		require.NoError(t, err, c.spec)
		require.NotEmpty(t, v.PasswordHash.Reveal(), c.spec)
		require.Equal(t, c.raised, v.Epoch > u.Epoch, c.spec)
	}
	again, err := auth.NormalizeUser(old, nil)
	require.NoError(t, err)
	require.JSONEq(t, string(old), string(again), "what is normal stays as it is")
	for spec, field := range map[string]string{
		`{"name":"a","role":"viewer"}`:                                                          "password",
		`{"name":"a","role":"king","password":"correct horse"}`:                                 "role",
		`{"name":"a","role":"viewer","password":"short"}`:                                       "password",
		`{"name":"a:b","role":"viewer","password":"correct horse"}`:                             "name",
		`{"name":"a","role":"viewer","password":"correct horse","language":"fr"}`:               "language",
		`{"name":"a","role":"viewer","shoe":1}`:                                                 "shoe",
		`{"name":"a","role":"viewer","password_hash":"$argon2id$v=19$m=9999999,t=2,p=1$a$b"}`:   "password_hash",
		`{"name":"a","role":"viewer","password":"correct horse","totp_secret":"not base32 !!"}`: "totp_secret",
	} {
		_, err := normalize(spec, "")
		var inv model.Invalid
		require.ErrorAs(t, err, &inv, spec)
		require.Equal(t, field, inv[0].Field, spec)
	}
}
