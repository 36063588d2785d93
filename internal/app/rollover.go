package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/model"
	"panoptes/internal/pki"
)

func (a *App) openRollover() (err error) {
	if a.control == nil {
		return nil
	}
	a.rollover, err = pki.NewRollover(a.pki, pki.RolloverDeps{
		KV: a.control, Seal: a.seal, Unseal: a.unseal, Servers: a.serverIDs, Name: a.nodeName, Adopt: a.adoptRoots, Logger: a.logger("pki"),
	})
	if err != nil {
		return fmt.Errorf("open the change of authorities: %w", err)
	}
	return nil
}

// serverIDs are the servers and witnesses on record.
func (a *App) serverIDs() (out []string) {
	if a.catalog == nil {
		return nil // a witness takes no step of its own
	}
	for _, n := range a.nodes() {
		if n.Role != model.RoleAgent && !n.Revoked {
			out = append(out, n.ID)
		}
	}
	return out
}

// rootsPause is the time between two servers that begin their configuration
// store anew: it reads its roots only then, and most of the stores must run.
const rootsPause = 10 * time.Second

// rootsTurn is this server's place in the order; witnesses come after all servers.
func (a *App) rootsTurn() (n int) {
	if !a.cfg.Witness {
		return a.placement.position()
	}
	for _, m := range a.cluster.Alive() {
		if !m.Self && (m.Role == model.RoleServer || m.Role == model.RoleWitness && m.ID < a.pki.NodeID()) {
			n++
		}
	}
	return n
}

// adoptRoots brings new roots into use in the configuration store.
func (a *App) adoptRoots(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(a.rootsTurn()) * rootsPause):
	case <-ctx.Done():
		return ctx.Err()
	}
	return a.control.Restart(ctx)
}

// rolloverData keeps the sealed keys of authorities apart from the secrets of records.
const rolloverData = "panoptes authority key"

func (a *App) sealer() (cipher.AEAD, error) {
	key, err := os.ReadFile(a.cfg.Path("seal.key"))
	if err != nil {
		return nil, fmt.Errorf("read the key that seals: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use the key that seals: %w", err)
	}
	return cipher.NewGCM(block)
}

func (a *App) seal(plain []byte) ([]byte, error) {
	g, err := a.sealer()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, g.NonceSize())
	rand.Read(nonce)
	return g.Seal(nonce, nonce, plain, []byte(rolloverData)), nil
}

func (a *App) unseal(sealed []byte) ([]byte, error) {
	g, err := a.sealer()
	if err != nil {
		return nil, err
	}
	if len(sealed) < g.NonceSize() {
		return nil, errors.New("the sealed key is cut short")
	}
	return g.Open(nil, sealed[:g.NonceSize()], sealed[g.NonceSize():], []byte(rolloverData))
}

func (c clusterForAPI) roll() (*pki.Rollover, error) {
	if c.rollover == nil {
		return nil, fmt.Errorf("%w: the configuration store of this server is damaged; ask another server", model.ErrUnavailable)
	}
	return c.rollover, nil
}

func (c clusterForAPI) CA(ctx context.Context) (api.CAInfo, error) {
	r, err := c.roll()
	if err != nil {
		return api.CAInfo{}, err
	}
	s, err := r.Status(ctx)
	if err != nil {
		return api.CAInfo{}, err
	}
	info := api.CAInfo{State: "rotating", Ready: s.Ready, Waiting: s.Waiting}
	if s.Phase == pki.PhaseStable {
		info.State = "stable"
	}
	for _, root := range s.Roots {
		info.Roots = append(info.Roots, api.CARoot{Subject: root.Subject, NotAfter: root.NotAfter, KeyHash: root.KeyHash, Current: root.Current})
	}
	return info, nil
}

func (c clusterForAPI) RotateCA(ctx context.Context, actor string) (api.CAInfo, error) {
	r, err := c.roll()
	if err != nil {
		return api.CAInfo{}, err
	}
	if err := r.Begin(ctx); err != nil {
		return api.CAInfo{}, err
	}
	c.auditCA(ctx, actor, "ca.rotate", "a new certificate authority is brought in")
	return c.CA(ctx)
}

func (c clusterForAPI) FinishCA(ctx context.Context, actor string) (api.CAInfo, error) {
	r, err := c.roll()
	if err != nil {
		return api.CAInfo{}, err
	}
	if err := r.Finish(ctx, false); err != nil {
		return api.CAInfo{}, err
	}
	c.auditCA(ctx, actor, "ca.finish", "the old certificate authority is not believed any more")
	return c.CA(ctx)
}

func (c clusterForAPI) auditCA(ctx context.Context, actor, code, message string) {
	now := time.Now().UTC()
	c.audit(ctx, model.Event{
		ID: model.NewID(now), Time: now, Kind: model.EventAudit, Subject: "cluster/ca", Name: "certificate authority", Severity: "info", Actor: actor, Code: code, Message: message,
	})
}
