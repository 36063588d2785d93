package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	probeTimeout  = time.Second
	probeInterval = time.Second
)

// peers is what this server knows of the health of the members.
type peers struct {
	leader atomic.Uint64 // as a client was told; 0 when there is none

	mu   sync.Mutex
	list []peer
	at   time.Time
}

type peer struct {
	id   uint64
	node string
	err  string // why it is not healthy; empty when it is
}

func newPeers() *peers { return &peers{} }

// of returns why the member is not healthy, "" when it is.
func (p *peers) of(id uint64) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.list {
		if q.id == id {
			return q.err
		}
	}
	return "not asked yet"
}

// silent lists the nodes of the members that do not answer.
func (p *peers) silent() (ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.list {
		if q.err != "" {
			ids = append(ids, cmp.Or(q.node, fmt.Sprintf("%x", q.id)))
		}
	}
	return ids
}

func (p *peers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.list)
}

// probe asks all members whether they are there, unless that was done just now.
func (c *Control) probe(ctx context.Context, eng *engine, list []member) {
	same := func(q peer, m member) bool { return q.id == m.id }
	c.peers.mu.Lock()
	current := time.Since(c.peers.at) < probeInterval/2 && slices.EqualFunc(c.peers.list, list, same)
	c.peers.mu.Unlock()
	if current {
		return
	}
	out := make([]peer, len(list))
	var wg sync.WaitGroup
	for i, m := range list {
		out[i] = peer{id: m.id, node: m.node}
		if eng.etcd != nil && m.id == uint64(eng.etcd.Server.MemberID()) {
			continue
		}
		wg.Go(func() {
			out[i].err = c.askStore(ctx, eng, m)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	c.peers.mu.Lock()
	c.peers.list, c.peers.at = out, time.Now()
	c.peers.mu.Unlock()
}

// askStore says why a member is not healthy: it is away, or what answers at its
// address is another store, such as one that was restored from a backup.
func (c *Control) askStore(ctx context.Context, eng *engine, m member) string {
	header, _, err := c.askPeer(ctx, m.peerURL, "/members")
	if err != nil {
		return "does not answer: " + err.Error()
	}
	if eng.etcd == nil || header.Get(storeHeader) == eng.etcd.Server.Cluster().ID().String() {
		return ""
	}
	if c.peers.of(m.id) != otherStore {
		c.log.Warn("a member answers for another configuration store, as one does that was restored from a backup beside the others: remove it, and let it join again with an empty data directory", "node", m.node, "peer", m.peerURL)
	}
	return otherStore
}

const (
	storeHeader = "X-Etcd-Cluster-ID" // of the answers of members
	otherStore  = "keeps another configuration store: it was restored from a backup, or begun anew; remove it and let it join again"
)

// askPeer reads from the small HTTP service of a member, which is alive as long
// as its process is.
func (c *Control) askPeer(ctx context.Context, peerURL, path string) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(peerURL, "/")+path, nil)
	if err != nil {
		return nil, nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, nil, fmt.Errorf("nothing within %s", probeTimeout)
		}
		return nil, nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s", res.Status, body)
	}
	return res.Header, body, nil
}

// joinList asks the members for the list of members that etcd wants to start
// with: it must be the one of now, while others may be joining as well.
func (c *Control) joinList(ctx context.Context, cfg Config) (string, error) {
	self := cfg.scheme() + "://" + cfg.PeerAdvertise
	var errs []error
	for _, m := range cfg.Initial {
		if m.NodeID == cfg.NodeID || m.Addr == cfg.PeerAdvertise {
			continue
		}
		list, err := c.askMembers(ctx, cfg.scheme()+"://"+m.Addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("ask %s for the members: %w", m.Addr, err))
			continue
		}
		initial, listed := []string{cfg.NodeID + "=" + self}, false
		for _, m := range list {
			if m.peerURL == self {
				if m.started {
					// Under its old id it would deny what it has promised to others.
					return "", fmt.Errorf("the cluster knows %s, but its data are not here; remove that member and add it again", cfg.PeerAdvertise)
				}
				listed = true
				continue
			}
			initial = append(initial, cmp.Or(m.node, fmt.Sprintf("%x", m.id))+"="+m.peerURL)
		}
		if listed {
			return strings.Join(initial, ","), nil
		}
		errs = append(errs, fmt.Errorf("%s does not list %s: it was not added, or with another address", m.Addr, cfg.PeerAdvertise))
	}
	return "", errors.Join(errs...)
}

func (c *Control) askMembers(ctx context.Context, peerURL string) ([]member, error) {
	_, body, err := c.askPeer(ctx, peerURL, "/members")
	if err != nil {
		return nil, err
	}
	var in []struct {
		ID         uint64   `json:"id"`
		PeerURLs   []string `json:"peerURLs"`
		IsLearner  bool     `json:"isLearner"`
		Name       string   `json:"name"`
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, err
	}
	list := make([]member, len(in))
	for i, m := range in {
		list[i] = toMember(m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
	}
	return list, nil
}

// listed says whether the cluster waits for a new member at our address.
func (c *Control) listed(ctx context.Context) bool {
	cfg := c.cfg
	for _, m := range cfg.Initial {
		if m.NodeID == cfg.NodeID || m.Addr == cfg.PeerAdvertise {
			continue
		}
		list, err := c.askMembers(ctx, cfg.scheme()+"://"+m.Addr)
		if err != nil {
			continue
		}
		for _, m := range list {
			if m.peerURL == cfg.scheme()+"://"+cfg.PeerAdvertise && !m.started {
				return true
			}
		}
	}
	return false
}
