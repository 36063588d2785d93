package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"panoptes/internal/model"
)

// Recovered is what Recover has made.
type Recovered struct {
	Revision int64    // of the data that were kept
	Removed  []string // members that are none any more; those without a name by their address
	Copy     string   // directory with the files as they were
}

// recoveredKey tells when the cluster was last begun anew.
const recoveredKey = ownPrefix + "recovered"

// Recover makes the member in cfg.Dir the only one of its cluster, for the case
// that most servers are lost for good. What they had acknowledged and this one
// had not heard of is lost. The server must be stopped; it is started as usual
// afterwards and others join it with new identities. It is a step of its own,
// not a setting, so that it cannot happen again by itself. Servers that were
// given up and come back are turned away by this member when they meet it, so
// make sure that they stay off.
func Recover(ctx context.Context, cfg Config, logger *slog.Logger) (_ Recovered, err error) {
	cfg.setDefaults()
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir == "" || cfg.NodeID == "" {
		return Recovered{}, model.Invalid{{Field: "dir", Msg: "and node_id must be given"}}
	}
	if !memberExists(cfg.Dir) {
		return Recovered{}, fmt.Errorf("recover configuration store: %w: %s holds none", model.ErrNotFound, cfg.Dir)
	}
	if wasRemoved(cfg.Dir, cfg.NodeID) {
		return Recovered{}, fmt.Errorf("recover configuration store: %w: this server was removed from the cluster, its data are old", model.ErrConflict)
	}
	out := Recovered{Copy: filepath.Join(cfg.Dir, "before-recovery-"+time.Now().UTC().Format("20060102T150405.000"))}
	if err := os.CopyFS(filepath.Join(out.Copy, "member"), os.DirFS(filepath.Join(cfg.Dir, "member"))); err != nil {
		return Recovered{}, fmt.Errorf("copy files before recovery: %w", err)
	}

	bridge := newBridge(logger, func(string) {}, func() {})
	defer bridge.run()()
	addr, err := resolveAddr("127.0.0.1:0")
	if err != nil {
		return Recovered{}, err
	}
	// Nobody is to be heard or reached: the address on record stays.
	cfg.PeerTLS, cfg.PeerAddr, cfg.PeerAdvertise, cfg.ClientAddr, cfg.Join = TLSFiles{}, addr, addr, "", false
	ec := etcdConfig(cfg, cfg.NodeID+"=http://"+addr, bridge.zap())
	if clientURL := cfg.ClientAdvertise; clientURL != "" {
		ec.AdvertiseClientUrls = []url.URL{{Scheme: "https", Host: clientURL}}
	}
	ec.ForceNewCluster = true
	eng := newEngine()
	if eng.etcd, err = startEtcd(ec); err != nil {
		eng.cancel()
		return out, fmt.Errorf("recover configuration store: %w (the files as they were are in %s)", err, out.Copy)
	}
	// What was known before: in the files, since the changes of members come with
	// the log; what the files do not have yet is read at once.
	before := eng.etcd.Server.Cluster().Members()
	for _, m := range membersOnFile(filepath.Join(out.Copy, "member", "snap", "db")) {
		if !slices.ContainsFunc(before, func(b *membership.Member) bool { return b.ID == m.ID }) {
			before = append(before, m)
		}
	}
	eng.client = v3client.New(eng.etcd.Server)
	defer func() { err = errors.Join(err, eng.close(15*time.Second)) }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-eng.etcd.Server.ReadyNotify():
	case <-ctx.Done():
		return out, fmt.Errorf("recover configuration store: not ready in time: %w (the files as they were are in %s)", ctx.Err(), out.Copy)
	}
	res, err := eng.client.Put(ctx, recoveredKey, time.Now().UTC().Format(time.RFC3339))
	if err != nil {
		return out, fmt.Errorf("recover configuration store: %w", err)
	}
	out.Revision = res.Header.Revision
	for _, m := range before {
		if m.ID == eng.etcd.Server.MemberID() || eng.etcd.Server.Cluster().Member(m.ID) != nil {
			continue
		}
		name := m.Name
		if name == "" && len(m.PeerURLs) > 0 {
			name = m.PeerURLs[0]
		}
		out.Removed = append(out.Removed, name)
	}
	if _, err := eng.client.Delete(ctx, memberPrefix, clientv3.WithPrefix()); err != nil {
		return out, fmt.Errorf("recover configuration store: %w", err)
	}
	if n := len(eng.etcd.Server.Cluster().Members()); n != 1 {
		return out, fmt.Errorf("recover configuration store: %d members are left, 1 was to be (the files as they were are in %s)", n, out.Copy)
	}
	return out, nil
}

// membersOnFile reads the members that a database knows, for a list that people
// are shown: what cannot be read is left out.
func membersOnFile(path string) (out []*membership.Member) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 5 * time.Second})
	if err != nil {
		return nil
	}
	defer db.Close() //nolint:errcheck // nothing was written
	// Errors of a file that is only shown from are not worth a word.
	_ = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("members"))
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			var m membership.Member
			if json.Unmarshal(v, &m) == nil && m.ID != 0 {
				out = append(out, &m)
			}
			return nil
		})
	})
	return out
}
