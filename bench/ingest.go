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
	fresh, known phase
	peakMB       float64
	p99          time.Duration
}

// writeLoad sends one round of new series, then rounds of the same for the
// duration. Each sender owns a share of the series, so that their order holds.
func writeLoad(ctx context.Context, p *process, s settings) (ingestResult, error) {
	var res ingestResult
	shards := make([][]prompb.WriteRequest, s.senders)
	for first, i := 0, 0; first < s.series; first, i = first+perRequest, i+1 {
		shards[i%s.senders] = append(shards[i%s.senders], request(first, min(first+perRequest, s.series)))
	}
	start := time.Now().Add(-5 * time.Minute).Truncate(time.Second)
	var mu sync.Mutex
	var took []time.Duration
	// Compressed before the clock starts would need all rounds in memory, so
	// senders encode as they go; only the receiver's processor time counts.
	round := func(rounds func(n int) bool) (phase, error) {
		cpu0, err := p.cpu()
		if err != nil {
			return phase{}, err
		}
		begin := time.Now()
		var wg sync.WaitGroup
		errs := make(chan error, s.senders)
		sent := make([]int, s.senders)
		for i, reqs := range shards {
			wg.Go(func() {
				var raw, packed []byte
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
				defer client.CloseIdleConnections()
				for n := 0; rounds(n); n++ {
					at := start.Add(time.Duration(n) * 100 * time.Millisecond).UnixMilli()
					for r := range reqs {
						for t := range reqs[r].Timeseries {
							reqs[r].Timeseries[t].Samples[0] = prompb.Sample{Timestamp: at, Value: float64(at%1000 + int64(t))}
						}
						size := reqs[r].Size()
						raw = slices.Grow(raw[:0], size)[:size]
						if _, err := reqs[r].MarshalToSizedBuffer(raw); err != nil {
							errs <- err
							return
						}
						packed = snappy.Encode(packed[:cap(packed)], raw)
						t0 := time.Now()
						if err := post(ctx, client, p.url, packed); err != nil {
							errs <- err
							return
						}
						d := time.Since(t0)
						mu.Lock()
						took = append(took, d)
						mu.Unlock()
						sent[i] += len(reqs[r].Timeseries)
					}
				}
			})
		}
		wg.Wait()
		ph := phase{wall: time.Since(begin)}
		for _, n := range sent {
			ph.samples += n
		}
		cpu1, err := p.cpu()
		if err != nil {
			return phase{}, err
		}
		ph.cpu = cpu1 - cpu0
		select {
		case err := <-errs:
			return ph, err
		default:
			return ph, nil
		}
	}
	var err error
	if res.fresh, err = round(func(n int) bool { return n < 1 }); err != nil {
		return res, err
	}
	start = start.Add(time.Second)
	took = took[:0]
	deadline := time.Now().Add(s.duration)
	if res.known, err = round(func(int) bool { return time.Now().Before(deadline) }); err != nil {
		return res, err
	}
	slices.Sort(took)
	res.p99 = took[len(took)*99/100]
	_, res.peakMB, err = p.memory()
	return res, err
}

// request holds series first to last with the labels of a typical host metric.
func request(first, last int) prompb.WriteRequest {
	req := prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, 0, last-first)}
	for i := first; i < last; i++ {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: "node_network_receive_bytes_total_" + strconv.Itoa(i%200)},
				{Name: "cluster", Value: "eu-west-1-production"},
				{Name: "device", Value: "eth" + strconv.Itoa(i/200%10)},
				{Name: "instance", Value: "host-" + strconv.Itoa(i/2000) + ".example.com:9100"},
				{Name: "job", Value: "node"},
				{Name: "region", Value: "eu-west-1"},
				{Name: "team", Value: "infrastructure"},
			},
			Samples: []prompb.Sample{{}},
		})
	}
	return req
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
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
