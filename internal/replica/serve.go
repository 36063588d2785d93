package replica

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// servers may ask for copies; agents and witnesses may not.
var servers = []model.NodeRole{model.RoleServer}

// Register answers other servers. It is called before s runs.
func (r *Replica) Register(s *wire.Server) {
	wire.HandleJSON(s, methodInfo, servers, r.serveInfo)
	wire.HandleJSON(s, methodEvents, servers, r.serveEvents)
	wire.HandleJSON(s, methodDays, servers, r.serveDays)
	wire.HandleJSON(s, methodSuspect, servers, r.serveSuspect)
	s.HandleStream(methodBlock, servers, r.serveBlock)
	s.HandleStream(methodRecent, servers, r.serveRecent)
	s.HandleStream(methodDigests, servers, r.serveDigests)
	s.HandleStream(methodRaw, servers, r.serveRaw)
}

func (r *Replica) serveInfo(_ context.Context, _ model.Peer, req infoRequest) (out info, err error) {
	select {
	case <-r.deps.Store.Ready():
	default:
		return out, fmt.Errorf("the store is being opened: %w", model.ErrUnavailable)
	}
	for _, n := range r.Status().Needs {
		out.Needs = append(out.Needs, span{From: n.From, To: n.To, All: n.all()})
	}
	out.Busy = len(r.copies)
	out.Lag = r.deps.Lag().Milliseconds()
	if out.Oldest, err = r.deps.Store.StartTime(); err != nil {
		return out, err
	}
	if req.Blocks {
		out.Blocks, err = r.deps.Store.Blocks()
	}
	return out, err
}

func (r *Replica) serveEvents(ctx context.Context, _ model.Peer, req eventsRequest) (out eventsPage, err error) {
	out.Events, out.Next, err = r.deps.History.Page(ctx, instant(req.From), instant(req.To), req.Cursor, min(req.Limit, maxPage))
	return out, err
}

func (r *Replica) serveDays(ctx context.Context, _ model.Peer, req daysRequest) ([]model.EventDigest, error) {
	return r.deps.History.Digests(ctx, instant(req.From), instant(req.To))
}

// serveSuspect looks at a block that arrived damaged elsewhere; what is found
// becomes a need of this server's own.
func (r *Replica) serveSuspect(ctx context.Context, from model.Peer, req suspect) (struct{}, error) {
	if err := acquire(ctx, r.scans); err != nil {
		return struct{}{}, err
	}
	defer release(r.scans)
	r.log.Warn("another server says that a block of this one is damaged", "block", req.ID, "node", from.NodeID)
	err := r.deps.Store.Verify(ctx, req.ID)
	if err == nil || errors.Is(err, model.ErrNotFound) {
		return struct{}{}, nil
	}
	r.lookForDamage()
	return struct{}{}, err
}

func (r *Replica) serveBlock(_ model.Peer, s wire.Stream) error {
	var req blockRequest
	if err := recvJSON(s, &req); err != nil {
		return err
	}
	if len(req.Have) > maxHave {
		return model.Invalid{{Field: "have", Msg: "names too many files"}}
	}
	if err := acquire(s.Context(), r.copies); err != nil {
		return err
	}
	defer release(r.copies)
	b, err := r.deps.Store.OpenBlock(req.ID)
	if err != nil {
		return err
	}
	return errors.Join(r.sendBlock(s, b, req.Have), b.Close())
}

func (r *Replica) serveRecent(_ model.Peer, s wire.Stream) error {
	var req recentRequest
	if err := recvJSON(s, &req); err != nil {
		return err
	}
	if err := acquire(s.Context(), r.copies); err != nil {
		return err
	}
	defer release(r.copies)
	blocks, done, err := r.deps.Store.Recent(s.Context(), req.From, req.To)
	if err != nil {
		return err
	}
	defer done()
	for _, b := range blocks {
		if err := r.sendBlock(s, b, nil); err != nil {
			return err
		}
	}
	return nil
}

// sendBlock sends the files of a block. Those of which the receiver has a part
// are read from their beginning all the same, because of the hash.
func (r *Replica) sendBlock(s wire.Stream, b model.Block, have map[string]int64) error {
	head, err := headPiece(b)
	if err != nil {
		return err
	}
	if err := s.Send(head); err != nil {
		return err
	}
	buf := make([]byte, dataHead+pieceBytes)
	for _, f := range b.Files {
		skip := have[f.Name]
		if skip < 0 || skip > f.Size {
			skip = 0
		}
		sum := sha256.New()
		for at := int64(0); at < f.Size; {
			n := min(int64(pieceBytes), f.Size-at)
			if at < skip {
				n = min(n, skip-at)
			}
			m := dataPiece(buf, at)[:dataHead+n]
			if _, err := io.ReadFull(f.R, m[dataHead:]); err != nil {
				return fmt.Errorf("read %s of block %s: %w", f.Name, b.ID, err)
			}
			sum.Write(m[dataHead:])
			if at += n; at <= skip {
				if err := s.Context().Err(); err != nil {
					return err
				}
				continue
			}
			if err := r.out.WaitN(s.Context(), int(n)); err != nil {
				return err
			}
			if err := s.Send(m); err != nil {
				return err
			}
			r.m.sent.Add(float64(n))
		}
		if err := s.Send(sum.Sum([]byte{pieceEnd})); err != nil {
			return err
		}
	}
	return nil
}

func (r *Replica) serveDigests(_ model.Peer, s wire.Stream) error {
	var req digestsRequest
	if err := recvJSON(s, &req); err != nil {
		return err
	}
	if len(req.Ranges) > maxRanges {
		return model.Invalid{{Field: "ranges", Msg: fmt.Sprintf("at most %d are answered", maxRanges)}}
	}
	for _, v := range req.Ranges {
		if err := scanRange(v); err != nil {
			return err
		}
	}
	if err := acquire(s.Context(), r.scans); err != nil {
		return err
	}
	defer release(r.scans)
	for _, v := range req.Ranges {
		d, err := r.deps.Store.Digest(s.Context(), v)
		if err != nil {
			return err
		}
		b, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if err := s.Send(b); err != nil {
			return err
		}
	}
	return nil
}

// rawTime bounds how long a reader may keep the store from freeing memory.
const rawTime = 5 * time.Minute

func (r *Replica) serveRaw(_ model.Peer, s wire.Stream) error {
	var req model.SampleRange
	if err := recvJSON(s, &req); err != nil {
		return err
	}
	if err := scanRange(req); err != nil {
		return err
	}
	if err := acquire(s.Context(), r.scans); err != nil {
		return err
	}
	defer release(r.scans)
	ctx, cancel := context.WithTimeout(s.Context(), rawTime)
	defer cancel()
	return r.deps.Store.ReadRaw(ctx, req, func(b []byte) error {
		if err := r.wait(ctx, r.out, len(b)); err != nil {
			return err
		}
		return s.Send(b)
	})
}

// wait asks a limiter for n bytes, which may be more than it gives at once.
func (r *Replica) wait(ctx context.Context, l interface {
	WaitN(context.Context, int) error
}, n int) error {
	for n > 0 {
		part := min(n, pieceBytes)
		if err := l.WaitN(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

func scanRange(v model.SampleRange) error {
	if v.To-v.From > maxScan || v.To <= v.From {
		return model.Invalid{{Field: "to", Msg: "must lie at most 2h after from"}}
	}
	return nil
}

func recvJSON(s wire.Stream, v any) error {
	b, err := s.Recv()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return model.Invalid{{Msg: "the request is not understood: " + err.Error()}}
	}
	return nil
}

func acquire(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("busy with other copies: %w", model.ErrUnavailable)
	}
}

func release(slots chan struct{}) { <-slots }
