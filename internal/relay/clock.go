package relay

import (
	"errors"
	"fmt"
	"time"
)

// clock is what a source has said of its own.
type clock struct {
	told int64     // what it was, milliseconds since 1970; 0: it did not say
	at   time.Time // when it said so
	end  position  // what is before was taken before that
}

// disowns reports whether the source itself would not take a sample of its any
// more: its clock was wrong when it took it, and is right again.
func (c clock) disowns(pos position, t int64, limit time.Duration) bool {
	if c.told == 0 || pos >= c.end {
		return false
	}
	return t > c.told+(time.Since(c.at)+limit).Milliseconds()
}

// errAhead says that two clocks differ. The store would refuse the samples for
// good, which are on the source only then: they wait in its log instead, until
// they are not ahead any more or a clock is set right.
var errAhead = errors.New("the clocks of two servers differ")

// ahead returns an error when there is something too far ahead of the clock here.
func (t *taker) ahead() error {
	limit, by := t.r.cfg.FutureLimit, t.newest-t.r.deps.Now().UnixMilli()
	if by <= limit.Milliseconds() {
		return nil
	}
	return fmt.Errorf("%w: a sample of %s is %s ahead of the clock of %s, where up to %s are taken; set the clock of either server right", errAhead, t.src.id,
		(time.Duration(by) * time.Millisecond).Round(time.Second), t.r.cfg.NodeID, limit)
}
