package app

import (
	"context"
	"slices"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// newer reports whether t comes after than, to the millisecond that all keep.
func newer(t, than verdict.Transition) bool {
	if a, b := t.At.UnixMilli(), than.At.UnixMilli(); a != b {
		return a > b
	}
	return t.ID > than.ID
}

// hear takes the newest states that other servers know, by id of the check,
// where the history here does not have them. Their events are on the way, and
// what comes before them must not count for the last word.
func (b *bridge) hear(list map[string]verdict.Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = list
}

// withHeard needs mu. It returns the past of a check and what was heard of it,
// unless the past has got there.
func (b *bridge) withHeard(id string, past []verdict.Transition) []verdict.Transition {
	t, ok := b.heard[id]
	if !ok {
		return past
	}
	if n := len(past); n > 0 && !newer(t, past[n-1]) {
		delete(b.heard, id)
		return past
	}
	return append(slices.Clip(past), t)
}

// takeCopied takes states that were copied from the history of another server;
// more says whether there are more to come. They come oldest first: nothing is
// concluded before all are here, or none has come for long.
func (b *bridge) takeCopied(list []verdict.Transition, more func() bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.copied, b.more = time.Now(), more
	for _, t := range list {
		if held, ok := b.copies[t.Check.ID]; !ok || newer(t, held) {
			b.copies[t.Check.ID] = t
		}
	}
}

// settleCopied needs mu. It has the checks looked at that may have another alert
// after a copy than before.
func (b *bridge) settleCopied(now time.Time) {
	age := now.Sub(b.copied)
	if len(b.copies) == 0 || age < lateSettle || age < knownFor && b.more() {
		return
	}
	for id, t := range b.copies {
		_, fires := b.firing[id]
		heard, ok := b.heard[id]
		if _, waits := b.late[id]; waits || !fires && t.To == model.StatusUp && (!ok || heard.To == model.StatusUp) {
			continue // it is well and nothing says otherwise: its past need not be read
		}
		b.late[id] = b.copied
	}
	clear(b.copies)
}

// settleLate looks at the checks of which old news came.
func (b *bridge) settleLate(ctx context.Context, now time.Time) {
	b.mu.Lock()
	b.settleCopied(now)
	var due []string
	for id, at := range b.late {
		if now.Sub(at) < lateSettle {
			continue
		}
		if _, ok := b.lookup(id); ok {
			due = append(due, id)
		} else if now.Sub(at) < knownFor {
			continue
		}
		delete(b.late, id)
	}
	for id, at := range b.known {
		if now.Sub(at) >= knownFor {
			delete(b.known, id)
		}
	}
	b.mu.Unlock()
	failed, why := 0, error(nil)
	for _, id := range due {
		past, err := b.past(ctx, id)
		if err != nil {
			failed, why = failed+1, err
			b.mu.Lock()
			b.late[id] = now // once more, soon
			b.mu.Unlock()
			continue
		}
		if c, ok := b.lookup(id); ok { // still
			b.restore(c, past)
		}
	}
	if failed > 0 && ctx.Err() == nil {
		b.log.Error("alerts of late states wait, the history is not read", "checks", failed, "err", why)
	}
}
