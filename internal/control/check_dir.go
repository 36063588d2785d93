package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
)

// CheckDir reads etcd's files in dir and says what is damaged; a directory
// without data is sound. Damage can make it panic or end the process with
// SIGBUS, so call it in a child process of its own, with a time limit, before
// the store is opened: a damaged directory would end the server.
func CheckDir(dir string) error {
	member := filepath.Join(dir, "member")
	if _, err := os.Stat(member); errors.Is(err, fs.ErrNotExist) {
		if memberExists(filepath.Join(dir, finishedDir)) {
			return errors.New("check configuration store: a recovery was interrupted: run it again")
		}
		return nil
	} else if err != nil {
		return fmt.Errorf("check configuration store: %w", err)
	}
	if older := filepath.Join(dir, olderFile); exists(older) {
		return fmt.Errorf("check configuration store: %w (%s says so)", errOlder, older)
	}
	if begun(dir) {
		return nil // an interrupted first start; the next one begins anew
	}
	if _, err := readWAL(filepath.Join(member, "wal"), filepath.Join(member, "snap")); err != nil {
		return err
	}
	return checkDB(filepath.Join(member, "snap", "db"))
}

// readWAL reads the log and returns how much of it is known to be agreed on.
func readWAL(walDir, snapDir string) (commit uint64, err error) {
	if !wal.Exist(walDir) {
		return 0, fmt.Errorf("check configuration store: %s has no log although the member exists", walDir)
	}
	files, err := filepath.Glob(filepath.Join(walDir, "*.wal"))
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil {
			return 0, fmt.Errorf("check configuration store: %w", err)
		} else if st.Size() == 0 {
			return 0, fmt.Errorf("check configuration store: log segment %s is empty", f)
		}
	}
	lg := zap.NewNop()
	snaps, err := wal.ValidSnapshotEntries(lg, walDir)
	if err != nil {
		return 0, fmt.Errorf("check configuration store's log %s: %w", walDir, err)
	}
	start := &walpb.Snapshot{}
	if newest, err := snap.New(lg, snapDir).LoadNewestAvailable(snaps); err == nil {
		md := newest.GetMetadata()
		index, term := md.GetIndex(), md.GetTerm()
		start.Index, start.Term = &index, &term
	} else if !errors.Is(err, snap.ErrNoSnapshot) {
		return 0, fmt.Errorf("check configuration store's snapshots %s: %w", snapDir, err)
	}
	state, err := wal.Verify(lg, walDir, start)
	if err != nil {
		return 0, fmt.Errorf("check configuration store's log %s: %w", walDir, err)
	}
	return state.GetCommit(), nil
}

func checkDB(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("check configuration store's database: %w", err)
	}
	if st.Size() == 0 {
		return fmt.Errorf("check configuration store's database: %s is empty", path)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 2 * time.Second})
	if err != nil {
		return fmt.Errorf("check configuration store's database %s: %w", path, err)
	}
	defer db.Close()
	var damage error
	err = db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			if damage == nil { // the first is enough; the channel must be drained
				damage = err
			}
		}
		return damage
	})
	if err != nil {
		return fmt.Errorf("check configuration store's database %s: %w", path, err)
	}
	return nil
}
