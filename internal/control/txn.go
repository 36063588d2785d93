package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"panoptes/internal/model"
)

// ownPrefix begins the keys that the store keeps for itself.
const ownPrefix = "_control/"

// slot is a key that one transaction at a time writes besides its own keys,
// under the condition that nobody has written it since. So a transaction whose
// answer got lost with a leader may be sent again: at most one of the copies is
// carried out, and what the key holds tells whether one was.
type slot struct {
	key string
	rev int64 // of the last change of the key
}

// slots are those of this process; the names of another run are never used again.
type slots struct {
	prefix string // of all runs of this node
	run    string

	mu   sync.Mutex
	free []*slot
	made int
	seq  uint64
}

func newSlots(nodeID string) *slots {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return &slots{prefix: slotPrefix(nodeID), run: hex.EncodeToString(b[:])}
}

func slotPrefix(nodeID string) string { return ownPrefix + "txn/" + nodeID + "/" }

// take returns a slot and a value that was never written to one.
func (s *slots) take() (*slot, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	mark := s.run + "." + strconv.FormatUint(s.seq, 36)
	if n := len(s.free); n > 0 {
		sl := s.free[n-1]
		s.free = s.free[:n-1]
		return sl, mark
	}
	s.made++
	return &slot{key: s.prefix + s.run + "/" + strconv.Itoa(s.made)}, mark
}

func (s *slots) put(sl *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, sl)
}

// Txn carries out all operations or none: when all conditions hold. A
// condition that does not gives a *model.KVCondError (model.ErrConflict or
// model.ErrRevision). A change of leader is waited for and the transaction sent
// again, but never carried out twice. After model.ErrUnavailable the write may
// have happened or may yet happen; repeating it with conditions is safe. At
// most 1024 conditions and as many operations, 1.5 MB together.
func (c *Control) Txn(ctx context.Context, conds []Cond, ops []Op) (rev int64, err error) {
	start := time.Now()
	defer func() { c.met.wrote(time.Since(start), err) }()
	if len(conds) > maxOps || len(ops) > maxOps {
		return 0, fmt.Errorf("write: %w: more than %d conditions or operations", model.ErrTooLarge, maxOps)
	}
	if err := c.writableDisk(); err != nil {
		return 0, err
	}
	ctx, done := c.deadline(ctx)
	defer done()
	t := newTxn(c, conds, ops)
	limit, pause := time.Second, 10*time.Millisecond
	for try := 0; ; try++ {
		if err := c.state(); err != nil && !c.away.Load() {
			return 0, err
		}
		if err := c.leaderless(leaderPatience); err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
		res, err := t.attempt(ctx, try, limit)
		if err == nil {
			rev, again, err := t.outcome(res, try)
			if !again {
				return rev, err
			}
			continue
		}
		if ctx.Err() != nil || !isUnavailable(err) && !isDone(err) {
			return 0, c.mapErr(ctx, "write", err)
		}
		limit *= 2 // a slow disk is not helped by more work
		select {
		case <-ctx.Done():
			return 0, c.mapErr(ctx, "write", ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, 200*time.Millisecond)
		}
	}
}

// txn is one transaction with its slot.
type txn struct {
	c      *Control
	conds  []Cond
	cmps   []clientv3.Cmp // of conds
	writes []clientv3.Op  // of ops, and the slot's last
	gets   []clientv3.Op  // of conds, and the slot's last
	slot   *slot
	mark   string
}

func newTxn(c *Control, conds []Cond, ops []Op) *txn {
	t := &txn{c: c, conds: conds}
	t.slot, t.mark = c.slots.take()
	for _, cond := range conds {
		if cond.Revision == model.KVAny {
			t.cmps = append(t.cmps, clientv3.Compare(clientv3.ModRevision(cond.Key), ">", 0))
		} else {
			t.cmps = append(t.cmps, clientv3.Compare(clientv3.ModRevision(cond.Key), "=", cond.Revision))
		}
		t.gets = append(t.gets, clientv3.OpGet(cond.Key, clientv3.WithKeysOnly()))
	}
	t.gets = append(t.gets, clientv3.OpGet(t.slot.key))
	for _, op := range ops {
		if op.Delete {
			t.writes = append(t.writes, clientv3.OpDelete(op.Key))
		} else {
			t.writes = append(t.writes, clientv3.OpPut(op.Key, string(op.Value)))
		}
	}
	t.writes = append(t.writes, clientv3.OpPut(t.slot.key, t.mark))
	return t
}

// attempt sends the transaction once and waits at most limit for the answer,
// and not much longer than there is another leader: it may never have got the request.
func (t *txn) attempt(ctx context.Context, try int, limit time.Duration) (*clientv3.TxnResponse, error) {
	eng, err := t.c.use()
	if err != nil {
		return nil, err
	}
	ctx, release, err := eng.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if eng.etcd != nil {
		changed := eng.etcd.Server.LeaderChangedNotify()
		go func() {
			select {
			case <-changed:
				select {
				case <-time.After(300 * time.Millisecond):
					cancel()
				case <-ctx.Done():
				}
			case <-ctx.Done():
			}
		}()
	}
	cmps := append(t.cmps[:len(t.cmps):len(t.cmps)], clientv3.Compare(clientv3.ModRevision(t.slot.key), "=", t.slot.rev))
	gets := t.gets
	if try > 0 {
		// An earlier copy may still be under way. When this one is refused, that
		// one must not be carried out later: the slot moves on. What a copy that
		// was carried out left there stays.
		void := clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(t.slot.key), "=", t.slot.rev)},
			[]clientv3.Op{clientv3.OpPut(t.slot.key, t.mark+"-")}, nil)
		gets = append(gets[:len(gets):len(gets)], void)
	}
	return eng.client.Txn(ctx).If(cmps...).Then(t.writes...).Else(gets...).Commit()
}

// outcome reads the answer. again means that an earlier copy was refused whose
// answer got lost: nothing is under way any more, and a new slot is taken.
func (t *txn) outcome(res *clientv3.TxnResponse, try int) (rev int64, again bool, err error) {
	if res.Succeeded {
		t.free(res.Header.Revision)
		return res.Header.Revision, false, nil
	}
	var found int64
	if kvs := res.Responses[len(t.conds)].GetResponseRange().Kvs; len(kvs) > 0 {
		found = kvs[0].ModRevision
		if string(kvs[0].Value) == t.mark {
			t.free(found)
			return found, false, nil // an earlier copy was carried out
		}
	}
	if found != t.slot.rev {
		n := len(t.conds)
		t.slot, t.mark = t.c.slots.take()
		t.gets[n] = clientv3.OpGet(t.slot.key)
		t.writes[len(t.writes)-1] = clientv3.OpPut(t.slot.key, t.mark)
		return 0, true, nil
	}
	if try > 0 {
		found = res.Header.Revision // this copy moved the slot on
	}
	t.free(found)
	for i, cond := range t.conds {
		ce := &model.KVCondError{Key: cond.Key, Revision: res.Header.Revision, Err: model.ErrRevision}
		if kvs := res.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			ce.Found = kvs[0].ModRevision
		}
		switch {
		case cond.Revision == model.KVAny && ce.Found != 0, cond.Revision == ce.Found:
			continue
		case cond.Revision == model.KVAbsent:
			ce.Err = model.ErrConflict
		}
		return 0, false, ce
	}
	return 0, false, fmt.Errorf("write: a condition did not hold, none of them differs now: %w", model.ErrRevision)
}

// free gives the slot back, which was last changed at rev.
func (t *txn) free(rev int64) {
	t.slot.rev = rev
	t.c.slots.put(t.slot)
}

// sweep deletes the slots of earlier runs of this node.
func (c *Control) sweep(ctx context.Context, eng *engine) error {
	for _, r := range [][2]string{
		{c.slots.prefix, c.slots.prefix + c.slots.run + "/"},
		{clientv3.GetPrefixRangeEnd(c.slots.prefix + c.slots.run + "/"), clientv3.GetPrefixRangeEnd(c.slots.prefix)},
	} {
		res, err := eng.client.Get(ctx, r[0], clientv3.WithRange(r[1]), clientv3.WithCountOnly(), clientv3.WithSerializable())
		if err != nil {
			return err
		}
		if res.Count == 0 {
			continue
		}
		if _, err := eng.client.Delete(ctx, r[0], clientv3.WithRange(r[1])); err != nil {
			return err
		}
	}
	return nil
}
