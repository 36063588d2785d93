package pki

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Begin makes a new authority. The servers follow by themselves until it signs;
// then Finish ends the old one. Errors: model.ErrConflict when a change goes on
// already, model.ErrUnavailable without a majority.
func (r *Rollover) Begin(ctx context.Context) error {
	if !r.p.signs() {
		return fmt.Errorf("%w: a %s is no authority; ask a server", model.ErrConflict, r.p.node.Role)
	}
	st, rev, err := r.read(ctx)
	if err != nil {
		return err
	}
	if st != nil && st.Phase != PhaseStable {
		return fmt.Errorf("%w: the authority is being changed already; see 'panoptes node ca status'", model.ErrConflict)
	}
	have := r.p.trusted()
	if len(have.roots) != 1 || st != nil && have.cas[0].hash() != st.Using {
		return fmt.Errorf("%w: this server has not yet followed the last change of the authority; try again in a minute", model.ErrUnavailable)
	}
	now := r.p.now()
	fresh, err := newAuthority(r.p.node.ClusterID, now)
	if err != nil {
		return err
	}
	cross, err := have.cas[0].endorse(fresh, now)
	if err != nil {
		return err
	}
	key, err := encodeKeys(fresh.key)
	if err != nil {
		return fmt.Errorf("encode the key of the new authority: %w", err)
	}
	sealed, err := r.deps.Seal(key)
	if err != nil {
		return fmt.Errorf("seal the key of the new authority: %w", err)
	}
	next := &state{
		Phase: PhaseTrust, Using: have.cas[0].hash(), Begun: now.UTC(), Cross: encodeCerts(cross),
		Roots: []stateRoot{{Cert: encodeCerts(have.roots[0])}, {Cert: encodeCerts(fresh.cert), Key: sealed}},
	}
	switch err := r.write(ctx, next, rev); {
	case errors.Is(err, model.ErrRevision), errors.Is(err, model.ErrConflict):
		return fmt.Errorf("%w: somebody else has just begun to change the authority; see 'panoptes node ca status'", model.ErrConflict)
	case err != nil:
		return fmt.Errorf("begin to change the authority: %w", err)
	}
	r.log.Info("new authority made", "authority", fresh.hash())
	return nil
}

// Finish ends the old authority: what it signed is worth nothing any more.
// Unless forced it waits for a day from the first certificate of the new one, so
// that all nodes that run have one. Those that were away longer join again.
// Errors: model.ErrConflict when it is too early, or nothing is to be finished.
func (r *Rollover) Finish(ctx context.Context, force bool) error {
	st, rev, err := r.read(ctx)
	if err != nil {
		return err
	}
	if st == nil || st.Phase == PhaseStable {
		return fmt.Errorf("%w: the authority is not being changed; begin with 'panoptes node ca rotate'", model.ErrConflict)
	}
	waiting, err := r.waiting(ctx, st)
	switch {
	case err != nil:
		return err
	case len(waiting) > 0 || st.Phase == PhaseTrust:
		// Not even by force: these servers would be locked out for good.
		return fmt.Errorf("%w: servers have not followed yet: %s; start them, or remove them with 'panoptes node remove', also one that never finished joining", model.ErrConflict, strings.Join(waiting, ", "))
	case !force && r.p.now().Before(st.Issued.Add(leafLife)):
		return fmt.Errorf("%w: nodes may still have certificates of the old authority; wait until %s", model.ErrConflict, st.Issued.Add(leafLife).Format(time.RFC3339))
	}
	next := &state{Phase: PhaseStable, Using: st.Using, Begun: st.Begun, Issued: st.Issued}
	for _, root := range st.Roots {
		if certs, err := decodeCerts(root.Cert); err == nil && len(certs) == 1 && keyName(certs[0]) == st.Using {
			next.Roots = []stateRoot{{Cert: root.Cert}}
		}
	}
	if len(next.Roots) != 1 {
		return errors.New("the authority on record that signs is not among its roots")
	}
	switch err := r.write(ctx, next, rev); {
	case errors.Is(err, model.ErrRevision):
		return fmt.Errorf("%w: somebody else has just changed it; see 'panoptes node ca status'", model.ErrConflict)
	case err != nil:
		return fmt.Errorf("end the old authority: %w", err)
	}
	r.log.Info("old authority ended", "authority", next.Using)
	return nil
}

// Status tells how far the change is.
func (r *Rollover) Status(ctx context.Context) (RolloverStatus, error) {
	st, rev, err := r.read(ctx)
	if err != nil {
		return RolloverStatus{}, err
	}
	if rev == model.KVAbsent {
		t := r.p.trusted()
		out := RolloverStatus{Phase: PhaseStable}
		for _, c := range t.roots {
			out.Roots = append(out.Roots, Root{Subject: c.Subject.CommonName, KeyHash: keyName(c), NotAfter: c.NotAfter, Current: true})
		}
		return out, nil
	}
	out := RolloverStatus{Phase: st.Phase}
	for _, root := range st.Roots {
		certs, err := decodeCerts(root.Cert)
		if err != nil || len(certs) != 1 {
			return RolloverStatus{}, fmt.Errorf("the authorities on record cannot be read: %w", err)
		}
		c := certs[0]
		out.Roots = append(out.Roots, Root{Subject: c.Subject.CommonName, KeyHash: keyName(c), NotAfter: c.NotAfter, Current: keyName(c) == st.Using})
	}
	if out.Waiting, err = r.waiting(ctx, st); err != nil {
		return RolloverStatus{}, err
	}
	if st.Phase == PhaseIssue {
		out.After = st.Issued.Add(leafLife)
		out.Ready = len(out.Waiting) == 0 && !r.p.now().Before(out.After)
	}
	return out, nil
}
