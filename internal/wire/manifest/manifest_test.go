package manifest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/wire/manifest"
)

func TestVersions(t *testing.T) {
	order := []string{"0.9", "1.0.0-alpha", "1.0.0-rc.2", "v1.0.0-rc.10", "1.0.0", "v1.0.0-3-gabcdef0", "1.0.0-12-gabcdef0-dirty", "1.0.1", "1.2.0", "1.10.0", "v2.0.0"}
	for i, a := range order {
		for j, b := range order {
			x, err := manifest.ParseVersion(a)
			require.NoError(t, err)
			y, err := manifest.ParseVersion(b)
			require.NoError(t, err)
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, x.Compare(y), "%s and %s", a, b)
		}
	}
	for _, bad := range []string{"", "dev", "b4359d7", "1", "1.2.3.4", "1.2.x", "1.2.3-", "99999999999.1.1", "../../etc"} {
		_, err := manifest.ParseVersion(bad)
		require.Error(t, err, bad)
	}
}

func sample() manifest.Manifest {
	return manifest.Manifest{Version: "1.2.0", DowngradeFrom: []string{"1.3.0"}, Files: []manifest.File{
		{Platform: manifest.Platform{OS: "linux", Arch: "amd64"}, Size: 5, SHA256: strings.Repeat("ab", 32)},
	}}
}

func TestWhoMayTakeIt(t *testing.T) {
	m := sample()
	for have, ok := range map[string]bool{"1.1.9": true, "dev": true, "1.2.0": false, "v1.2.0": false, "1.2.1": false, "1.3.0": true, "1.3.1": false} {
		if ok {
			require.NoError(t, m.May(have), have)
		} else {
			require.Error(t, m.May(have), have)
		}
	}
}

func TestSignatures(t *testing.T) {
	pub, priv, err := manifest.NewKey()
	require.NoError(t, err)
	key, err := manifest.PublicKey(pub)
	require.NoError(t, err)
	secret, err := manifest.PrivateKey(priv + "\n")
	require.NoError(t, err)
	b, err := json.Marshal(sample())
	require.NoError(t, err)
	sig := manifest.Sign(secret, b)
	m, err := manifest.Verify(key, b, sig)
	require.NoError(t, err)
	require.Equal(t, "1.2.0", m.Version)

	_, err = manifest.Verify(key, append(b, ' '), sig)
	require.ErrorIs(t, err, manifest.ErrSignature, "the exact bytes")
	for _, s := range []string{"", "rubbish", string(sig[:40]), strings.Repeat("A", 5000)} {
		_, err = manifest.Verify(key, b, []byte(s))
		require.Error(t, err, s)
	}
	other, _, err := manifest.NewKey()
	require.NoError(t, err)
	key2, err := manifest.PublicKey(other)
	require.NoError(t, err)
	_, err = manifest.Verify(key2, b, sig)
	require.ErrorIs(t, err, manifest.ErrSignature)
	_, err = manifest.PublicKey("AAAA")
	require.ErrorContains(t, err, "keygen")
	_, err = manifest.PrivateKey("AAAA")
	require.ErrorContains(t, err, "keygen")
}

func TestFaultsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*manifest.Manifest){
		"version":         func(m *manifest.Manifest) { m.Version = "latest" },
		"files: must":     func(m *manifest.Manifest) { m.Files = nil },
		"files[0]":        func(m *manifest.Manifest) { m.Files[0].OS = "../.." },
		"files[0].size":   func(m *manifest.Manifest) { m.Files[0].Size = 1 << 40 },
		"files[0].sha256": func(m *manifest.Manifest) { m.Files[0].SHA256 = "x" },
		"twice":           func(m *manifest.Manifest) { m.Files = append(m.Files, m.Files[0]) },
	} {
		m := sample()
		change(&m)
		require.ErrorContains(t, m.Validate(), want)
	}
}

func FuzzParse(f *testing.F) {
	b, err := json.Marshal(sample())
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"version":"1.2","files":[{}]} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := manifest.Parse(b)
		if err == nil {
			require.NoError(t, m.Validate())
			require.Error(t, m.May(m.Version))
		}
	})
}
