package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// The new store of a member without a vote is made in unfinishedDir, and is
// finishedDir until it has taken the place of the old one.
const (
	unfinishedDir = "recovering"
	finishedDir   = "recovered"
)

// recoverLearner founds a store with the keys of a member without a vote: etcd
// cannot make such a one the only member, since nobody would be left to decide.
func recoverLearner(ctx context.Context, cfg Config, known []*membership.Member, out *Recovered, logger *slog.Logger) error {
	revision, members, err := applyLog(ctx, cfg, logger)
	if err != nil {
		return err
	}
	for _, m := range union(members, known) {
		if m.Name != cfg.NodeID {
			out.Removed = append(out.Removed, label(m))
		}
	}
	kvs, newest, err := readKeys(filepath.Join(cfg.Dir, "member", "snap", "db"))
	if err != nil {
		return err
	}
	fresh := cfg
	fresh.Dir = filepath.Join(cfg.Dir, unfinishedDir)
	if err := os.RemoveAll(fresh.Dir); err != nil {
		return err
	}
	made, err := restoreKeys(ctx, fresh, kvs, max(revision, newest), logger)
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh.Dir))
	}
	out.Revision = made.Revision
	if err := os.Rename(fresh.Dir, filepath.Join(cfg.Dir, finishedDir)); err != nil {
		return err
	}
	return swap(cfg.Dir)
}

// applyLog brings the database in line with the log, as far as that is known to
// be agreed on, and returns its revision and members.
func applyLog(ctx context.Context, cfg Config, logger *slog.Logger) (revision int64, members []*membership.Member, err error) {
	member := filepath.Join(cfg.Dir, "member")
	agreed, err := readWAL(filepath.Join(member, "wal"), filepath.Join(member, "snap"))
	if err != nil {
		return 0, nil, err
	}
	eng, end, err := startAlone(cfg, false, logger)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, end()) }() // writes the database
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	server := eng.etcd.Server
	for server.AppliedIndex() < agreed {
		select {
		case <-tick.C:
		case <-eng.gone():
			return 0, nil, errors.New("its log says that this server was removed from the cluster")
		case <-ctx.Done():
			return 0, nil, fmt.Errorf("its log was not applied in time: %w", ctx.Err())
		}
	}
	return server.KV().Rev(), server.Cluster().Members(), nil
}

// swap puts a store that was made in the place of the old one.
func swap(dir string) error {
	made := filepath.Join(dir, finishedDir)
	err := syncDir(dir)
	if memberExists(dir) {
		err = errors.Join(err, os.Rename(filepath.Join(dir, "member"), filepath.Join(made, "old")))
	}
	if err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(made, "member"), filepath.Join(dir, "member")); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return os.RemoveAll(made)
}

// finishSwap ends what an interrupted recovery has left: a store that was made
// counts once the old one is away, and is old itself otherwise.
func finishSwap(dir string) error {
	made := filepath.Join(dir, finishedDir)
	if !memberExists(dir) && memberExists(made) {
		return swap(dir)
	}
	return os.RemoveAll(made)
}
