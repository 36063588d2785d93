package pushgateway

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/labels"
)

// Bounds of what servers tell each other.
const (
	maxMessage  = 64 << 20 // unpacked
	wholeUpTo   = 1 << 20  // bytes of groups up to which State has them all
	answerBytes = 1 << 20  // bytes of groups in one answer to a State
	answers     = 8        // such answers to one State
)

// message is what servers tell each other: groups, or parts of them, and in a
// State which versions of all groups the sender has, so that who has others can
// send them.
type message struct {
	Groups  []*record         `json:"groups,omitempty"`
	Digests map[string]uint64 `json:"digests"` // by key; nil = no State
}

func pack(m *message) ([]byte, error) {
	plain, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode pushed groups: %w", err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("compress pushed groups: %w", err)
	}
	return z.EncodeAll(plain, nil), nil
}

func unpack(b []byte) (*message, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxMessage))
	if err != nil {
		return nil, fmt.Errorf("unpack pushed groups: %w", err)
	}
	defer z.Close()
	plain, err := z.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack pushed groups: %w", err)
	}
	m := &message{}
	if err := json.Unmarshal(plain, m); err != nil {
		return nil, fmt.Errorf("decode pushed groups: %w", err)
	}
	return m, nil
}

// State says which versions of all groups this server has, with the groups
// themselves when they are small.
func (p *Pushgateway) State() ([]byte, error) {
	m := &message{Digests: map[string]uint64{}}
	p.mu.RLock()
	for key, g := range p.groups {
		m.Digests[key] = g.digest
	}
	if p.bytes <= wholeUpTo {
		m.Groups = p.records()
	}
	p.mu.RUnlock()
	return pack(m)
}

// Merge takes what another server said. What this server has and the other has
// not, or another version of, goes out by Broadcast.
func (p *Pushgateway) Merge(b []byte) error {
	m, err := unpack(b)
	if err != nil {
		return err
	}
	for _, r := range m.Groups {
		if r == nil {
			continue
		}
		for i, f := range r.Families {
			if f.family, err = p.decodeFamily(labels.FromMap(r.Labels), f.Data); err != nil {
				return fmt.Errorf("a pushed metric of another server: %w", err)
			}
			r.Families[i] = f
		}
	}
	p.mu.Lock()
	now := time.Now()
	var present, gone []*series
	for _, r := range m.Groups {
		if r == nil || len(r.Labels) == 0 {
			continue
		}
		news, ended := p.take(r)
		if !news {
			continue
		}
		p.pending = append(p.pending, r)
		p.changes++
		if key := keyOf(r); p.deps.Owns(key) {
			// Whoever took the push may have written the ends, too; but this
			// server may have written a value behind them.
			gone = append(gone, ended...)
			if m.Digests == nil { // those of a State have time until the next tick
				if g := p.groups[key]; g.exists() {
					present = append(present, g.all()...)
				}
			}
		}
	}
	var lacking []*record
	if m.Digests != nil {
		lacking = p.lacking(m, now)
	}
	p.mu.Unlock()
	p.publish(lacking)
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Interval)
	defer cancel()
	if err := p.writeAll(ctx, now, present, gone); err != nil {
		return fmt.Errorf("write what was pushed to another server: %w", err)
	}
	return nil
}

// lacking returns the groups that the sender of a State has not, or has
// differently. p.mu is held.
func (p *Pushgateway) lacking(m *message, now time.Time) []*record {
	var out []*record
	size := 0
	for key, g := range p.groups {
		if d, ok := m.Digests[key]; ok && d == g.digest {
			continue
		}
		if !g.exists() && g.deleted < now.Add(-p.cfg.KeepDeleted).UnixNano() {
			continue // about to be forgotten here, forgotten there
		}
		for _, f := range g.families {
			size += len(f.data)
		}
		if size > answers*answerBytes && len(out) > 0 {
			break // the rest with the next State
		}
		out = append(out, g.record())
	}
	return out
}

// publish brings records to the other servers.
func (p *Pushgateway) publish(records []*record) {
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && (n == 0 || size < answerBytes) {
			for _, f := range records[n].Families {
				size += len(f.Data)
			}
			size += 256
			n++
		}
		b, err := pack(&message{Groups: records[:n]})
		if err != nil {
			p.log.Warn("other servers were not told of pushed groups", "err", err)
			return
		}
		p.deps.Broadcast(b)
		records = records[n:]
	}
}
