package pki

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
)

func FuzzToken(f *testing.F) {
	f.Add("pnp1.abcdefghijklmnopqrstuvwxyz234567.abcdefgh.abcdefghijklmnopqrstuvwxyz")
	f.Add(" pnp1.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.aaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaa\n")
	f.Add("pnp1...")
	f.Add("pnp1.\x00")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := parseToken(s)
		if err != nil {
			var inv model.Invalid
			require.ErrorAs(t, err, &inv)
			require.Equal(t, token{}, tok)
			return
		}
		require.Equal(t, strings.TrimSpace(s), "pnp1."+tok.ca+"."+tok.id+"."+tok.secret)
	})
}

// emptyStore knows one token.
type emptyStore struct{ token model.Token }

func (s emptyStore) Get(_ context.Context, name string) (model.Token, int64, error) {
	if name != s.token.Name {
		return model.Token{}, 0, model.ErrNotFound
	}
	return s.token, 1, nil
}
func (emptyStore) Update(context.Context, model.Token, int64) error { return nil }

type emptyNodes struct{}

func (emptyNodes) Get(context.Context, string) (model.Node, error) {
	return model.Node{}, model.ErrNotFound
}
func (emptyNodes) ByName(context.Context, string) (model.Node, error) {
	return model.Node{}, model.ErrNotFound
}
func (emptyNodes) Create(context.Context, model.Node) error { return nil }
func (emptyNodes) Update(context.Context, model.Node) error { return nil }

// What a stranger sends is refused or makes a certificate that says what was
// asked for, and never one for more than the token allows.
func FuzzJoinRequest(f *testing.F) {
	p, err := Create(Config{Dir: f.TempDir(), Name: "n1", Region: "eu", Role: model.RoleServer}, Deps{})
	require.NoError(f, err)
	plain, rec, err := p.NewToken(model.Token{Role: model.RoleAgent, Region: "eu", Expires: time.Now().Add(time.Hour), Uses: 1}, time.Now())
	require.NoError(f, err)
	tok, err := parseToken(plain)
	require.NoError(f, err)
	var last model.Event
	a, err := NewAuthority(p, AuthorityDeps{Nodes: emptyNodes{}, Tokens: emptyStore{rec}, Version: "1.0.0", Audit: func(_ context.Context, e model.Event) { last = e }})
	require.NoError(f, err)
	csr, err := p.request()
	require.NoError(f, err)
	good := joinRequest{
		TokenID: tok.id, Secret: tok.secret, ID: model.NewID(time.Now()), Name: "a1", Region: "eu", Role: model.RoleAgent, Version: "1.0.0", Time: time.Now(),
		Hosts: []string{"h"}, Addresses: model.Addresses{Cluster: "h:1"}, Labels: map[string]string{"a": "b"}, Request: csr,
	}
	for _, change := range []func(*joinRequest){
		func(*joinRequest) {},
		func(r *joinRequest) { r.Role = model.RoleServer },
		func(r *joinRequest) { r.Name = "../../etc" },
		func(r *joinRequest) { r.Name = "a/b%2Fc" },
		func(r *joinRequest) { r.Region = "us" },
		func(r *joinRequest) { r.ID = "x" },
		func(r *joinRequest) { r.Secret = strings.Repeat("x", 100) },
		func(r *joinRequest) { r.Hosts = []string{"\x00", "*", "::1", "a b"} },
		func(r *joinRequest) { r.Request = csr[:len(csr)-1] },
		func(r *joinRequest) { r.Time = time.Time{} },
	} {
		r := good
		change(&r)
		b, err := json.Marshal(r)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"labels":null,"hosts":[null]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := decodeJoin(b)
		if err != nil {
			var inv model.Invalid
			require.ErrorAs(t, err, &inv)
			return
		}
		answer, err := a.join(context.Background(), req)
		if err != nil {
			require.Error(t, a.refused(context.Background(), req, err))
			require.NotContains(t, last.Message, tok.secret)
			var inv model.Invalid
			require.True(t, errors.As(err, &inv) || errors.As(err, new(*refusal)), "%v", err)
			return
		}
		require.Equal(t, tok.secret, req.Secret)
		require.Nil(t, answer.CAKeys)
		require.Nil(t, answer.GossipKey)
		chain, err := decodeCerts(answer.Chain)
		require.NoError(t, err)
		who, cluster, err := identity(chain[0])
		require.NoError(t, err)
		require.Equal(t, p.ClusterID(), cluster)
		require.Equal(t, model.Peer{NodeID: req.ID, Name: req.Name, Region: "eu", Role: model.RoleAgent}, who)
		require.Equal(t, commonAgent, chain[0].Subject.CommonName)
		require.NoError(t, p.trusted().verify(chain, x509.ExtKeyUsageClientAuth, time.Now()))
		require.Error(t, p.trusted().verify(chain, x509.ExtKeyUsageServerAuth, time.Now()), "an agent is no server")
	})
}

// A certificate that a peer shows is read before its chain is believed only by
// the standard library; what we read of it is names.
func FuzzCertificate(f *testing.F) {
	p, err := Create(Config{Dir: f.TempDir(), Name: "n 1/x", Region: "eu", Role: model.RoleServer}, Deps{})
	require.NoError(f, err)
	f.Add(p.current().cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		who, _, err := identity(c)
		if err != nil {
			require.Equal(t, model.Peer{}, who)
		}
	})
}

func TestReplacedNamesAreNames(t *testing.T) {
	for _, name := range []string{"a", strings.Repeat("ä", 128), strings.Repeat("b ", 64)} {
		n := model.Node{ID: model.NewID(time.Now()), Name: name}
		require.NoError(t, model.CheckName(replacedName(n)), name)
	}
}

func TestVersions(t *testing.T) {
	f := func(a, b string, want bool) {
		t.Helper()
		require.Equal(t, want, compatible(a, b), "%s and %s", a, b)
		require.Equal(t, want, compatible(b, a), "%s and %s", b, a)
	}
	f("1.4.0", "1.4.9", true)
	f("1.4.0", "1.5.0", true)
	f("1.4.0", "1.6.0", false)
	f("1.9.0", "1.10.0", true)
	f("1.9.0", "2.9.0", false)
	f("v0.9", "0.10.1-rc1+x", true)
	f("0.9.0", "0.11.0", false)
	f("(devel)", "1.0.0", true)
	f("", "1.0.0", true)
}
