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
// that most servers are lost for good; one without a vote begins a store of its
// own with what it knows. What the others had acknowledged and this one had not
// heard of is lost. The server must be stopped; it is started as usual
// afterwards and others join it with new identities. It is a step of its own,
// not a setting, so that it cannot happen again by itself. Servers that were
// given up and come back are turned away by this member when they meet it, so
// make sure that they stay off.
func Recover(ctx context.Context, cfg Config, logger *slog.Logger) (Recovered, error) {
	cfg.setDefaults()
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dir == "" || cfg.NodeID == "" {
		return Recovered{}, model.Invalid{{Field: "dir", Msg: "and node_id must be given"}}
	}
	if err := finishSwap(cfg.Dir); err != nil {
		return Recovered{}, fmt.Errorf("recover configuration store: %w", err)
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

	// Nobody is to be heard or reached: the address on record stays.
	cfg.PeerTLS, cfg.PeerAddr, cfg.PeerAdvertise, cfg.ClientAddr, cfg.Join = TLSFiles{}, "127.0.0.1:0", "", "", false
	known := membersOnFile(filepath.Join(out.Copy, "member", "snap", "db"))
	votes := slices.ContainsFunc(known, func(m *membership.Member) bool { return m.Name == cfg.NodeID && !m.IsLearner })
	recovery := recoverLearner
	if votes {
		recovery = recoverVoter
	}
	if err := recovery(ctx, cfg, known, &out, logger); err != nil {
		return out, fmt.Errorf("recover configuration store: %w (the files as they were are in %s)", err, out.Copy)
	}
	return out, dropMark(cfg.Dir, olderFile)
}

// startAlone starts the member in cfg.Dir out of reach of others; end stops it.
func startAlone(cfg Config, force bool, logger *slog.Logger) (eng *engine, end func() error, err error) {
	bridge := newBridge(logger, func(string) {}, func() {}, func() {})
	stopLog := bridge.run()
	addr, err := resolveAddr(cfg.PeerAddr)
	if err != nil {
		stopLog()
		return nil, nil, err
	}
	cfg.PeerAddr, cfg.PeerAdvertise = addr, addr
	ec := etcdConfig(cfg, cfg.NodeID+"=http://"+addr, bridge.zap())
	if clientURL := cfg.ClientAdvertise; clientURL != "" {
		ec.AdvertiseClientUrls = []url.URL{{Scheme: "https", Host: clientURL}}
	}
	ec.ForceNewCluster = force
	eng = newEngine()
	if eng.etcd, err = startEtcd(ec); err != nil {
		eng.cancel()
		stopLog()
		return nil, nil, err
	}
	eng.client = v3client.New(eng.etcd.Server)
	return eng, func() error {
		defer stopLog()
		return eng.close(15 * time.Second)
	}, nil
}

// recoverVoter has etcd make the member the only one.
func recoverVoter(ctx context.Context, cfg Config, known []*membership.Member, out *Recovered, logger *slog.Logger) (err error) {
	eng, end, err := startAlone(cfg, true, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	// What was known before: in the files, since the changes of members come with
	// the log; what the files do not have yet is read at once.
	before := union(eng.etcd.Server.Cluster().Members(), known)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-eng.etcd.Server.ReadyNotify():
	case <-ctx.Done():
		return fmt.Errorf("not ready in time: %w", ctx.Err())
	}
	res, err := eng.client.Put(ctx, recoveredKey, time.Now().UTC().Format(time.RFC3339))
	if err != nil {
		return err
	}
	out.Revision = res.Header.Revision
	for _, m := range before {
		if m.ID != eng.etcd.Server.MemberID() && eng.etcd.Server.Cluster().Member(m.ID) == nil {
			out.Removed = append(out.Removed, label(m))
		}
	}
	if _, err := eng.client.Delete(ctx, memberPrefix, clientv3.WithPrefix()); err != nil {
		return err
	}
	if n := len(eng.etcd.Server.Cluster().Members()); n != 1 {
		return fmt.Errorf("%d members are left, 1 was to be", n)
	}
	return nil
}

func union(a, b []*membership.Member) []*membership.Member {
	for _, m := range b {
		if !slices.ContainsFunc(a, func(o *membership.Member) bool { return o.ID == m.ID }) {
			a = append(a, m)
		}
	}
	return a
}

// label names a member for people.
func label(m *membership.Member) string {
	if m.Name == "" && len(m.PeerURLs) > 0 {
		return m.PeerURLs[0]
	}
	return m.Name
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
