package pki

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// NodeStore holds the records of nodes. A record that is not there is
// model.ErrNotFound; a store that cannot write is model.ErrUnavailable.
type NodeStore interface {
	Get(ctx context.Context, id string) (model.Node, error)
	ByName(ctx context.Context, name string) (model.Node, error)
	Create(ctx context.Context, n model.Node) error // model.ErrConflict when the id or name is taken
	Update(ctx context.Context, n model.Node) error // model.ErrRevision when n.Revision is not the record's any more
}

// TokenStore holds the records of tokens. Reading must see the last write, so
// that nothing is used twice; Update fails with model.ErrRevision otherwise.
type TokenStore interface {
	Get(ctx context.Context, name string) (t model.Token, revision int64, err error)
	Update(ctx context.Context, t model.Token, revision int64) error
}

// AuthorityDeps are the collaborators of an Authority. Nodes and Tokens are required.
type AuthorityDeps struct {
	Nodes  NodeStore
	Tokens TokenStore
	// Welcome makes what a node gets along with its certificate, once it is on
	// record. It may be asked again for the same node.
	Welcome func(ctx context.Context, n model.Node) (json.RawMessage, error)
	Audit   func(ctx context.Context, e model.Event)
	// Alive says whether a node is there now: the name of one that is cannot be
	// taken over. nil means that all are.
	Alive   func(nodeID string) bool
	Now     func() time.Time // nil: the clock of the PKI
	Version string           // of this program
	Logger  *slog.Logger
}

// Authority lets nodes join and renews their certificates.
type Authority struct {
	p     *PKI
	deps  AuthorityDeps
	log   *slog.Logger
	audit *rate.Limiter // of refusals: strangers must not fill the history
}

// NewAuthority needs the identity of a server.
func NewAuthority(p *PKI, deps AuthorityDeps) (*Authority, error) {
	if !p.signs() {
		return nil, fmt.Errorf("authority: a %s has no key to sign with", p.node.Role)
	}
	if deps.Nodes == nil || deps.Tokens == nil {
		return nil, errors.New("authority: Nodes and Tokens are missing")
	}
	if deps.Now == nil {
		deps.Now = p.cfg.Now
	}
	if deps.Alive == nil {
		deps.Alive = func(string) bool { return true }
	}
	if deps.Audit == nil {
		deps.Audit = func(context.Context, model.Event) {}
	}
	if deps.Welcome == nil {
		deps.Welcome = func(context.Context, model.Node) (json.RawMessage, error) { return nil, nil }
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	return &Authority{p: p, deps: deps, log: deps.Logger, audit: rate.NewLimiter(1, 20)}, nil
}

// Register serves pki.ca, pki.join and pki.renew.
func (a *Authority) Register(s *wire.Server) {
	wire.HandleJSON(s, methodCA, wire.Anyone, a.authorities)
	s.Handle(methodJoin, wire.Anyone, func(ctx context.Context, _ model.Peer, b []byte) ([]byte, error) {
		req, err := decodeJoin(b)
		if err != nil {
			return nil, err
		}
		answer, err := a.join(ctx, req)
		if err != nil {
			return nil, a.refused(ctx, req, err)
		}
		return json.Marshal(answer)
	})
	wire.HandleJSON(s, methodRenew, wire.Anyone, a.renew)
}

// authorities answers strangers: what the cluster believes in, signed.
func (a *Authority) authorities(_ context.Context, _ model.Peer, req caRequest) (caAnswer, error) {
	if len(req.Nonce) < 16 || len(req.Nonce) > 64 {
		return caAnswer{}, model.Invalid{{Field: "nonce", Msg: "must have 16 to 64 bytes"}}
	}
	t := a.p.trusted()
	answer := caAnswer{ClusterID: a.p.node.ClusterID, Roots: encodeCerts(t.roots...), Time: a.deps.Now().UTC()}
	return answer, answer.sign(t.cas, req.Nonce)
}

// refusal says no to a node that wants to join.
type refusal struct {
	reason string // for metrics and the event
	text   string
	kind   error
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.kind }

func refuse(kind error, reason, format string, args ...any) error {
	return &refusal{reason: reason, kind: kind, text: fmt.Sprintf(format, args...)}
}

// refused notes a refusal for people. Other errors are only counted.
func (a *Authority) refused(ctx context.Context, req joinRequest, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		a.p.metrics.joins.WithLabelValues("error").Inc()
		a.log.Warn("join not finished", "node", req.ID, "name", req.Name, "err", err)
		return err
	}
	a.p.metrics.joins.WithLabelValues(r.reason).Inc()
	a.log.Warn("join refused", "node", req.ID, "name", req.Name, "reason", r.reason)
	if a.audit.Allow() {
		a.event(ctx, req, model.EventAudit, "node.join_refused", "warning", fmt.Sprintf("%s %s may not join: %s", req.Role, req.Name, r.text), r.reason)
	}
	return err
}

func (a *Authority) event(ctx context.Context, req joinRequest, kind model.EventKind, code, severity, message, reason string) {
	now := a.deps.Now()
	e := model.Event{
		ID: model.NewID(now), Time: now, Kind: kind, Subject: "node/" + req.ID, Name: req.Name, Severity: severity, Actor: "token/" + req.TokenID,
		Message: message, Code: code, Labels: map[string]string{"role": string(req.Role), "region": req.Region},
	}
	if reason != "" {
		e.Labels["reason"] = reason
	}
	a.deps.Audit(ctx, e)
}

// join lets a node in, or says why not. Each step may be done again: the use of
// the token, the record, the certificate.
func (a *Authority) join(ctx context.Context, req joinRequest) (*joinAnswer, error) {
	hash, tok, csr, err := a.authorize(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := a.asOnRecord(ctx, &req); err != nil {
		return nil, err
	}
	if err := a.freeName(ctx, req, tok.Region); err != nil {
		return nil, err
	}
	first, err := a.useToken(ctx, req)
	if err != nil {
		return nil, err
	}
	n, err := a.record(ctx, req, hash, tok, first)
	if err != nil {
		return nil, err
	}
	t := a.p.trusted()
	chain, err := t.issue(a.p.node.ClusterID, n, csr.PublicKey, req.Hosts, a.deps.Now())
	if err != nil {
		return nil, err
	}
	answer := &joinAnswer{ClusterID: a.p.node.ClusterID, Chain: encodeCerts(chain...), Roots: encodeCerts(t.roots...)}
	if n.Role != model.RoleAgent {
		answer.GossipKey = a.p.GossipKey()
	}
	if n.Role == model.RoleServer {
		if answer.CAs, answer.CAKeys, err = t.export(); err != nil {
			return nil, err
		}
	}
	if answer.Welcome, err = a.deps.Welcome(ctx, n); err != nil {
		return nil, fmt.Errorf("prepare the cluster for %s: %w", n.Name, err)
	}
	a.p.metrics.joins.WithLabelValues("ok").Inc()
	a.log.Info("node joined", "node", n.ID, "name", n.Name, "role", n.Role, "region", n.Region)
	what := fmt.Sprintf("%s %s joined in region %s", n.Role, n.Name, n.Region)
	if n.Checks {
		what += " and may run checks there"
	}
	a.event(ctx, req, model.EventNode, "node.joined", "info", what, "")
	return answer, nil
}

// asOnRecord keeps name, region and labels of an agent that is on record and
// asks again: they say which checks and secrets it is given, and may have been
// changed by an administrator since.
func (a *Authority) asOnRecord(ctx context.Context, req *joinRequest) error {
	known, err := a.deps.Nodes.Get(ctx, req.ID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look up the node: %w", err)
	case known.Role == model.RoleAgent && req.Role == model.RoleAgent:
		req.Name, req.Region, req.Labels = known.Name, known.Region, known.Labels
	}
	return nil
}

// export encodes what another server needs to be an authority.
func (t *trust) export() (certs, keys []byte, err error) {
	for _, ca := range t.cas {
		certs = append(certs, encodeCerts(ca.cert)...)
		k, err := encodeKeys(ca.key)
		if err != nil {
			return nil, nil, err
		}
		keys = append(keys, k...)
	}
	return append(certs, encodeCerts(t.cross...)...), keys, nil
}

// renew gives a node a new certificate for the key that it joined with. The
// old one may have ended: the transport lets it come as far as here.
func (a *Authority) renew(ctx context.Context, from model.Peer, req renewRequest) (renewAnswer, error) {
	if from.NodeID == "" {
		return renewAnswer{}, fmt.Errorf("%w: a certificate is renewed by the node that has the old one", model.ErrUnauthorized)
	}
	n, err := a.deps.Nodes.Get(ctx, from.NodeID)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return renewAnswer{}, fmt.Errorf("%w: node %s (%s) is not on record: empty its data directory and join it again with a new token", model.ErrForbidden, from.Name, from.NodeID)
	case err != nil:
		return renewAnswer{}, err
	case n.Revoked || a.p.isRevoked(n.ID):
		return renewAnswer{}, fmt.Errorf("%w: node %s (%s) was removed from the cluster: empty its data directory and join it again with a new token", model.ErrForbidden, from.Name, from.NodeID)
	case n.Role != from.Role:
		return renewAnswer{}, fmt.Errorf("%w: node %s is a %s on record, its certificate is a %s's", model.ErrForbidden, n.Name, n.Role, from.Role)
	}
	csr, hash, err := readRequest(req.Request)
	if err != nil {
		return renewAnswer{}, err
	}
	if hash != n.KeyHash {
		return renewAnswer{}, fmt.Errorf("%w: node %s joined with another key; a certificate is renewed for the same one: join again", model.ErrForbidden, n.Name)
	}
	t := a.p.trusted()
	chain, err := t.issue(a.p.node.ClusterID, n, csr.PublicKey, req.Hosts, a.deps.Now())
	if err != nil {
		return renewAnswer{}, err
	}
	return renewAnswer{Chain: encodeCerts(chain...), Roots: encodeCerts(t.roots...)}, nil
}

// readRequest checks that who asks for a certificate has its key.
func readRequest(der []byte) (*x509.CertificateRequest, string, error) {
	bad := func(err error) error {
		return model.Invalid{{Field: "request", Msg: "is no certificate request with a valid signature: " + err.Error()}}
	}
	if len(der) > 4<<10 {
		return nil, "", bad(errors.New("it is too large"))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, "", bad(err)
	}
	if csr.PublicKeyAlgorithm != x509.ECDSA {
		return nil, "", bad(errors.New("the key must be ECDSA"))
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, "", bad(err)
	}
	hash, err := keyHash(csr.PublicKey)
	if err != nil {
		return nil, "", bad(err)
	}
	return csr, hash, nil
}

// replacedName is what the record of a node is called whose name went to another.
func replacedName(n model.Node) string {
	suffix := " (replaced " + n.ID + ")"
	name := []rune(n.Name)
	return strings.TrimRight(string(name[:min(len(name), 128-len(suffix))]), " ") + suffix
}
