package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"

	"panoptes/internal/model"
)

// remoteInterval is how often a client asks its member whether it still serves
// and still hears a majority.
const remoteInterval = 500 * time.Millisecond

// remote is a client's connection to one member at a time, and what it knows of the others.
type remote struct {
	c     *Control
	at    string // address of the member in use
	known []string
	wg    sync.WaitGroup // engines that are being closed
}

// runClient keeps one member connected until ctx ends, and takes the next when
// it does not answer or has lost the majority. Watches and calls go on there.
func (c *Control) runClient(ctx context.Context) error {
	r := &remote{c: c}
	defer r.wg.Wait()
	defer func() {
		c.shut()
		if eng := c.eng.Swap(nil); eng != nil {
			r.drop(eng)
		}
	}()
	tick := time.NewTicker(remoteInterval)
	defer tick.Stop()
	began, learned := time.Now(), time.Time{}
	for {
		if eng := c.eng.Load(); eng == nil || r.ask(ctx, eng, false) != nil {
			r.move(ctx)
		}
		eng := c.eng.Load()
		switch {
		case eng != nil && time.Since(learned) > 4*remoteInterval:
			r.learn(ctx, eng)
			learned = time.Now()
		case eng == nil && time.Since(began) > c.cfg.StartTimeout && !c.late.Swap(true):
			c.log.Error("configuration store not reached", "after", c.cfg.StartTimeout)
		}
		select {
		case <-ctx.Done():
			return nil
		case asked := <-c.restart:
			asked <- nil // files are read at each handshake
		case <-tick.C:
		}
	}
}

// addresses to try, the one in use last.
func (r *remote) addresses() []string {
	list := slices.Clone(r.known)
	for _, a := range r.c.cfg.Endpoints() {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if i := slices.Index(list, r.at); i >= 0 {
		list = append(slices.Delete(list, i, i+1), r.at)
	}
	return list
}

// move connects to a member that hears a majority; when there is none, the
// present one stays, or the first that answers at all is taken.
func (r *remote) move(ctx context.Context) {
	var spare *engine
	var spareAt string
	for _, addr := range r.addresses() {
		eng, err := r.dial(addr)
		if err != nil {
			r.c.log.Warn("member of the configuration store not reached", "addr", addr, "err", err)
			continue
		}
		if err := r.ask(ctx, eng, false); err == nil {
			r.take(eng, addr)
			r.c.look(true)
			if spare != nil {
				r.drop(spare)
			}
			return
		} else if ctx.Err() == nil {
			r.c.log.Debug("member of the configuration store not usable", "addr", addr, "err", err)
		}
		if spare == nil && r.ask(ctx, eng, true) == nil {
			spare, spareAt = eng, addr
			continue
		}
		r.drop(eng)
	}
	r.c.look(false)
	if spare == nil {
		return
	}
	if have := r.c.eng.Load(); have != nil && r.ask(ctx, have, true) == nil {
		r.drop(spare)
		return
	}
	r.take(spare, spareAt)
}

// take makes eng the one in use.
func (r *remote) take(eng *engine, addr string) {
	old := r.c.eng.Swap(eng)
	if old != nil {
		r.drop(old)
	}
	if r.at != addr {
		r.c.log.Info("configuration store reached", "addr", addr)
	}
	r.at = addr
	r.c.opened.Do(func() { close(r.c.ready) })
}

func (r *remote) drop(eng *engine) {
	r.wg.Go(func() {
		if err := eng.close(10 * time.Second); err != nil {
			r.c.log.Warn("old connection not closed", "err", err)
		}
	})
}

func (r *remote) dial(addr string) (*engine, error) {
	cl, err := r.c.dialMember(addr)
	if err != nil {
		return nil, err
	}
	eng := newEngine()
	eng.client = cl
	return eng, nil
}

// dialMember makes a client of one member; it connects when it is used.
func (c *Control) dialMember(addr string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:       []string{"https://" + addr},
		TLS:             c.identity().client("h2"),
		Logger:          zap.NewNop(), // our own lines say what matters
		MaxUnaryRetries: 1,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: probeTimeout,
		})},
	})
}

// ask finds out whether the member answers; with own it may do so from its own
// copy, else it must hear a majority.
func (r *remote) ask(ctx context.Context, eng *engine, own bool) error {
	if eng.client.ActiveConnection().GetState() == connectivity.TransientFailure {
		return errors.New("the connection is lost") // what is asked would wait
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	opts := []clientv3.OpOption{clientv3.WithCountOnly()}
	if own {
		opts = append(opts, clientv3.WithSerializable())
	}
	res, err := eng.client.Get(ctx, ownPrefix, opts...)
	if err != nil {
		return err
	}
	r.c.seen.Store(res.Header.Revision)
	if !own {
		r.c.look(true)
	}
	return nil
}

// learn looks who the members are and how they do.
func (r *remote) learn(ctx context.Context, eng *engine) {
	ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout)
	defer cancel()
	list, err := r.c.raw(ctx, eng)
	if err != nil {
		return
	}
	r.known = r.known[:0]
	for _, m := range list {
		if u, err := url.Parse(m.clientURL); err == nil && u.Host != "" && !m.learner {
			r.known = append(r.known, u.Host)
		}
	}
	r.c.probe(ctx, eng, list)
	if st, err := eng.client.Status(ctx, "https://"+r.at); err == nil {
		r.c.peers.leader.Store(st.Leader)
	}
}

// readRemote reads with the help of members: what the majority has; when there is none, what the member has.
func (c *Control) readRemote(ctx context.Context, key string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	for try := 0; ; try++ {
		res, err := c.readOnce(ctx, key, opts, c.lost.Load() != 0 || try >= 3)
		if err == nil || ctx.Err() != nil || !isUnavailable(err) && !isDone(err) {
			return res, err
		}
		if err := c.state(); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// readOnce asks once; own means the copy of the server that is asked.
func (c *Control) readOnce(ctx context.Context, key string, opts []clientv3.OpOption, own bool) (*clientv3.GetResponse, error) {
	eng, err := c.use()
	if err != nil {
		return nil, err
	}
	ctx, release, err := eng.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if own {
		opts = append(slices.Clone(opts), clientv3.WithSerializable())
	}
	if eng.etcd == nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, probeTimeout)
		defer cancel()
	}
	return eng.client.Get(ctx, key, opts...)
}

// remoteStatus fills in what a client knows.
func (c *Control) remoteStatus(st *Status) {
	st.Ready = true
	st.Leader = c.lost.Load() == 0
	st.Revision = c.seen.Load()
	st.Members = c.peers.count()
}

// leaderClient runs f with a client of the leader.
func (c *Control) leaderClient(list []member, leader uint64, f func(*clientv3.Client) error) error {
	for _, m := range list {
		if m.id != leader {
			continue
		}
		u, err := url.Parse(m.clientURL)
		if err != nil || u.Host == "" {
			break
		}
		cl, err := c.dialMember(u.Host)
		if err != nil {
			return err
		}
		defer cl.Close()
		return f(cl)
	}
	return fmt.Errorf("%w: the leader is not known or serves no clients", model.ErrUnavailable)
}
