package control

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"panoptes/internal/model"
)

// ControlMember is one member of the cluster as this server sees it.
type ControlMember struct {
	NodeID    string // empty when nobody knows: it never started
	PeerURL   string
	ClientURL string // empty when it serves no clients
	Learner   bool   // has no vote yet
	Leader    bool
	Self      bool
	Started   bool   // it has been in the cluster at least once
	Healthy   bool   // it answers this server
	Note      string // why a learner has no vote, or a member is not healthy
}

// memberPrefix begins the keys that tell which node a member is meant to be
// before it has started and says so itself.
const memberPrefix = ownPrefix + "member/"

func memberKey(id uint64) string { return memberPrefix + strconv.FormatUint(id, 16) }

// Members lists the members of the cluster, by node id. Without a majority it
// is what this server knew last.
func (c *Control) Members(ctx context.Context) ([]ControlMember, error) {
	eng, err := c.use()
	if err != nil {
		return nil, err
	}
	ctx, release, err := eng.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, done := c.deadline(ctx)
	defer done()
	list, err := c.raw(ctx, eng)
	if err != nil {
		return nil, c.mapErr(ctx, "list members", err)
	}
	c.probe(ctx, eng, list)
	leader := c.leaderID(eng)
	out := make([]ControlMember, len(list))
	for i, m := range list {
		health := c.peers.of(m.id)
		out[i] = ControlMember{
			NodeID: m.node, PeerURL: m.peerURL, ClientURL: m.clientURL, Learner: m.learner,
			Leader: m.id == leader, Self: m.node == c.cfg.NodeID, Started: m.started, Healthy: health == "", Note: health,
		}
		if m.learner {
			out[i].Note = hold(list, m, health)
		}
	}
	return out, nil
}

// member is an entry of etcd's list.
type member struct {
	id                 uint64
	node               string // id of the node; empty when unknown
	peerURL, clientURL string
	learner, started   bool
}

// raw lists the members as this server knows them, by node id.
func (c *Control) raw(ctx context.Context, eng *engine) ([]member, error) {
	var out []member
	if eng.etcd != nil {
		for _, m := range eng.etcd.Server.Cluster().Members() {
			out = append(out, toMember(uint64(m.ID), m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner))
		}
	} else {
		list, err := eng.client.MemberList(ctx, clientv3.WithSerializable())
		if err != nil {
			return nil, err
		}
		for _, m := range list.Members {
			out = append(out, fromPB(m))
		}
	}
	if slices.ContainsFunc(out, func(m member) bool { return m.node == "" }) {
		res, err := c.read(ctx, memberPrefix, clientv3.WithPrefix())
		if err != nil {
			return nil, err
		}
		for _, kv := range res.Kvs {
			for i := range out {
				if out[i].node == "" && memberKey(out[i].id) == string(kv.Key) {
					out[i].node = string(kv.Value)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b member) int { return strings.Compare(a.node+a.peerURL, b.node+b.peerURL) })
	return out, nil
}

func fromPB(m *pb.Member) member {
	return toMember(m.ID, m.Name, m.PeerURLs, m.ClientURLs, m.IsLearner)
}

func toMember(id uint64, name string, peers, clients []string, learner bool) member {
	m := member{id: id, node: name, learner: learner, started: name != ""}
	if len(peers) > 0 {
		m.peerURL = peers[0]
	}
	if len(clients) > 0 {
		m.clientURL = clients[0]
	}
	return m
}

func (m member) addr() string {
	u, err := url.Parse(m.peerURL)
	if err != nil {
		return m.peerURL
	}
	return u.Host
}

func voters(list []member) (n int) {
	for _, m := range list {
		if !m.learner {
			n++
		}
	}
	return n
}

// Leader returns the node id of the leader, "" when there is none.
func (c *Control) Leader() string {
	eng, err := c.use()
	if err != nil {
		return ""
	}
	ctx, release, err := eng.acquire(context.Background())
	if err != nil {
		return ""
	}
	defer release()
	ctx, done := context.WithTimeout(ctx, probeTimeout)
	defer done()
	id := c.leaderID(eng)
	if id == 0 {
		return ""
	}
	list, err := c.raw(ctx, eng)
	if err != nil {
		return ""
	}
	for _, m := range list {
		if m.id == id {
			return m.node
		}
	}
	return ""
}

func (c *Control) leaderID(eng *engine) uint64 {
	if eng.etcd == nil {
		return c.peers.leader.Load()
	}
	return uint64(eng.etcd.Server.Leader())
}

// change runs one change of the membership. etcd refuses changes while it has
// not been in touch with a majority for some seconds, as after a change before:
// that is waited for, up to 30 s or the end of ctx.
func (c *Control) change(ctx context.Context, what string, f func(context.Context, *engine) error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.changeOnce(ctx, f)
		switch {
		case err == nil:
			return nil
		case c.state() != nil:
			return fmt.Errorf("%s: %w", what, c.state())
		case !passing(err):
			return c.mapErr(ctx, what, err)
		}
		select {
		case <-ctx.Done():
			if isUnavailable(err) {
				return fmt.Errorf("%s: %w: %w%s", what, model.ErrUnavailable, err, c.without())
			}
			return fmt.Errorf("%s: %w: %w", what, model.ErrUnavailable, err)
		case <-tick.C:
		}
	}
}

// errNumberUsed is of a member whose number, which is made of its address and
// the second, is that of one which was removed in the same second.
var errNumberUsed = errors.New("a member at this address was removed just now")

// passing says whether waiting may help.
func passing(err error) bool {
	return errors.Is(err, errNumberUsed) || errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) || errors.Is(err, rpctypes.ErrMemberLearnerNotReady) ||
		isUnavailable(err) || isDone(err)
}

func isDone(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func (c *Control) changeOnce(ctx context.Context, f func(context.Context, *engine) error) error {
	eng, err := c.use()
	if err != nil {
		return err
	}
	ctx, release, err := eng.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	ctx, done := c.deadline(ctx)
	defer done()
	return f(ctx, eng)
}

// current lists the members as the majority knows them.
func (c *Control) current(ctx context.Context, eng *engine) ([]member, error) {
	if _, err := eng.client.MemberList(ctx); err != nil { // waits until this server has heard of all changes
		return nil, err
	}
	return c.raw(ctx, eng)
}

// AddLearner lets the node join as a learner at peerAddr (host:port), and
// returns the members that it starts with (Config.Initial). Asking again is
// harmless; another address of the same node replaces the one on record. An
// address that another node has is model.ErrConflict.
func (c *Control) AddLearner(ctx context.Context, nodeID, peerAddr string) (initial []Member, err error) {
	if nodeID == "" || strings.ContainsAny(nodeID, "=,/") {
		return nil, model.Invalid{{Field: "node_id", Msg: "must be the id of a node"}}
	}
	var inv model.Invalid
	if checkAdvertised(&inv, "peer_addr", peerAddr); len(inv) > 0 {
		return nil, inv
	}
	peer := c.cfg.scheme() + "://" + peerAddr
	err = c.change(ctx, "add member "+nodeID, func(ctx context.Context, eng *engine) error {
		list, err := c.current(ctx, eng)
		if err != nil {
			return err
		}
		known := false
		for _, m := range list {
			switch {
			case !strings.HasPrefix(m.peerURL, c.cfg.scheme()+"://"):
				return fmt.Errorf("%w: member %s has not told its address yet", model.ErrUnavailable, m.node)
			case m.node == nodeID && m.peerURL == peer, m.node == "" && m.peerURL == peer:
				if err := c.nameMember(ctx, eng, m.id, nodeID); err != nil {
					return err
				}
				known = true
			case m.node == nodeID && m.started:
				// It knows its address better than we do, and corrects it at its start.
				if _, err := eng.client.MemberUpdate(ctx, m.id, []string{peer}); err != nil {
					return err
				}
				known = true
			case m.node == nodeID, m.peerURL == peer && !m.started:
				// Never started: begin anew.
				if _, err := eng.client.MemberRemove(ctx, m.id); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
					return err
				}
			case m.peerURL == peer:
				return fmt.Errorf("%w: address %s belongs to member %s; remove that one first", model.ErrConflict, peerAddr, m.node)
			}
		}
		if !known {
			res, err := eng.client.MemberAddAsLearner(ctx, []string{peer})
			if errors.Is(err, rpctypes.ErrMemberNotFound) {
				return errNumberUsed
			}
			if err != nil {
				return err
			}
			if err := c.nameMember(ctx, eng, res.Member.ID, nodeID); err != nil {
				return err
			}
		}
		if list, err = c.current(ctx, eng); err != nil {
			return err
		}
		initial = initial[:0]
		for _, m := range list {
			initial = append(initial, Member{NodeID: m.node, Addr: m.addr()})
		}
		return nil
	})
	if errors.Is(err, rpctypes.ErrTooManyLearners) {
		err = fmt.Errorf("%w: %d servers are already on their way into the cluster: %w", model.ErrLimit, maxLearners, err)
	}
	return initial, err
}

// nameMember notes which node the member will be.
func (c *Control) nameMember(ctx context.Context, eng *engine, id uint64, nodeID string) error {
	_, err := eng.client.Txn(ctx).If(clientv3.Compare(clientv3.Value(memberKey(id)), "=", nodeID)).
		Else(clientv3.OpPut(memberKey(id), nodeID)).Commit()
	return err
}
