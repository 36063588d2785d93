package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

const (
	diskSeries = 1000
	diskSpan   = 9 * time.Hour // several blocks of two hours
	diskEvery  = 15 * time.Second
	diskWait   = 4 * time.Minute // ours cuts blocks when its first chunks are in files, up to two minutes later
)

// compareDisk writes hours of samples such as hosts make and measures the
// finished blocks.
func compareDisk(ctx context.Context, s settings, dir string, programs []subject) error {
	fmt.Printf("blocks of %d series, one sample each %s for %s: half are counters, half are gauges\n", diskSeries, diskEvery, diskSpan)
	bytes := make([]float64, len(programs))
	samples := make([]float64, len(programs))
	for i, sub := range programs {
		err := func() (err error) {
			home, err := os.MkdirTemp(dir, sub.name)
			if err != nil {
				return err
			}
			defer os.RemoveAll(home)
			p, err := sub.start(ctx, home)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.stop()) }()
			if err := writeHours(ctx, p); err != nil {
				return err
			}
			return until(ctx, diskWait, func() error {
				bytes[i], samples[i], err = blocks(sub.tsdb(home))
				// The newest three hours stay in memory.
				if want := float64(diskSeries * int((diskSpan-5*time.Hour)/diskEvery)); err == nil && samples[i] < want {
					err = fmt.Errorf("%.0f of %.0f samples are in blocks", samples[i], want)
				}
				return err
			})
		}()
		if err != nil {
			return fmt.Errorf("%s: %w", sub.name, err)
		}
	}
	t := newTable(programs)
	t.row("bytes per sample in blocks, index included", "%.2f", bytes[0]/samples[0], bytes[1]/samples[1])
	t.row("samples in blocks", "%.0f", samples[0], samples[1])
	return t.flush()
}

func writeHours(ctx context.Context, p *process) error {
	rnd := rand.New(rand.NewPCG(1, 2)) // the same for both
	req := request(1, 0, diskSeries).(*message1)
	values := make([]float64, diskSeries)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	end := time.Now().Truncate(diskEvery)
	for at := end.Add(-diskSpan); !at.After(end); at = at.Add(diskEvery) {
		for i := range values {
			if i%2 == 0 {
				values[i] += math.Round(rnd.ExpFloat64() * 1000)
			} else {
				values[i] = math.Round((50+10*rnd.NormFloat64())*100) / 100
			}
			// Scraped hosts do not all answer at the same millisecond.
			req.Timeseries[i].Samples[0] = prompb.Sample{Timestamp: at.UnixMilli() + int64(rnd.IntN(3)), Value: values[i]}
		}
		raw, err := req.Marshal()
		if err != nil {
			return err
		}
		if err := post(ctx, client, p.url, 1, snappy.Encode(nil, raw)); err != nil {
			return err
		}
	}
	return nil
}

// blocks adds up the finished blocks below dir.
func blocks(dir string) (bytes, samples float64, err error) {
	metas, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	if err != nil {
		return 0, 0, err
	}
	for _, path := range metas {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) { // merged meanwhile
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		var meta struct {
			Stats struct{ NumSamples float64 }
		}
		if err := json.Unmarshal(data, &meta); err != nil {
			return 0, 0, err
		}
		samples += meta.Stats.NumSamples
		err = filepath.WalkDir(filepath.Dir(path), func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err == nil {
				bytes += float64(info.Size())
			}
			return err
		})
		if err != nil {
			return 0, 0, err
		}
	}
	if samples == 0 {
		return 0, 0, errors.New("there is no block")
	}
	return bytes, samples, nil
}
