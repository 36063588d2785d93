package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// perRequest is what Prometheus sends in one request by default.
const perRequest = 2000

// phase is a stretch of load and what it cost.
type phase struct {
	samples   int
	wall, cpu time.Duration
}

func (p phase) perCPU() float64 { return float64(p.samples) / max(p.cpu, time.Millisecond).Seconds() }
func (p phase) perSecond() float64 {
	return float64(p.samples) / max(p.wall, time.Millisecond).Seconds()
}

type ingestResult struct {
	fresh, known  phase
	before, after float64 // resident memory, MB: at the start, and with the series and their samples
	peakMB        float64
	p99           time.Duration
}

// perSeries is the memory that a series costs, in bytes.
func (r ingestResult) perSeries() float64 {
	return (r.after - r.before) * 1e6 / float64(r.fresh.samples)
}

// message is a request that is sent again and again with other samples.
type message interface {
	set(at int64)
	samples() int
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

type message1 struct{ prompb.WriteRequest }

func (m *message1) set(at int64) {
	for t := range m.Timeseries {
		m.Timeseries[t].Samples[0] = prompb.Sample{Timestamp: at, Value: float64(at%1000 + int64(t))}
	}
}

func (m *message1) samples() int { return len(m.Timeseries) }

type message2 struct{ writev2.Request }

func (m *message2) set(at int64) {
	for t := range m.Timeseries {
		m.Timeseries[t].Samples[0] = writev2.Sample{Timestamp: at, Value: float64(at%1000 + int64(t))}
	}
}

func (m *message2) samples() int { return len(m.Timeseries) }

// writeLoad sends one round of new series, then rounds of the same until there
// are s.samples of them or s.duration is over. Each sender owns a share of the
// series, so that their order holds.
func writeLoad(ctx context.Context, p *process, s settings) (ingestResult, error) {
	res := ingestResult{}
	var err error
	if res.before, _, err = p.memory(); err != nil {
		return res, err
	}
	shards := make([][]message, s.senders)
	for first, i := 0, 0; first < s.series; first, i = first+perRequest, i+1 {
		shards[i%s.senders] = append(shards[i%s.senders], request(s.version, first, min(first+perRequest, s.series)))
	}
	l := &load{p: p, s: s, shards: shards, start: time.Now().Add(-5 * time.Minute).Truncate(time.Second)}
	if res.fresh, err = l.rounds(ctx, 1, time.Hour); err != nil {
		return res, err
	}
	l.start = l.start.Add(time.Second)
	l.took = l.took[:0]
	rounds := 1 << 30
	if s.samples > 0 {
		rounds = max(s.samples/s.series, 1)
	}
	if res.known, err = l.rounds(ctx, rounds, s.duration); err != nil {
		return res, err
	}
	slices.Sort(l.took)
	res.p99 = l.took[len(l.took)*99/100]
	res.after, res.peakMB, err = p.memory()
	return res, err
}

// load is senders at work.
type load struct {
	p      *process
	s      settings
	shards [][]message
	start  time.Time

	mu   sync.Mutex // guards what follows
	took []time.Duration
	sent int
}

const step = 100 * time.Millisecond // between two samples of a series

// rounds sends all series so many times, or until the time is over.
func (l *load) rounds(ctx context.Context, most int, limit time.Duration) (phase, error) {
	cpu0, err := l.p.cpu()
	if err != nil {
		return phase{}, err
	}
	begin := time.Now()
	l.sent = 0
	errs := make(chan error, len(l.shards))
	var wg sync.WaitGroup
	for _, msgs := range l.shards {
		wg.Go(func() { errs <- l.sender(ctx, msgs, most, begin.Add(limit)) })
	}
	wg.Wait()
	ph := phase{wall: time.Since(begin), samples: l.sent}
	cpu1, err := l.p.cpu()
	if err != nil {
		return ph, err
	}
	ph.cpu = cpu1 - cpu0
	for range l.shards {
		if err := <-errs; err != nil {
			return ph, err
		}
	}
	return ph, nil
}

// sender encodes as it goes: packed requests of all rounds would need too much
// memory, and only the receiver's processor time counts.
func (l *load) sender(ctx context.Context, msgs []message, most int, deadline time.Time) error {
	var raw, packed []byte
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for n := 0; n < most && time.Now().Before(deadline); n++ {
		at := l.start.Add(time.Duration(n) * step)
		for _, m := range msgs {
			m.set(at.UnixMilli())
			size := m.Size()
			raw = slices.Grow(raw[:0], size)[:size]
			if _, err := m.MarshalToSizedBuffer(raw); err != nil {
				return err
			}
			packed = snappy.Encode(packed[:cap(packed)], raw)
			begin := time.Now()
			if err := post(ctx, client, l.p.url, l.s.version, packed); err != nil {
				return err
			}
			took := time.Since(begin)
			l.mu.Lock()
			l.took = append(l.took, took)
			l.sent += m.samples()
			l.mu.Unlock()
		}
	}
	return nil
}

// request holds series first to last with the labels of a typical host metric.
func request(version, first, last int) message {
	one := &prompb.WriteRequest{}
	two := &writev2.Request{}
	symbols := writev2.NewSymbolTable()
	for i := first; i < last; i++ {
		pairs := [][2]string{
			{"__name__", "node_network_receive_bytes_total_" + strconv.Itoa(i%200)},
			{"cluster", "eu-west-1-production"},
			{"device", "eth" + strconv.Itoa(i/200%10)},
			{"instance", "host-" + strconv.Itoa(i/2000) + ".example.com:9100"},
			{"job", "node"},
			{"region", "eu-west-1"},
			{"team", "infrastructure"},
		}
		if version == 2 {
			ts := writev2.TimeSeries{Samples: []writev2.Sample{{}}, Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: symbols.Symbolize("Network device statistic receive_bytes.")}}
			for _, p := range pairs {
				ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(p[0]), symbols.Symbolize(p[1]))
			}
			two.Timeseries = append(two.Timeseries, ts)
			continue
		}
		ts := prompb.TimeSeries{Samples: []prompb.Sample{{}}}
		for _, p := range pairs {
			ts.Labels = append(ts.Labels, prompb.Label{Name: p[0], Value: p[1]})
		}
		one.Timeseries = append(one.Timeseries, ts)
	}
	if version == 2 {
		two.Symbols = symbols.Symbols()
		return &message2{*two}
	}
	return &message1{*one}
}

func post(ctx context.Context, client *http.Client, url string, version int, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if version == 2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Authorization", "Bearer "+apiKey)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("answered %s: %s", resp.Status, text)
	}
	return nil
}
