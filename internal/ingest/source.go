package ingest

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// source is somebody who writes.
type source struct {
	active   atomic.Int64 // series it brought that the cache holds
	inFlight int64        // bytes; guarded by the budget
	replicas int          // of clusters it brought; guarded by the elections' mu

	mu      sync.Mutex // guards what follows
	fresh   bucket     // series that the storage does not know
	samples bucket
}

// take counts one more active series unless there are limit already.
func (s *source) take(limit int) bool {
	if s.active.Add(1) > int64(limit) {
		s.active.Add(-1)
		return false
	}
	return true
}

// meet counts a series that the storage does not know unless there were too
// many of late.
func (s *source) meet(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fresh.take(1, now)
}

// ready says whether the source may send more samples, or after how many
// seconds it may.
func (s *source) ready(now time.Time) (ok bool, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.samples.rate == 0 {
		return true, 0
	}
	s.samples.fill(now)
	if s.samples.level >= 0 {
		return true, 0
	}
	return false, time.Duration(-s.samples.level / s.samples.rate * float64(time.Second))
}

// admitted refuses a request while its source is over its rate of samples.
func (s *source) admitted(now time.Time) error {
	if ok, after := s.ready(now); !ok {
		return answer(http.StatusTooManyRequests, "sample_rate", "this source sends more samples than it may; try again in %s", after.Round(time.Second)+time.Second)
	}
	return nil
}

// spend counts the samples of a request that was let in.
func (s *source) spend(n int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.samples.rate > 0 {
		s.samples.fill(now)
		s.samples.level -= float64(n)
	}
}

// bucket fills at a rate and is emptied by what happens.
type bucket struct {
	rate  float64 // per second
	size  float64
	level float64
	at    time.Time
}

func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		if b.level < b.size {
			b.level = min(b.size, b.level+d.Seconds()*b.rate)
		}
		b.at = now
	}
}

func (b *bucket) take(n float64, now time.Time) bool {
	b.fill(now)
	if b.level < n {
		return false
	}
	b.level -= n
	return true
}

// sources knows everybody who has written. Names are authenticated, so they
// are not many.
type sources struct {
	cfg *Config

	mu     sync.Mutex // guards byName
	byName map[string]*source
}

func (s *sources) get(name string) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.byName[name]
	if src == nil {
		now := time.Now()
		perMinute := float64(s.cfg.MaxNewPerMinute)
		src = &source{
			// a fleet that moves here may bring all of its series at once
			fresh: bucket{rate: perMinute / 60, size: perMinute, level: max(perMinute, float64(s.cfg.MaxSeriesPerSource)), at: now},
		}
		if rate := float64(s.cfg.MaxSampleRate); rate > 0 {
			src.samples = bucket{rate: rate, size: 10 * rate, level: 10 * rate, at: now}
		}
		s.byName[name] = src
	}
	return src
}
