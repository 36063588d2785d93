package pki_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/pki"
)

func TestTokensOfHostsThatRunChecks(t *testing.T) {
	w := newWorld(t)
	make := func(role model.NodeRole, region string) error {
		_, _, err := w.p.NewToken(model.Token{Role: role, Region: region, Checks: true, Expires: w.clock.now().Add(time.Hour), Uses: 1}, w.clock.now())
		return err
	}
	require.EqualError(t, make(model.RoleAgent, ""), "region: must be named for hosts that run checks: they vote for it")
	require.ErrorContains(t, make(model.RoleServer, "eu"), "checks: is for agents")
	require.ErrorContains(t, make(model.RoleWitness, ""), "checks: is for agents")
	require.NoError(t, make(model.RoleAgent, "eu"))
}

// TestTheNewestTokenSaysWhetherAHostRunsChecks joins one host again and again.
func TestTheNewestTokenSaysWhetherAHostRunsChecks(t *testing.T) {
	w := newWorld(t)
	token := func(region string, checks bool) string {
		return w.tokenOf(model.Token{Role: model.RoleAgent, Region: region, Checks: checks, Expires: w.clock.now().Add(time.Hour), Uses: 1})
	}
	cfg := w.config("a1", model.RoleAgent)
	var p *pki.PKI
	join := func(token string, want bool, why string) {
		t.Helper()
		var err error
		p, err = w.join(cfg, token)
		require.NoError(t, err)
		require.Equal(t, want, w.nodes[p.NodeID()].Checks, why)
		require.Equal(t, "eu", w.nodes[p.NodeID()].Region)
	}
	with, without := token("eu", true), token("eu", false)
	join(with, true, "the token says so")
	require.Contains(t, w.lastEvent().Message, "may run checks")
	require.NoError(t, p.Renew(within(t, 5*time.Second)))
	require.True(t, w.nodes[p.NodeID()].Checks, "a new certificate changes nothing")
	join(without, false, "the newest token says nothing of it")
	join(with, false, "one that it has used before gives nothing back")
	join(token("eu", true), true, "a new one does")
	join(token("", false), false, "and the next takes it")

	// What an administrator decides stays when the host asks again with the token that it has.
	allow := func(v bool) { w.edit(p.NodeID(), func(n *model.Node) { n.Checks = v }) }
	last := token("", false)
	join(last, false, "as before")
	allow(true)
	join(last, true, "a host that asks again after a crash")
	again := token("eu", true)
	join(again, true, "still")
	allow(false)
	join(again, false, "nothing is got back")
	join(with, false, "nor with an older one")

	// A token of another region: the host stays where it is on record, and votes there
	// only with a token of that region.
	far := cfg
	far.Region = "us"
	cfg = far
	join(token("us", true), false, "the consent is for another region")

	// A token that was made by hand for a role that runs checks by itself, or without region.
	for _, tok := range []model.Token{{Role: model.RoleServer, Region: "eu"}, {Role: model.RoleAgent}} {
		plain, rec, err := w.p.NewToken(model.Token{Role: tok.Role, Region: tok.Region, Expires: w.clock.now().Add(time.Hour), Uses: 1}, w.clock.now())
		require.NoError(t, err)
		rec.Checks = true
		w.records.mu.Lock()
		w.rev++
		w.tokens[rec.Name], w.revs[rec.Name] = rec, w.rev
		w.records.mu.Unlock()
		p, err := w.join(w.config("by hand "+string(tok.Role), tok.Role), plain)
		require.NoError(t, err)
		require.False(t, w.nodes[p.NodeID()].Checks)
	}
}
