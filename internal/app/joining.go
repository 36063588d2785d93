package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"panoptes/internal/catalog"
	"panoptes/internal/model"
	"panoptes/internal/pki"
)

// nodeStore and tokenStore keep the records that joining needs in the catalog.
type (
	nodeStore  struct{ *catalog.Catalog }
	tokenStore struct{ *catalog.Catalog }
)

// actorCluster is who changes records when nodes join.
const actorCluster = "system"

func (s nodeStore) Get(_ context.Context, id string) (model.Node, error) {
	rec, err := s.Catalog.Get(model.KindNode, id)
	if err != nil {
		return model.Node{}, err
	}
	return decodeNode(rec)
}

func decodeNode(rec model.Record) (model.Node, error) {
	var n model.Node
	if err := json.Unmarshal(rec.Spec, &n); err != nil {
		return n, fmt.Errorf("read the record of node %s: %w", rec.Name, err)
	}
	n.Revision = rec.Revision
	return n, nil
}

func (s nodeStore) ByName(_ context.Context, name string) (model.Node, error) {
	for _, rec := range s.List(model.KindNode) {
		if n, err := decodeNode(rec); err == nil && n.Name == name {
			return n, nil
		}
	}
	return model.Node{}, fmt.Errorf("node %s: %w", name, model.ErrNotFound)
}

func (s nodeStore) Create(ctx context.Context, n model.Node) error {
	spec, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = s.Catalog.Create(ctx, actorCluster, model.KindNode, spec)
	return err
}

func (s nodeStore) Update(ctx context.Context, n model.Node) error {
	spec, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = s.Catalog.Update(ctx, actorCluster, model.KindNode, n.ID, spec, n.Revision)
	return err
}

func (s tokenStore) Get(_ context.Context, name string) (t model.Token, revision int64, err error) {
	rec, err := s.Catalog.Get(model.KindToken, name)
	if err != nil {
		return t, 0, err
	}
	if err := json.Unmarshal(rec.Spec, &t); err != nil {
		return t, 0, fmt.Errorf("read the record of token %s: %w", name, err)
	}
	return t, rec.Revision, nil
}

func (s tokenStore) Update(ctx context.Context, t model.Token, revision int64) error {
	spec, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = s.Catalog.Update(ctx, actorCluster, model.KindToken, t.Name, spec, revision)
	return err
}

func (a *App) openAuthority() (err error) {
	a.authority, err = pki.NewAuthority(a.pki, pki.AuthorityDeps{
		Nodes: nodeStore{a.catalog}, Tokens: tokenStore{a.catalog}, Welcome: a.greet, Audit: a.audit, Alive: a.isAlive,
		Version: a.opts.Version, Logger: a.logger("pki"),
	})
	if err != nil {
		return fmt.Errorf("open the authority of the cluster: %w", err)
	}
	return nil
}

func (a *App) isAlive(id string) bool {
	for _, m := range a.cluster.Members() {
		if m.ID == id {
			return m.State == model.MemberAlive || m.State == model.MemberSuspect
		}
	}
	return a.online(id)
}

// recordSelf keeps the record of this server: the first one makes its own, and
// addresses may change from start to start.
func (a *App) recordSelf(ctx context.Context) error {
	want := model.Node{
		ID: a.pki.NodeID(), Name: a.cfg.Node, Role: a.role(), Region: a.cfg.Region, Addresses: a.addresses(),
		KeyHash: a.pki.KeyHash(), Version: a.opts.Version, Joined: time.Now().UTC().Truncate(time.Second),
	}
	have, err := nodeStore{a.catalog}.Get(ctx, want.ID)
	if errors.Is(err, model.ErrNotFound) {
		return nodeStore{a.catalog}.Create(ctx, want)
	}
	if err != nil {
		return err
	}
	if have.Name == want.Name && have.Region == want.Region && have.Addresses == want.Addresses && have.Version == want.Version || have.Revoked {
		return nil
	}
	have.Name, have.Region, have.Addresses, have.Version = want.Name, want.Region, want.Addresses, want.Version
	return nodeStore{a.catalog}.Update(ctx, have)
}

// removeReplaced takes members whose nodes were replaced or revoked out of the
// configuration store, so that they do not count towards its majority.
func (a *App) removeReplaced(ctx context.Context) error {
	members, err := a.control.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		n, err := nodeStore{a.catalog}.Get(ctx, m.NodeID)
		if err != nil || !n.Revoked {
			continue
		}
		if err := a.control.Remove(ctx, m.NodeID); err != nil {
			return fmt.Errorf("remove the replaced server %s from the configuration store: %w", n.Name, err)
		}
	}
	return nil
}
