package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"panoptes/internal/model"
)

// Restored is what Restore has made.
type Restored struct {
	Revision int64 // above the one that the snapshot was of
	Keys     int
}

// restoredKey is written until the revision is above that of the snapshot.
const restoredKey = ownPrefix + "restored"

// Restore founds a store of one member in cfg.Dir, which must hold none, with
// the keys of a snapshot (Control.Snapshot). It is a new store: its revision
// goes on above that of the snapshot, so that nobody sees time run backwards,
// and members of the one before are strangers to it.
func Restore(ctx context.Context, cfg Config, snapshot string, logger *slog.Logger) (Restored, error) {
	if memberExists(cfg.Dir) {
		return Restored{}, fmt.Errorf("restore configuration store: %w: %s holds one already", model.ErrConflict, cfg.Dir)
	}
	kvs, revision, err := readSnapshot(snapshot)
	if err != nil {
		return Restored{}, fmt.Errorf("restore configuration store: %w", err)
	}
	return restoreKeys(ctx, cfg, kvs, revision, logger)
}

// restoreKeys founds a store with the keys, whose revision goes on above the given one.
func restoreKeys(ctx context.Context, cfg Config, kvs map[string][]byte, revision int64, logger *slog.Logger) (_ Restored, err error) {
	// Nobody is to be heard or reached meanwhile.
	cfg.PeerTLS, cfg.PeerAddr, cfg.PeerAdvertise, cfg.ClientAddr, cfg.ClientAdvertise = TLSFiles{}, "127.0.0.1:0", "", "", ""
	cfg.Join, cfg.Initial, cfg.Endpoints = false, nil, nil
	c, err := New(cfg, Deps{Logger: logger})
	if err != nil {
		return Restored{}, fmt.Errorf("restore configuration store: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-done)
	}()
	select {
	case <-c.Ready():
	case <-time.After(time.Minute):
		return Restored{}, errors.New("restore configuration store: it is not ready within a minute")
	case <-ctx.Done():
		return Restored{}, context.Cause(ctx)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(32)
	for _, key := range slices.Sorted(maps.Keys(kvs)) {
		g.Go(func() error { return c.fill(gctx, key, kvs[key]) })
	}
	if err := g.Wait(); err != nil {
		return Restored{}, fmt.Errorf("restore configuration store: %w", err)
	}
	now, err := c.raise(ctx, revision)
	return Restored{Revision: now, Keys: len(kvs)}, err
}

func (c *Control) fill(ctx context.Context, key string, value []byte) error {
	eng, err := c.use()
	if err != nil {
		return err
	}
	_, err = eng.client.Put(ctx, key, string(value))
	return err
}

// raise writes until the revision is above the given one.
func (c *Control) raise(ctx context.Context, above int64) (int64, error) {
	var now atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range 64 { // the log syncs what comes together at once
		g.Go(func() error {
			for now.Load() <= above {
				eng, err := c.use()
				if err != nil {
					return err
				}
				res, err := eng.client.Put(gctx, restoredKey, time.Now().UTC().Format(time.RFC3339))
				if err != nil {
					return fmt.Errorf("raise the revision of the configuration store: %w", err)
				}
				for old := now.Load(); res.Header.Revision > old && !now.CompareAndSwap(old, res.Header.Revision); old = now.Load() {
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return now.Load(), c.Compact(ctx, now.Load())
}

// readSnapshot returns the keys that are in a snapshot, without the store's own,
// and its revision.
func readSnapshot(path string) (kvs map[string][]byte, revision int64, err error) {
	if err := checkSnapshot(path); err != nil {
		return nil, 0, err
	}
	return readKeys(path)
}

// readKeys reads those of a database that nobody writes.
func readKeys(path string) (kvs map[string][]byte, revision int64, err error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 2 * time.Second})
	if err != nil {
		return nil, 0, fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	kvs = map[string][]byte{}
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		if b == nil {
			return fmt.Errorf("%w: the database holds no keys", model.ErrDamaged)
		}
		// A key is a revision, so they come in the order in which they were written.
		return b.ForEach(func(k, v []byte) error {
			if len(k) < 17 {
				return fmt.Errorf("%w: a revision of %d bytes", model.ErrDamaged, len(k))
			}
			revision = max(revision, int64(binary.BigEndian.Uint64(k)))
			kv := &mvccpb.KeyValue{}
			if err := proto.Unmarshal(v, kv); err != nil {
				return fmt.Errorf("%w: decode a key: %w", model.ErrDamaged, err)
			}
			switch key := string(kv.GetKey()); {
			case len(k) == 18 && k[17] == 't':
				delete(kvs, key)
			case !strings.HasPrefix(key, ownPrefix):
				kvs[key] = bytes.Clone(kv.GetValue())
			}
			return nil
		})
	})
	return kvs, revision, err
}

// checkSnapshot compares the checksum at the end of a snapshot: a damaged
// database could end the process that reads it.
func checkSnapshot(path string) error {
	data, err := os.ReadFile(path) // at most the quota, 512 MiB
	if err != nil {
		return err
	}
	n := len(data) - sha256.Size
	if n <= 0 || n%512 != 0 {
		return fmt.Errorf("%w: the snapshot is cut off", model.ErrDamaged)
	}
	if sum := sha256.Sum256(data[:n]); !bytes.Equal(sum[:], data[n:]) {
		return fmt.Errorf("%w: the checksum of the snapshot is wrong", model.ErrDamaged)
	}
	return nil
}
