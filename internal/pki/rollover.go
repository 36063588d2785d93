package pki

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"panoptes/internal/model"
)

// KV is the configuration store as the change of authorities needs it.
type KV interface {
	Get(ctx context.Context, key string) (model.KV, error) // model.ErrNotFound
	Txn(ctx context.Context, conds []model.KVCond, ops []model.KVOp) (int64, error)
	Watch(ctx context.Context, prefix string, rev int64) <-chan model.KVBatch
}

// The keys of the configuration store.
const (
	keyPrefix  = "pki/"
	keyState   = keyPrefix + "rollover"
	keyConfirm = keyPrefix + "confirm/" // + node id
)

// Phase is how far the change of the authority is.
type Phase string

// The phases, in order. In the second all servers believe both roots; it ends by
// itself. In the third certificates come from the new root, which the old one
// has signed, so that agents who know the old one only go on; it is ended by Finish.
const (
	PhaseStable Phase = "stable"
	PhaseTrust  Phase = "trust"
	PhaseIssue  Phase = "issue"
)

// state is the record of a change.
type state struct {
	Phase  Phase       `json:"phase"`
	Roots  []stateRoot `json:"roots"`
	Using  string      `json:"using"`           // name of the root that signs
	Cross  []byte      `json:"cross,omitempty"` // PEM; the new root signed by the old
	Begun  time.Time   `json:"begun"`
	Issued time.Time   `json:"issued,omitzero"`
}

type stateRoot struct {
	Cert []byte `json:"cert"`             // PEM
	Key  []byte `json:"sealed,omitempty"` // of a new root; servers that have it do not need it
}

// confirmation is what a server says that it does.
type confirmation struct {
	Roots  []string `json:"roots"`  // names of those that it trusts
	Issuer string   `json:"issuer"` // name of the one that signed its certificate
}

// RolloverDeps are the collaborators of a Rollover; all but Adopt and Logger are
// required.
type RolloverDeps struct {
	KV KV
	// Seal and Unseal protect the key of a new authority in the configuration
	// store. A witness never unseals.
	Seal, Unseal func([]byte) ([]byte, error)
	// Servers are the ids of all servers and witnesses on record that are not revoked.
	Servers func() []string
	// Name names a server for people; nil: its id.
	Name func(id string) string
	// Adopt brings the roots in Files into use wherever else in this process they
	// are kept. This server confirms them when it has returned nil.
	Adopt  func(ctx context.Context) error
	Logger *slog.Logger
}

// Rollover changes the cluster's authority without a pause. Every server and
// witness runs one.
type Rollover struct {
	p    *PKI
	deps RolloverDeps
	log  *slog.Logger
}

// Root is an authority as people see it.
type Root struct {
	Subject  string    `json:"subject"`
	KeyHash  string    `json:"key_hash"`
	NotAfter time.Time `json:"not_after"`
	Current  bool      `json:"current"` // it signs
}

// RolloverStatus is how far the change is.
type RolloverStatus struct {
	Phase   Phase     `json:"phase"`
	Roots   []Root    `json:"roots"`
	Waiting []string  `json:"waiting,omitempty"` // names of servers that have not followed yet
	Ready   bool      `json:"ready"`             // it can be finished
	After   time.Time `json:"after,omitzero"`    // when every node that runs has a certificate of the new root
}

// NewRollover starts nothing.
func NewRollover(p *PKI, deps RolloverDeps) (*Rollover, error) {
	if deps.KV == nil || deps.Seal == nil || deps.Unseal == nil || deps.Servers == nil {
		return nil, errors.New("change of authorities: KV, Seal, Unseal and Servers are needed")
	}
	if p.node.Role == model.RoleAgent {
		return nil, errors.New("change of authorities: an agent has no part in it")
	}
	if deps.Name == nil {
		deps.Name = func(id string) string { return id }
	}
	if deps.Adopt == nil {
		deps.Adopt = func(context.Context) error { return nil }
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rollover{p: p, deps: deps, log: deps.Logger}, nil
}

// Run follows the record: it trusts what the cluster trusts, says so, and
// takes the next step when all others have.
func (r *Rollover) Run(ctx context.Context) error {
	// The watch is read without pause, whatever a step waits for.
	wake := make(chan struct{}, 1)
	watched := make(chan struct{})
	batches := r.deps.KV.Watch(ctx, keyPrefix, 0)
	go func() {
		defer close(watched)
		for range batches {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	defer func() { <-watched }()
	t := time.NewTicker(max(r.p.cfg.CheckEvery/6, 10*time.Millisecond))
	defer t.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-t.C:
		}
		err := r.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			r.log.Warn("change of the authority does not go on", "err", err)
		}
	}
}

// step brings this server to where the record is, and the record on.
func (r *Rollover) step(ctx context.Context) error {
	st, rev, err := r.read(ctx)
	if err != nil || rev == model.KVAbsent {
		return err
	}
	if err := r.follow(ctx, st); err != nil {
		return err
	}
	if err := r.confirm(ctx); err != nil {
		return err
	}
	if st.Phase != PhaseTrust || !r.p.signs() {
		return nil
	}
	waiting, err := r.waiting(ctx, st)
	if err != nil || len(waiting) > 0 {
		return err
	}
	st.Phase, st.Issued = PhaseIssue, r.p.now().UTC()
	for _, root := range st.Roots {
		if certs, err := decodeCerts(root.Cert); err == nil && len(certs) == 1 && keyName(certs[0]) != st.Using {
			st.Using = keyName(certs[0])
			break
		}
	}
	switch err := r.write(ctx, st, rev); {
	case errors.Is(err, model.ErrRevision):
		return nil // another server was faster
	case err != nil:
		return fmt.Errorf("begin to sign with the new authority: %w", err)
	}
	r.log.Info("all servers trust the new authority, it signs from now on", "authority", st.Using)
	return nil
}

// follow trusts and signs as the record says.
func (r *Rollover) follow(ctx context.Context, st *state) error {
	p := r.p
	p.renewing.Lock()
	t, err := r.trustOf(st)
	if err == nil {
		err = p.setTrust(t)
	}
	if err == nil && p.signs() && p.due() {
		err = p.sign()
	}
	p.renewing.Unlock()
	if err != nil {
		return err
	}
	if !p.signs() && st.Phase != PhaseTrust && p.issuer(t) != st.Using {
		if err := p.Renew(ctx); err != nil {
			return err
		}
	}
	return nil
}

// trustOf makes the authorities of a record, with the keys that this server has
// or can unseal.
func (r *Rollover) trustOf(st *state) (*trust, error) {
	have := r.p.trusted()
	var roots []*x509.Certificate
	var cas []*authority
	common := false
	for _, sr := range st.Roots {
		certs, err := decodeCerts(sr.Cert)
		if err != nil || len(certs) != 1 {
			return nil, fmt.Errorf("the authorities on record cannot be read: %w", errors.Join(err, errorIf(err == nil, "one certificate each is expected")))
		}
		c := certs[0]
		roots = append(roots, c)
		common = common || slices.ContainsFunc(have.roots, c.Equal)
		if !r.p.signs() {
			continue
		}
		ca, err := r.withKey(have, c, sr.Key)
		if err != nil {
			return nil, err
		}
		if keyName(c) == st.Using {
			cas = append([]*authority{ca}, cas...)
		} else {
			cas = append(cas, ca)
		}
	}
	if !common {
		return nil, fmt.Errorf("%w: the authorities on record are none of those that this server trusts; was the configuration restored from elsewhere? Empty the data directory and join again", model.ErrConflict)
	}
	if r.p.signs() && cas[0].hash() != st.Using {
		return nil, errors.New("the authority on record that signs is not among its roots")
	}
	if st.Phase != PhaseIssue || !r.p.signs() {
		return newTrust(roots, cas, nil), nil
	}
	cross, err := decodeCerts(st.Cross)
	if err != nil {
		return nil, fmt.Errorf("the authorities on record cannot be read: %w", err)
	}
	return newTrust(roots, cas, cross), nil
}

func (r *Rollover) withKey(have *trust, c *x509.Certificate, sealed []byte) (*authority, error) {
	for _, ca := range have.cas {
		if ca.cert.Equal(c) {
			return ca, nil
		}
	}
	b, err := r.deps.Unseal(sealed)
	if err != nil {
		return nil, fmt.Errorf("unseal the key of the new authority: %w", err)
	}
	keys, err := decodeKeys(b)
	if err != nil {
		return nil, fmt.Errorf("read the key of the new authority: %w", err)
	}
	if !keys[0].PublicKey.Equal(c.PublicKey) {
		return nil, errors.New("the key of the new authority does not fit its certificate")
	}
	return &authority{cert: c, key: keys[0]}, nil
}

// issuer names the root that signed this node's certificate.
func (p *PKI) issuer(t *trust) string {
	l := p.current()
	for _, r := range t.roots {
		if l != nil && l.cert.CheckSignatureFrom(r) == nil {
			return keyName(r)
		}
	}
	return ""
}

// confirm says what this server does, once the rest of the process does so too.
func (r *Rollover) confirm(ctx context.Context) error {
	t := r.p.trusted()
	c := confirmation{Issuer: r.p.issuer(t)}
	for _, root := range t.roots {
		c.Roots = append(c.Roots, keyName(root))
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	key := keyConfirm + r.p.node.ID
	old, err := r.deps.KV.Get(ctx, key)
	if err == nil && string(old.Value) == string(b) {
		return nil
	}
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return fmt.Errorf("confirm the authorities: %w", err)
	}
	if err := r.deps.Adopt(ctx); err != nil {
		return fmt.Errorf("bring the authorities into use: %w", err)
	}
	if _, err := r.deps.KV.Txn(ctx, nil, []model.KVOp{{Key: key, Value: b}}); err != nil {
		return fmt.Errorf("confirm the authorities: %w", err)
	}
	return nil
}

// waiting are the servers that do not yet do what the record says.
func (r *Rollover) waiting(ctx context.Context, st *state) (servers []string, err error) {
	var names []string
	for _, root := range st.Roots {
		certs, err := decodeCerts(root.Cert)
		if err != nil || len(certs) != 1 {
			return nil, fmt.Errorf("the authorities on record cannot be read: %w", err)
		}
		names = append(names, keyName(certs[0]))
	}
	ids := r.deps.Servers()
	if !slices.Contains(ids, r.p.node.ID) {
		ids = append(slices.Clone(ids), r.p.node.ID)
	}
	for _, id := range ids {
		kv, err := r.deps.KV.Get(ctx, keyConfirm+id)
		if err != nil && !errors.Is(err, model.ErrNotFound) {
			return nil, fmt.Errorf("look who has followed: %w", err)
		}
		var c confirmation
		if err == nil && json.Unmarshal(kv.Value, &c) != nil {
			c = confirmation{}
		}
		ok := c.Issuer == st.Using
		for _, name := range names {
			ok = ok && slices.Contains(c.Roots, name)
		}
		if !ok {
			servers = append(servers, r.deps.Name(id))
		}
	}
	slices.Sort(servers)
	return servers, nil
}

// read returns the record; revision KVAbsent when the authority was never changed.
func (r *Rollover) read(ctx context.Context) (*state, int64, error) {
	kv, err := r.deps.KV.Get(ctx, keyState)
	if errors.Is(err, model.ErrNotFound) {
		return nil, model.KVAbsent, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read the authorities on record: %w", err)
	}
	var st state
	if err := json.Unmarshal(kv.Value, &st); err != nil {
		return nil, 0, fmt.Errorf("read the authorities on record: %w", err)
	}
	return &st, kv.Revision, nil
}

func (r *Rollover) write(ctx context.Context, st *state, rev int64) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	_, err = r.deps.KV.Txn(ctx, []model.KVCond{{Key: keyState, Revision: rev}}, []model.KVOp{{Key: keyState, Value: b}})
	return err
}
