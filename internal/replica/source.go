package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"panoptes/internal/wire"
)

// source is a server that can be copied from.
type source struct {
	id   string
	conn wire.Conn
	info info
}

// waitFed waits until what is new comes by itself. After a while it goes on: a
// comparison finds what fell between.
func (r *Replica) waitFed(ctx context.Context) error {
	end := time.Now().Add(r.cfg.FedWait)
	for !r.deps.Fed() {
		if time.Now().After(end) {
			r.log.Warn("copy begins although not every live server sends to this one yet", "waited", r.cfg.FedWait)
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// peers asks the live servers what they have. Those that do not answer are left
// out.
func (r *Replica) peers(ctx context.Context) (out []source, err error) {
	var errs []error
	for _, id := range r.deps.Alive() {
		if id == r.cfg.NodeID {
			continue
		}
		s := source{id: id}
		if s.conn, err = r.deps.Dial(id); err == nil {
			c, cancel := context.WithTimeout(ctx, 5*time.Second)
			s.info, err = wire.Call[info](c, s.conn, methodInfo, infoRequest{})
			cancel()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("ask %s: %w", id, err))
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// sources returns who can be copied from, the best first: servers that lack
// nothing of it, those with fewer copies before the others. When two servers
// lack things at the same time they may copy from each other, but never from one
// that is being filled itself.
func (r *Replica) sources(ctx context.Context, n Need) ([]source, error) {
	all, err := r.peers(ctx)
	if len(all) == 0 {
		return nil, errors.Join(errNoSource, err)
	}
	var whole, partial []source
	for _, s := range all {
		lacks, filled := false, false
		for _, v := range s.info.Needs {
			filled = filled || v.All
			lacks = lacks || Need{From: v.From, To: v.To}.overlaps(n.From, n.To)
		}
		switch {
		case !lacks:
			whole = append(whole, s)
		case !filled && !n.all():
			partial = append(partial, s)
		}
	}
	slices.SortStableFunc(whole, func(a, b source) int { return a.info.Busy - b.info.Busy })
	if len(whole) == 0 && len(partial) == 0 {
		return nil, fmt.Errorf("the other servers are being filled themselves: %w", errors.Join(errNoSource, err))
	}
	if len(whole) == 0 {
		return partial, nil
	}
	return whole, nil
}

// sourceEvery is the time between two looks for a server to copy from.
const sourceEvery = time.Second

// eldest reports whether every server on record is alive and being filled, so
// that each would wait for the others for ever, and this one was there first:
// the server that had everything was lost and removed. While one on record is
// away the answer is no, it may be the one that has everything.
func (r *Replica) eldest(ctx context.Context) bool {
	if r.deps.Recorded == nil {
		return false
	}
	recorded := r.deps.Recorded()
	if len(recorded) == 0 {
		return false
	}
	peers, err := r.peers(ctx)
	if err != nil {
		return false
	}
	filling := map[string]bool{r.cfg.NodeID: true}
	for _, p := range peers {
		filling[p.id] = slices.ContainsFunc(p.info.Needs, func(v span) bool { return v.All })
	}
	for _, id := range recorded {
		if !filling[id] || id < r.cfg.NodeID {
			return false
		}
	}
	return true
}
