package pki

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"panoptes/internal/model"
)

// Bounds of what a stranger says about itself.
const (
	maxLabels    = 32
	maxLabelText = 256
	maxAddress   = 512
	casTries     = 20
)

var (
	idRE      = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)
	labelRE   = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,127}$`)
	tokenIDRE = regexp.MustCompile(`^[a-z2-7]{8}$`)
	plainRE   = regexp.MustCompile(`^[ -~]{0,64}$`)
	versionRE = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})(?:[.+-]|$)`)
)

// decodeJoin reads what a stranger sent and bounds all of it.
func decodeJoin(b []byte) (joinRequest, error) {
	var r joinRequest
	if err := json.Unmarshal(b, &r); err != nil {
		return joinRequest{}, model.DecodeError(err)
	}
	var inv model.Invalid
	inv.AddErr("", checkNode(r.Name, r.Region, r.Role))
	if !idRE.MatchString(r.ID) {
		inv.Add("id", "must be a ULID")
	}
	if !tokenIDRE.MatchString(r.TokenID) || len(r.Secret) > 64 {
		inv.Add("token", "is no join token")
	}
	if !plainRE.MatchString(r.Version) {
		inv.Add("version", "must be 64 plain characters at most")
	}
	for field, addr := range map[string]string{"cluster": r.Addresses.Cluster, "gossip": r.Addresses.Gossip, "peer": r.Addresses.Peer, "client": r.Addresses.Client} {
		if addr == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil || len(addr) > maxAddress {
			inv.Add("addresses."+field, "must be host:port")
		}
	}
	if r.Addresses.HTTP != "" {
		// It becomes a link on pages.
		u, err := url.Parse(r.Addresses.HTTP)
		if err != nil || len(r.Addresses.HTTP) > maxAddress || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			inv.Add("addresses.http", "must be an http or https URL")
		}
	}
	if len(r.Hosts) > maxHosts {
		inv.Add("hosts", "must be %d at most", maxHosts)
	}
	if len(r.Labels) > maxLabels {
		inv.Add("labels", "must be %d at most", maxLabels)
	}
	for k, v := range r.Labels {
		if !labelRE.MatchString(k) || len(v) > maxLabelText {
			inv.Add("labels", "must be names of letters, digits and _ with values of %d bytes at most", maxLabelText)
			break
		}
	}
	if err := inv.Err(); err != nil {
		return joinRequest{}, err
	}
	return r, nil
}

// authorize says whether the token, the node and its machine will do. Nothing
// is changed.
func (a *Authority) authorize(ctx context.Context, req joinRequest) (hash string, tok model.Token, csr *x509.CertificateRequest, err error) {
	const again = "make a new one on a server with 'panoptes token create --role %s'"
	tok, _, err = a.deps.Tokens.Get(ctx, req.TokenID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return "", tok, nil, refuse(model.ErrUnauthorized, "unknown_token", "the token is not known to this cluster: it was revoked, or is too old; "+again, req.Role)
	case err != nil:
		return "", tok, nil, fmt.Errorf("look up the token: %w", err)
	case !sameSecret(req.Secret, tok.Hash):
		return "", tok, nil, refuse(model.ErrUnauthorized, "wrong_token", "the token is wrong: copy all of it, or "+again, req.Role)
	}
	// From here on the node is no stranger any more: it has the secret.
	if csr, hash, err = readRequest(req.Request); err != nil {
		return "", tok, nil, err
	}
	known, err := a.deps.Nodes.Get(ctx, req.ID)
	switch {
	case errors.Is(err, model.ErrNotFound):
	case err != nil:
		return "", tok, nil, fmt.Errorf("look up the node: %w", err)
	case known.Revoked || a.p.isRevoked(req.ID):
		return "", tok, nil, refuse(model.ErrForbidden, "revoked_node", "this node (%s) was removed from the cluster: empty its data directory and join again with a new token", req.ID)
	case known.KeyHash != hash:
		return "", tok, nil, refuse(model.ErrConflict, "other_key", "a node with the id %s has joined with another key: empty the data directory and join again", req.ID)
	}
	repeated := slices.Contains(tok.Used, req.ID) || known.JoinedWith(tok.Name)
	now := a.deps.Now()
	switch skew := req.Time.Sub(now); {
	case !repeated && now.After(tok.Expires):
		return "", tok, nil, refuse(model.ErrForbidden, "expired_token", "the token ended at %s: "+again, tok.Expires.UTC().Format(time.RFC3339), req.Role)
	case !repeated && tok.Uses < 1:
		return "", tok, nil, refuse(model.ErrForbidden, "used_token", "the token has been used as often as it may be: "+again+", with --uses N for several nodes", req.Role)
	case tok.Role != req.Role && (tok.Role != model.RoleServer || req.Role != model.RoleWitness):
		return "", tok, nil, refuse(model.ErrForbidden, "role", "the token lets a node of the role %s join, this one is a %s: "+again, tok.Role, req.Role, req.Role)
	case tok.Region != "" && tok.Region != req.Region:
		return "", tok, nil, refuse(model.ErrForbidden, "region", "the token is for region %q, this node is in %q: start it with --region %s, or make a new token with 'panoptes token create --role %s --region %s'", tok.Region, req.Region, tok.Region, req.Role, req.Region)
	case skew.Abs() > maxSkew:
		return "", tok, nil, refuse(model.ErrForbidden, "clock", "the clock of this machine is %s the server's: set it (NTP) and join again", describeSkew(skew))
	case !compatible(req.Version, a.deps.Version):
		return "", tok, nil, refuse(model.ErrForbidden, "version", "version %s cannot join servers of version %s (the same major, and a minor that differs by one at most): install %s and join again", req.Version, a.deps.Version, a.deps.Version)
	}
	return hash, tok, csr, nil
}

func describeSkew(skew time.Duration) string {
	if skew < 0 {
		return skew.Abs().Round(time.Second).String() + " behind"
	}
	return skew.Round(time.Second).String() + " ahead of"
}

// compatible says whether two versions can be in one cluster. What is not a
// version (a build of a developer) is.
func compatible(a, b string) bool {
	va, vb := versionRE.FindStringSubmatch(a), versionRE.FindStringSubmatch(b)
	if va == nil || vb == nil {
		return true
	}
	n := func(s string) int {
		v, err := strconv.Atoi(s)
		if err != nil {
			return 0
		}
		return v
	}
	d := n(va[2]) - n(vb[2])
	return n(va[1]) == n(vb[1]) && d >= -1 && d <= 1
}

// freeName makes sure that nobody else has the name. That of a node which is
// there is not given away; one that is not is replaced: it loses its name and
// may not come back beside its successor. region is the one that the token
// holds for, empty for any.
func (a *Authority) freeName(ctx context.Context, req joinRequest, region string) error {
	for try := range casTries {
		if err := pause(ctx, try); err != nil {
			return err
		}
		other, err := a.deps.Nodes.ByName(ctx, req.Name)
		if errors.Is(err, model.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look up the name: %w", err)
		}
		if other.ID == req.ID {
			return nil
		}
		if !other.Revoked && (other.Role != req.Role || region != "" && other.Region != region) {
			// A token of agents takes no server out of the cluster, and one of a
			// region nothing of another.
			return refuse(model.ErrConflict, "name_taken", "the name %q is taken by the %s of region %s: start this one with another --node NAME, or run 'panoptes node remove %s' and join again", req.Name, other.Role, other.Region, quoteArg(req.Name))
		}
		if other.ID == a.p.node.ID || !other.Revoked && a.deps.Alive(other.ID) {
			return refuse(model.ErrConflict, "name_taken", "the name %q is taken by another %s, which is alive: start this one with another --node NAME, or run 'panoptes node remove %s' and join again", req.Name, other.Role, quoteArg(req.Name))
		}
		gone := other
		gone.Name, gone.Revoked = replacedName(other), true
		err = a.deps.Nodes.Update(ctx, gone)
		switch {
		case err == nil:
			a.event(ctx, req, model.EventNode, "node.replaced", "warning", fmt.Sprintf("%s %s (%s) is replaced by a new one of the same name", other.Role, other.Name, other.ID), "")
			return nil
		case !errors.Is(err, model.ErrRevision):
			return fmt.Errorf("free the name %s: %w", req.Name, err)
		}
	}
	return fmt.Errorf("free the name %s: %w: it changes all the time", req.Name, model.ErrUnavailable)
}

// pause lets the record that somebody else wrote arrive before it is read again.
func pause(ctx context.Context, try int) error {
	if try == 0 {
		return nil
	}
	t := time.NewTimer(10*time.Millisecond + rand.N(time.Duration(try)*10*time.Millisecond))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", model.ErrUnavailable, ctx.Err())
	case <-t.C:
		return nil
	}
}

func quoteArg(s string) string {
	for _, r := range s {
		if r == ' ' || r == '(' || r == ')' {
			return "'" + s + "'"
		}
	}
	return s
}

// Bounds of what records remember of tokens that were used: a token may be used
// by very many nodes, and a node join very often.
const (
	maxUnrecorded = 100 // nodes that used a token and are not on record yet
	maxEarlier    = 32  // tokens that a node has used before
)

// useToken counts one use, unless this node has been counted already: then it
// is not the first one.
func (a *Authority) useToken(ctx context.Context, req joinRequest) (first bool, err error) {
	for try := range casTries {
		if err := pause(ctx, try); err != nil {
			return false, err
		}
		tok, rev, err := a.deps.Tokens.Get(ctx, req.TokenID)
		if err != nil {
			return false, fmt.Errorf("use the token: %w", err)
		}
		node, err := a.deps.Nodes.Get(ctx, req.ID)
		switch {
		case err != nil && !errors.Is(err, model.ErrNotFound):
			return false, fmt.Errorf("look up the node: %w", err)
		case slices.Contains(tok.Used, req.ID), err == nil && node.JoinedWith(tok.Name):
			return false, nil
		}
		if tok.Uses < 1 {
			return false, refuse(model.ErrForbidden, "used_token", "the token has been used as often as it may be: make a new one on a server with 'panoptes token create --role %s', with --uses N for several nodes", req.Role)
		}
		tok.Uses--
		// Once a node is on record its own record says so.
		var used []string
		for _, id := range tok.Used {
			if n, err := a.deps.Nodes.Get(ctx, id); err != nil || !n.JoinedWith(tok.Name) {
				used = append(used, id)
			}
		}
		used = append(used, req.ID)
		tok.Used = used[max(0, len(used)-maxUnrecorded):]
		if err = a.deps.Tokens.Update(ctx, tok, rev); err == nil {
			return true, nil
		}
		if !errors.Is(err, model.ErrRevision) {
			return false, fmt.Errorf("use the token: %w", err)
		}
	}
	return false, fmt.Errorf("use the token: %w: too many nodes use it at once", model.ErrUnavailable)
}

// allowed says whether the record of a node is to let it run checks. What the
// token says that it joins with counts, as far as it is for the region that the
// node is in on record. A token that the node has used before gives nothing
// back that an administrator, or a newer token, took.
func allowed(n model.Node, old *model.Node, tok model.Token, first bool) bool {
	says := tok.Checks && n.Role == model.RoleAgent && tok.Role == model.RoleAgent && tok.Region != "" && tok.Region == n.Region
	switch {
	case first || old == nil:
		return says
	case old.TokenID == tok.Name: // it asks again, after a crash
		return old.Checks
	}
	return says && old.Checks
}

// earlier are the tokens that a node used before this one.
func earlier(old model.Node, token string) []string {
	used := append(slices.Clone(old.Earlier), old.TokenID)
	used = slices.DeleteFunc(used, func(s string) bool { return s == token || s == "" })
	return used[max(0, len(used)-maxEarlier):]
}

// record puts the node on record, or brings its record up to date. first is
// whether it has not used the token before.
func (a *Authority) record(ctx context.Context, req joinRequest, hash string, tok model.Token, first bool) (model.Node, error) {
	n := model.Node{
		ID: req.ID, Name: req.Name, Role: req.Role, Region: req.Region, Labels: req.Labels, Addresses: req.Addresses,
		KeyHash: hash, TokenID: req.TokenID, Version: req.Version, Joined: a.deps.Now().UTC().Truncate(time.Second),
	}
	for try := range casTries {
		if err := pause(ctx, try); err != nil {
			return n, err
		}
		old, err := a.deps.Nodes.Get(ctx, req.ID)
		switch {
		case errors.Is(err, model.ErrNotFound):
			n.Checks = allowed(n, nil, tok, first)
			err = a.deps.Nodes.Create(ctx, n)
		case err != nil:
			return n, fmt.Errorf("put the node on record: %w", err)
		default:
			n.Revision, n.Joined, n.Draining, n.Earlier = old.Revision, old.Joined, old.Draining, earlier(old, n.TokenID)
			n.Checks = allowed(n, &old, tok, first)
			err = a.deps.Nodes.Update(ctx, n)
		}
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, model.ErrConflict):
			// Another node took the name since freeName looked.
			if _, gerr := a.deps.Nodes.Get(ctx, req.ID); errors.Is(gerr, model.ErrNotFound) {
				return n, refuse(model.ErrConflict, "name_taken", "the name %q has just been taken by another node: start this one with another --node NAME and join again", req.Name)
			}
		case !errors.Is(err, model.ErrRevision):
			return n, fmt.Errorf("put the node on record: %w", err)
		}
	}
	return n, fmt.Errorf("put the node on record: %w: it changes all the time", model.ErrUnavailable)
}
