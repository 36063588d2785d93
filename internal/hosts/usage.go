package hosts

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

// Usage knows how busy all hosts are, from what their agents stored. It looks
// only while somebody asks.
type Usage struct {
	store storage.Queryable
	took  prometheus.Gauge

	mu      sync.Mutex // guards what follows
	looking bool
	at      time.Time                   // of last
	cost    time.Duration               // of the last look
	last    map[string]*model.HostUsage // by name of the host; not changed once made
	first   chan struct{}               // closed once there is a last
	window  time.Duration
}

const (
	usageEvery    = 15 * time.Second
	usageShare    = 20              // a look may take so large a part of the time between two
	usageWindow   = 2 * time.Minute // how far back two samples are looked for
	usagePatience = 2 * time.Second // of who asks first
	usageLimit    = time.Minute
)

// NewUsage reads from store. Nothing is read before the first call of All.
func NewUsage(store storage.Queryable, reg prometheus.Registerer) *Usage {
	u := &Usage{store: store, first: make(chan struct{}), window: usageWindow,
		took: prometheus.NewGauge(prometheus.GaugeOpts{Name: "panoptes_hosts_usage_seconds", Help: "Time that the last look at the usage of all hosts took."})}
	if reg != nil {
		reg.MustRegister(u.took)
	}
	return u
}

// SetInterval says how far apart the samples of the slowest agent are.
func (u *Usage) SetInterval(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.window = min(max(usageWindow, 5*d/2), time.Hour)
}

// All returns the usage of all hosts by name, as it was some seconds ago. The
// first one to ask waits a moment for it. The map must not be changed.
func (u *Usage) All(ctx context.Context) map[string]*model.HostUsage {
	u.mu.Lock()
	if !u.looking && time.Since(u.at) >= max(usageEvery, usageShare*u.cost) {
		u.looking = true
		// Others wait for the answer too: it does not end with who asked first.
		lctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), usageLimit)
		go func() {
			defer cancel()
			u.look(lctx)
		}()
	}
	last := u.last
	u.mu.Unlock()
	if last != nil {
		return last
	}
	select {
	case <-u.first:
	case <-ctx.Done():
	case <-time.After(usagePatience):
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last
}

func (u *Usage) look(ctx context.Context) {
	began := time.Now()
	u.mu.Lock()
	window := u.window
	u.mu.Unlock()
	out, err := read(ctx, u.store, began, window)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.looking, u.at, u.cost = false, time.Now(), time.Since(began)
	u.took.Set(u.cost.Seconds())
	if err != nil {
		return // as it was; the next one who asks tries again
	}
	if u.last == nil {
		close(u.first)
	}
	u.last = out
}

// reading is one host while it is read.
type reading struct {
	idle                                 float64
	idleN                                int
	memTotal, memAvail                   float64
	swapTotal, swapFree                  float64
	load                                 float64
	rx, tx                               float64
	rxN, txN                             int
	sizes, avail                         map[string]float64 // by file system
	hasTotal, hasAvail, hasSwap, hasLoad bool
}

// read looks at all hosts at once. Counters need two samples in the window.
func read(ctx context.Context, store storage.Queryable, at time.Time, window time.Duration) (map[string]*model.HostUsage, error) {
	from, to := at.Add(-window).UnixMilli(), at.UnixMilli()
	q, err := store.Querier(from, to)
	if err != nil {
		return nil, fmt.Errorf("read usage: %w", err)
	}
	defer q.Close()
	hosts := map[string]*reading{}
	of := func(l labels.Labels) *reading {
		name := l.Get("host")
		r := hosts[name]
		if r == nil {
			r = &reading{sizes: map[string]float64{}, avail: map[string]float64{}}
			hosts[name] = r
		}
		return r
	}
	for _, p := range []struct {
		metric string
		rate   bool
		more   []*labels.Matcher
		take   func(l labels.Labels, v float64)
	}{
		{"node_cpu_seconds_total", true, []*labels.Matcher{equal("mode", "idle")}, func(l labels.Labels, v float64) { r := of(l); r.idle += v; r.idleN++ }},
		{"node_memory_MemTotal_bytes", false, nil, func(l labels.Labels, v float64) { r := of(l); r.memTotal, r.hasTotal = v, true }},
		{"node_memory_MemAvailable_bytes", false, nil, func(l labels.Labels, v float64) { r := of(l); r.memAvail, r.hasAvail = v, true }},
		{"node_memory_SwapTotal_bytes", false, nil, func(l labels.Labels, v float64) { r := of(l); r.swapTotal, r.hasSwap = v, true }},
		{"node_memory_SwapFree_bytes", false, nil, func(l labels.Labels, v float64) { of(l).swapFree = v }},
		{"node_load1", false, nil, func(l labels.Labels, v float64) { r := of(l); r.load, r.hasLoad = v, true }},
		{"node_filesystem_size_bytes", false, nil, func(l labels.Labels, v float64) { fileSystem(of(l), l, v, true) }},
		{"node_filesystem_avail_bytes", false, nil, func(l labels.Labels, v float64) { fileSystem(of(l), l, v, false) }},
		{"node_network_receive_bytes_total", true, nil, func(l labels.Labels, v float64) {
			if outward(l) {
				r := of(l)
				r.rx += v
				r.rxN++
			}
		}},
		{"node_network_transmit_bytes_total", true, nil, func(l labels.Labels, v float64) {
			if outward(l) {
				r := of(l)
				r.tx += v
				r.txN++
			}
		}},
	} {
		ms := append([]*labels.Matcher{equal(model.MetricName, p.metric), labels.MustNewMatcher(labels.MatchNotEqual, "host", ""), equal("job", "node")}, p.more...)
		if err := each(ctx, q, from, to, p.rate, p.take, ms...); err != nil {
			return nil, fmt.Errorf("read %s: %w", p.metric, err)
		}
	}
	out := make(map[string]*model.HostUsage, len(hosts))
	for name, r := range hosts {
		out[name] = r.usage(at)
	}
	return out, nil
}

func equal(name, v string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, v) }

// outward leaves out what does not leave the machine, or is counted elsewhere too.
func outward(l labels.Labels) bool {
	d := l.Get("device")
	if d == "lo" {
		return false
	}
	for _, p := range []string{"veth", "docker", "br-", "virbr", "cni", "cali", "flannel", "tap", "bond", "team"} {
		if strings.HasPrefix(d, p) {
			return false
		}
	}
	return !strings.Contains(d, ".") // a VLAN of another one
}

func fileSystem(r *reading, l labels.Labels, v float64, size bool) {
	switch l.Get("fstype") {
	case "tmpfs", "ramfs", "rootfs", "squashfs", "iso9660", "udf", "erofs":
		return // full by nature, or memory
	}
	m := l.Get("device") + "\x00" + l.Get("mountpoint")
	if size {
		r.sizes[m] = v
	} else {
		r.avail[m] = v
	}
}

func (r *reading) usage(at time.Time) *model.HostUsage {
	u := &model.HostUsage{At: at.UTC()}
	if r.idleN > 0 {
		u.CPU, u.Cores = share(1-r.idle/float64(r.idleN)), r.idleN
	}
	if r.hasTotal && r.memTotal > 0 {
		u.MemoryBytes = r.memTotal
		if r.hasAvail {
			u.Memory = share(1 - r.memAvail/r.memTotal)
		}
	}
	if r.hasSwap {
		u.Swap = share(0)
		if r.swapTotal > 0 {
			u.Swap = share(1 - r.swapFree/r.swapTotal)
		}
	}
	if r.hasLoad {
		u.Load1 = number(r.load)
	}
	full := -1.0
	for m, size := range r.sizes {
		if a, ok := r.avail[m]; ok && size > 0 {
			full = max(full, 1-a/size)
		}
	}
	if full >= 0 {
		u.Disk = share(full)
	}
	if r.rxN > 0 {
		u.RxBytes = number(r.rx)
	}
	if r.txN > 0 {
		u.TxBytes = number(r.tx)
	}
	return u
}

func share(v float64) *float64 {
	if math.IsNaN(v) {
		return nil
	}
	v = min(max(v, 0), 1)
	v = math.Round(v*1e4) / 1e4
	return &v
}

func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	v = math.Round(v*100) / 100
	return &v
}

// What Prometheus' iterators come upon.
const (
	noValue    = 0
	floatValue = 1
)

// each hands over the newest value of each series, or the rate of the last two.
func each(ctx context.Context, q storage.Querier, from, to int64, rate bool, take func(labels.Labels, float64), ms ...*labels.Matcher) error {
	set := q.Select(ctx, false, &storage.SelectHints{Start: from, End: to}, ms...)
	it := storage.NewListSeriesIterator(nil) // of the type that series fill again
	for n := 0; set.Next(); n++ {
		if n%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		s := set.At()
		it = s.Iterator(it)
		var t, before int64
		var v, old float64
		seen := 0
		for k := it.Next(); k != noValue; k = it.Next() {
			if k != floatValue {
				continue
			}
			before, old = t, v
			t, v = it.At()
			seen++
		}
		if it.Err() != nil {
			return it.Err()
		}
		switch {
		case seen == 0 || value.IsStaleNaN(v):
		case !rate:
			take(s.Labels(), v)
		case seen > 1 && t > before && v >= old && !value.IsStaleNaN(old):
			take(s.Labels(), (v-old)/(float64(t-before)/1000))
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	for _, w := range set.Warnings() {
		if errors.Is(w, context.Canceled) || errors.Is(w, context.DeadlineExceeded) {
			return w
		}
	}
	return nil
}
