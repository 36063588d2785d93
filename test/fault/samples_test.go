//go:build fault && linux

package fault

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

const (
	sampleMetric    = "fault_samples"
	sampleWriters   = 4
	seriesPerWriter = 100
	batchEvery      = 100 * time.Millisecond
	lateEach        = 10 // one batch in so many is late
)

// samples writes numbered samples to all servers and knows which were
// acknowledged. Each writer has its own series; a sample's value is its number.
// A batch that is not acknowledged is sent again, to the next server, until it
// is: what is stored at the end is exactly what was sent.
type samples struct {
	c         *cluster
	perSeries int // samples of a series in one batch
	from      time.Time
	writers   [sampleWriters]sampleWriter
	wg        sync.WaitGroup
	mu        sync.Mutex // guards log
	log       *bufio.Writer
}

type sampleWriter struct {
	mu      sync.Mutex
	batches []batch // acknowledged
	unsure  []batch // given up at the end
	refused string  // first answer that no repetition would change
	maxGap  time.Duration
	gapAt   time.Time
	last    time.Time // of an acknowledgement
	perNode map[string]int
}

// batch is perSeries samples of every series of one writer.
type batch struct {
	seq   int
	first int64 // time of the first sample, ms
	late  bool
	node  string
	at    time.Time // of the acknowledgement
}

// sampleStep is the time between two samples of a batch.
const sampleStep = 10 * time.Millisecond

func startSamples(ctx, giveUp context.Context, c *cluster) (*samples, error) {
	f, err := os.Create(filepath.Join(c.dir, "acked-samples.tsv"))
	if err != nil {
		return nil, err
	}
	perBatch := float64(options.rate) * batchEvery.Seconds() / sampleWriters
	s := &samples{c: c, perSeries: max(1, min(int(math.Round(perBatch/seriesPerWriter)), int(batchEvery/sampleStep))), from: time.Now().Truncate(time.Second), log: bufio.NewWriter(f)}
	for w := range s.writers {
		s.writers[w].perNode = map[string]int{}
		s.wg.Go(func() { s.write(ctx, giveUp, w) })
	}
	c.t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.log.Flush(); err != nil {
			c.t.Logf("log of acknowledgements: %s", err)
		}
		f.Close()
	})
	return s, nil
}

func (s *samples) write(ctx, giveUp context.Context, w int) {
	clients := newPool(s.c, w, 3*time.Second)
	wr := &s.writers[w]
	next := s.from.UnixMilli()
	late := 0
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for seq := 0; ; seq++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		b := batch{seq: seq}
		if seq%lateEach == lateEach-1 {
			// Late by minutes, or by hours. The first sample of a series is not late.
			b.late = true
			back := 20 * time.Minute
			if late%2 == 1 {
				back = 3 * time.Hour
			}
			b.first = s.from.Add(-back).UnixMilli() + int64(late)*batchEvery.Milliseconds()
			late++
		} else {
			b.first = max(next, time.Now().Add(-batchEvery).UnixMilli())
			next = b.first + batchEvery.Milliseconds()
		}
		body := s.encode(w, b)
		ok, refused := clients.until(giveUp, func(n *node, cl *client) (bool, string) {
			code, answer, err := cl.do(http.MethodPost, "/api/v1/write", body, "Content-Type", "application/x-protobuf", "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "0.1.0")
			switch {
			case err != nil:
				return false, ""
			case code/100 == 2:
				b.node = n.name
				return true, ""
			case code/100 == 4 && code != http.StatusTooManyRequests:
				return false, fmt.Sprintf("%s answered %d: %s", n.name, code, clip(answer))
			}
			return false, ""
		})
		b.at = time.Now()
		wr.add(b, ok, refused)
		if ok {
			s.mu.Lock()
			fmt.Fprintf(s.log, "%d\t%d\t%v\t%d\t%s\t%d\n", w, b.seq, b.late, b.first, b.node, b.at.UnixMilli())
			s.mu.Unlock()
		}
		if refused != "" {
			return
		}
	}
}

func (wr *sampleWriter) add(b batch, ok bool, refused string) {
	wr.mu.Lock()
	defer wr.mu.Unlock()
	if !ok {
		wr.unsure = append(wr.unsure, b)
		wr.refused = refused
		return
	}
	if !wr.last.IsZero() && b.at.Sub(wr.last) > wr.maxGap {
		wr.maxGap, wr.gapAt = b.at.Sub(wr.last), wr.last
	}
	wr.last = b.at
	wr.batches = append(wr.batches, b)
	wr.perNode[b.node]++
}

// encode makes the body of a remote write, version 1.
func (s *samples) encode(w int, b batch) []byte { return s.encodeAs(sampleMetric, w, b) }

func (s *samples) encodeAs(metric string, w int, b batch) []byte {
	req := prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, seriesPerWriter)}
	for i := range req.Timeseries {
		ts := &req.Timeseries[i]
		ts.Labels = []prompb.Label{{Name: "__name__", Value: metric}, {Name: "i", Value: strconv.Itoa(i)}, {Name: "w", Value: strconv.Itoa(w)}}
		for k := range s.perSeries {
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: b.first + int64(k)*sampleStep.Milliseconds(), Value: s.value(b.seq, k)})
		}
	}
	data, err := req.Marshal()
	if err != nil {
		panic(err) // a request of our own making
	}
	return snappy.Encode(nil, data)
}

func (s *samples) value(seq, k int) float64 { return float64(seq*s.perSeries + k) }

// acked counts the acknowledged samples of all writers, and of the slowest one
// the batches.
func (s *samples) acked() (all, fewest int) {
	fewest = math.MaxInt
	for w := range s.writers {
		wr := &s.writers[w]
		wr.mu.Lock()
		n := len(wr.batches)
		wr.mu.Unlock()
		all += n * s.perSeries * seriesPerWriter
		fewest = min(fewest, n)
	}
	return all, fewest
}

// gap is the longest time that a writer had to wait for an acknowledgement.
func (s *samples) gap() (longest time.Duration, at time.Time) {
	for w := range s.writers {
		wr := &s.writers[w]
		wr.mu.Lock()
		if wr.maxGap > longest {
			longest, at = wr.maxGap, wr.gapAt
		}
		wr.mu.Unlock()
	}
	return longest, at
}

// lost asks one server for everything that was acknowledged. It returns the
// number of samples that are missing and an error that names some of them, or
// says what else is wrong.
func (s *samples) lost(n *node) (int, error) {
	lost := 0
	var first error
	at := time.Now().Add(time.Minute)
	for w := range s.writers {
		wr := &s.writers[w]
		wr.mu.Lock()
		batches, unsure, refused := slices.Clone(wr.batches), len(wr.unsure), wr.refused
		wr.mu.Unlock()
		if refused != "" {
			return lost, fmt.Errorf("writer %d was refused: %s", w, refused)
		}
		want, sum := len(batches)*s.perSeries, 0.0
		for _, b := range batches {
			for k := range s.perSeries {
				sum += s.value(b.seq, k)
			}
		}
		counts, err := n.query(fmt.Sprintf(`count_over_time(%s{w="%d"}[5h])`, sampleMetric, w), at)
		if err != nil {
			return lost, err
		}
		sums, err := n.query(fmt.Sprintf(`sum_over_time(%s{w="%d"}[5h])`, sampleMetric, w), at)
		if err != nil {
			return lost, err
		}
		if want > 0 && len(counts) != seriesPerWriter {
			lost += (seriesPerWriter - len(counts)) * want
			first = fmt.Errorf("%s has %d of %d series of writer %d", n.name, len(counts), seriesPerWriter, w)
			continue
		}
		total := map[string]float64{}
		for _, r := range sums {
			total[r.labels["i"]] = r.points[0].value
		}
		for _, r := range counts {
			have, i := int(r.points[0].value), r.labels["i"]
			if have == want && total[i] == sum && unsure == 0 {
				continue
			}
			missing, err := s.compare(n, w, i, batches, unsure > 0, at)
			lost += missing
			if err != nil && first == nil {
				first = fmt.Errorf("%s: series %s of writer %d: %d samples, %d acknowledged: %w", n.name, i, w, have, want, err)
			}
			if missing > 0 && first != nil {
				// One series in full names the batches; the rest is counted.
				continue
			}
		}
	}
	return lost, first
}

// compare reads one series in full.
func (s *samples) compare(n *node, w int, i string, batches []batch, more bool, at time.Time) (missing int, err error) {
	raw, err := n.query(fmt.Sprintf(`%s{w="%d",i="%s"}[5h]`, sampleMetric, w, i), at)
	if err != nil {
		return 0, err
	}
	have := map[int64]float64{}
	total := 0
	for _, r := range raw {
		total += len(r.points)
		for _, p := range r.points {
			have[p.ms] = p.value
		}
	}
	var named []string
	expected := 0
	for _, b := range batches {
		gone := 0
		for k := range s.perSeries {
			expected++
			ms := b.first + int64(k)*sampleStep.Milliseconds()
			v, ok := have[ms]
			if !ok {
				gone++
			} else if v != s.value(b.seq, k) {
				return missing, fmt.Errorf("batch %d sample %d at %d: is %v, was acknowledged as %v", b.seq, k, ms, v, s.value(b.seq, k))
			}
		}
		missing += gone
		if gone > 0 && len(named) < 8 {
			named = append(named, fmt.Sprintf("batch %d (late %v, at %d, acknowledged %s by %s): %d", b.seq, b.late, b.first, b.at.Format("15:04:05.000"), b.node, gone))
		}
	}
	switch {
	case missing > 0:
		return missing, fmt.Errorf("lost: %v", named)
	case total != expected && !more:
		return 0, fmt.Errorf("%d samples stored, %d sent", total, expected)
	}
	return 0, nil
}
