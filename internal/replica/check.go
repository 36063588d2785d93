package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// Report is what a comparison with the other servers found. Each server takes
// what it lacks; what others lack they take themselves.
type Report struct {
	At        time.Time `json:"at"`
	Peers     []string  `json:"peers"`              // compared with
	Windows   int       `json:"windows"`            // of samples, times peers
	Days      int       `json:"days"`               // of events, times peers
	Different int       `json:"different"`          // windows and days whose digests differed, for whatever reason
	Mismatch  int       `json:"mismatch"`           // of those, where something was missing here
	Missing   int       `json:"missing"`            // samples that were missing here
	Repaired  int       `json:"repaired"`           // of those, stored now
	Extra     int       `json:"extra"`              // samples that a peer lacked
	Events    int       `json:"events"`             // that were missing here, stored now
	Conflicts int       `json:"conflicts"`          // same series and time, other value: reported only
	Examples  []string  `json:"examples,omitempty"` // of conflicts
	Refused   int       `json:"refused"`            // samples that the store did not take
	Seconds   float64   `json:"seconds"`
	Err       string    `json:"err,omitempty"` // what could not be compared
}

const (
	windowMS    = 2 * 60 * 60 * 1000
	dayMS       = 24 * 60 * 60 * 1000
	repairGroup = 64 // shards that are repaired at a time
	eventDays   = 7  // that are compared each time

	// maxLag bounds what is left to the relay: one that is stuck must not keep
	// stores from being compared.
	maxLag = time.Hour
)

// runChecks compares from time to time.
func (r *Replica) runChecks(ctx context.Context) {
	for {
		// Not all servers at the same instant.
		if pause(ctx, r.cfg.CheckEvery-time.Duration(rand.Int64N(int64(r.cfg.CheckEvery)/8+1))) != nil {
			return
		}
		if !r.Status().Complete {
			continue
		}
		if _, err := r.check(ctx, r.cfg.Settle, true); err != nil && ctx.Err() == nil {
			r.log.Warn("comparison with other servers not complete", "err", err)
		}
	}
}

// CheckNow compares the last hours, up to a few seconds ago, with every live
// server and takes what is missing here. It answers model.ErrUnavailable while
// this server is being filled or there is nobody to compare with. With any error
// the report tells what was done.
func (r *Replica) CheckNow(ctx context.Context) (Report, error) {
	if !r.Status().Complete {
		return Report{}, fmt.Errorf("this server is being filled from another: %w", model.ErrUnavailable)
	}
	return r.check(ctx, r.cfg.SettleNow, false)
}

// check compares everything that is older than settle; old adds a window and a
// day of long ago.
func (r *Replica) check(ctx context.Context, settle time.Duration, old bool) (rep Report, err error) {
	if err := r.lock(ctx); err != nil {
		return rep, err
	}
	defer r.unlock()
	rep.At = time.Now()
	defer func() { r.checked(&rep, err) }()
	r.m.checks.Inc()
	peers, err := r.peers(ctx)
	peers = slices.DeleteFunc(peers, func(s source) bool { return len(s.info.Needs) > 0 })
	if len(peers) == 0 {
		return rep, fmt.Errorf("no other complete server to compare with: %w", errors.Join(model.ErrUnavailable, err))
	}
	errs := []error{err}
	lag := r.deps.Lag()
	for _, p := range peers {
		lag = max(lag, time.Duration(p.info.Lag)*time.Millisecond)
	}
	upTo := rep.At.Add(-settle - max(0, min(lag, maxLag)))
	for windows := range slices.Chunk(r.windows(upTo), maxRanges) {
		errs = append(errs, r.compareSamples(ctx, peers, windows, &rep))
	}
	for _, p := range peers {
		rep.Peers = append(rep.Peers, p.id)
		if w, ok := r.oldWindow(p, upTo); old && ok {
			errs = append(errs, r.compareSamples(ctx, []source{p}, []model.SampleRange{w}, &rep))
		}
		if err := r.compareEvents(ctx, p, upTo, old, &rep); err != nil {
			errs = append(errs, fmt.Errorf("compare events with %s: %w", p.id, err))
		}
	}
	return rep, errors.Join(errs...)
}

// checked keeps and tells what a comparison found.
func (r *Replica) checked(rep *Report, err error) {
	rep.Seconds = time.Since(rep.At).Seconds()
	if err != nil {
		rep.Err = err.Error()
	}
	r.m.mismatches.Add(float64(rep.Mismatch))
	r.m.repaired.WithLabelValues("samples").Add(float64(rep.Repaired))
	r.m.repaired.WithLabelValues("events").Add(float64(rep.Events))
	r.m.conflicts.Set(float64(rep.Conflicts))
	r.update(func(s *Status) {
		c := *rep
		s.LastCheck, s.LastReport = rep.At, &c
		s.Mismatches += int64(rep.Mismatch)
		s.Repaired += int64(rep.Repaired + rep.Events)
		s.Conflicting = int64(rep.Conflicts)
	})
}

// windows returns what is compared each time: two hours each, the last one shorter.
func (r *Replica) windows(upTo time.Time) (out []model.SampleRange) {
	end := upTo.UnixMilli()
	horizon := r.horizon()
	for t := r.firstWindow(upTo); t < end; t += windowMS {
		if t >= horizon {
			out = append(out, model.SampleRange{From: t, To: min(t+windowMS, end), Shards: r.cfg.Shards})
		}
	}
	return out
}

func (r *Replica) firstWindow(upTo time.Time) int64 {
	return floor(upTo.Add(-r.cfg.CheckBack).UnixMilli(), windowMS)
}

// horizon is the time from which on nobody has deleted samples for their age:
// near the limit one server may have done so before the others.
func (r *Replica) horizon() int64 { return r.deps.Store.Horizon() + windowMS }

// oldWindow returns a window of long ago that this server and p should have.
func (r *Replica) oldWindow(p source, upTo time.Time) (w model.SampleRange, ok bool) {
	own, err := r.deps.Store.StartTime()
	if err != nil {
		return w, false
	}
	oldest := floor(max(own, p.info.Oldest, r.horizon()), windowMS) + windowMS
	n := (r.firstWindow(upTo) - oldest) / windowMS
	if n <= 0 {
		return w, false
	}
	t := oldest + rand.Int64N(n)*windowMS
	return model.SampleRange{From: t, To: t + windowMS, Shards: r.cfg.Shards}, true
}

func floor(t, step int64) int64 {
	m := t % step
	if m < 0 {
		m += step
	}
	return t - m
}

// compareSamples compares windows with all peers, which read theirs while this
// server reads its own once, and then takes what is missing from one after the
// other.
func (r *Replica) compareSamples(ctx context.Context, peers []source, windows []model.SampleRange, rep *Report) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	theirs := make([][][]model.Digest, len(peers))
	errs := make([]error, len(peers))
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { theirs[i], errs[i] = digests(ctx, p, windows) })
	}
	own, err := r.ownDigests(ctx, windows)
	if err != nil {
		cancel()
		wg.Wait()
		return fmt.Errorf("read the own samples to compare them: %w", err)
	}
	wg.Wait()
	for i, p := range peers {
		for k, got := range theirs[i] { // what a peer has sent counts, even if it went away then
			rep.Windows++
			w := windows[k]
			for shard := range got {
				if own[k][shard] != got[shard] {
					w.Which = append(w.Which, shard)
				}
			}
			if len(w.Which) == 0 {
				continue
			}
			rep.Different++
			if errs[i] == nil {
				errs[i] = r.repair(ctx, p, w, rep)
			}
		}
		if errs[i] != nil {
			errs[i] = fmt.Errorf("compare samples with %s: %w", p.id, errs[i])
		}
	}
	return errors.Join(errs...)
}

func (r *Replica) ownDigests(ctx context.Context, windows []model.SampleRange) (out [][]model.Digest, err error) {
	for _, w := range windows {
		d, err := r.deps.Store.Digest(ctx, w)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// digests asks p for its digests of the windows. It takes them as they come:
// nobody waits for another with a stream open.
func digests(ctx context.Context, p source, windows []model.SampleRange) (out [][]model.Digest, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := open(ctx, p.conn, methodDigests, digestsRequest{Ranges: windows})
	if err != nil {
		return nil, err
	}
	for _, w := range windows {
		d, err := recvDigests(s, w)
		if err != nil {
			return out, err
		}
		out = append(out, d)
	}
	return out, nil
}

func recvDigests(s wire.Stream, w model.SampleRange) (out []model.Digest, err error) {
	b, err := s.Recv()
	if err != nil {
		return nil, unexpectedEnd(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("%w: digests: %w", errProtocol, err)
	}
	if len(out) != w.Shards {
		return nil, fmt.Errorf("%w: %d digests", errProtocol, len(out))
	}
	return out, nil
}

// repair takes what is missing in the differing shards of a window.
func (r *Replica) repair(ctx context.Context, p source, w model.SampleRange, rep *Report) error {
	var sum model.SampleRepair
	for group := range slices.Chunk(w.Which, repairGroup) {
		w.Which = group
		got, err := r.repairShards(ctx, p, w)
		sum.Missing += got.Missing
		sum.Added += got.Added
		sum.Extra += got.Extra
		sum.Conflicts += got.Conflicts
		sum.Refused += got.Refused
		if sum.FirstErr == "" {
			sum.FirstErr = got.FirstErr
		}
		sum.Examples = append(sum.Examples, got.Examples...)
		sum.Examples = sum.Examples[:min(len(sum.Examples), 10)]
		if err != nil {
			r.tell(ctx, p, w, sum, rep)
			return err
		}
	}
	r.tell(ctx, p, w, sum, rep)
	return nil
}

func (r *Replica) repairShards(ctx context.Context, p source, w model.SampleRange) (model.SampleRepair, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := open(ctx, p.conn, methodRaw, w)
	if err != nil {
		return model.SampleRepair{}, err
	}
	return r.deps.Store.Repair(ctx, w, func() ([]byte, error) {
		b, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err == nil {
			err = r.wait(ctx, r.in, len(b))
		}
		return b, err
	}, r.confirm)
}

// confirm waits until what is under way must have arrived by itself.
func (r *Replica) confirm(ctx context.Context) error {
	return pause(ctx, r.cfg.Confirm+min(max(0, r.deps.Lag()), time.Minute))
}

// tell counts and reports what a repair did.
func (r *Replica) tell(ctx context.Context, p source, w model.SampleRange, sum model.SampleRepair, rep *Report) {
	rep.Missing += sum.Missing
	rep.Repaired += sum.Added
	rep.Extra += sum.Extra
	rep.Conflicts += sum.Conflicts
	rep.Refused += sum.Refused
	rep.Examples = append(rep.Examples, sum.Examples...)
	rep.Examples = rep.Examples[:min(len(rep.Examples), 10)]
	data, err := json.Marshal(map[string]any{"peer": p.id, "from": instant(w.From), "to": instant(w.To), "repair": sum})
	if err != nil {
		r.log.Warn("repair not described", "err", err)
	}
	if sum.Missing > 0 {
		rep.Mismatch++
		r.log.Warn("samples were missing here, taken from another server", "node", p.id, "from", instant(w.From), "to", instant(w.To), "missing", sum.Missing, "stored", sum.Added, "refused", sum.Refused, "err", sum.FirstErr)
		r.emit(ctx, "warning", "store.repaired", fmt.Sprintf("%d of %d samples that were missing between %s and %s were taken from another server", sum.Added, sum.Missing, when(w.From, ""), when(w.To, "")), data)
	}
	key := fmt.Sprintf("%s %d", p.id, floor(w.From, windowMS))
	r.mu.Lock()
	told := r.named[key]
	if sum.Conflicts > 0 && !told {
		if len(r.named) > 10_000 {
			clear(r.named)
		}
		r.named[key] = true
	}
	r.mu.Unlock()
	if sum.Conflicts > 0 && !told {
		r.log.Warn("samples differ from those of another server, both are kept as they are", "node", p.id, "conflicts", sum.Conflicts, "first", sum.Examples[0])
		r.emit(ctx, "warning", "store.conflict", fmt.Sprintf("%d samples have another value on another server, the first: %s; both are kept as they are", sum.Conflicts, sum.Examples[0]), data)
	}
}
