package selfwatch

import "time"

// Machine is what is known of the machine, or of the container when that is
// narrower. Shares are from 0 to 1.
type Machine struct {
	CPU      float64 // in use since the last look
	Memory   float64 // in use
	DiskFree float64 // of the data directory's file system

	hasCPU, hasMemory, hasDisk bool
}

// Known says which values were read; other systems than Linux have none.
func (m Machine) Known() (cpu, memory, disk bool) { return m.hasCPU, m.hasMemory, m.hasDisk }

// average smooths the last minute.
type average struct {
	n    int
	last [4]float64
}

func (a *average) add(v float64) {
	a.last[a.n%len(a.last)] = v
	a.n++
}

// mean is false until there are enough values.
func (a *average) mean() (float64, bool) {
	if a.n < len(a.last) {
		return 0, false
	}
	var sum float64
	for _, v := range a.last {
		sum += v
	}
	return sum / float64(len(a.last)), true
}

// trend foresees when the disk is full, from the last six hours.
type trend struct {
	points []point
}

type point struct {
	at   time.Time
	free float64
}

const (
	trendStep = time.Minute
	trendOver = 6 * time.Hour
	trendMin  = time.Hour // less says nothing
)

func (t *trend) add(at time.Time, free float64) {
	if n := len(t.points); n > 0 && at.Sub(t.points[n-1].at) < trendStep {
		return
	}
	if n := len(t.points); n > 0 && free > t.points[n-1].free+0.02 {
		t.points = t.points[:0] // something was deleted: what was before says nothing of what comes
	}
	t.points = append(t.points, point{at, free})
	for at.Sub(t.points[0].at) > trendOver {
		t.points = t.points[1:]
	}
}

// fullIn is the time until the line through all points reaches zero; false when
// too little is known or the disk does not fill.
func (t *trend) fullIn() (time.Duration, bool) {
	n := len(t.points)
	if n < 2 || t.points[n-1].at.Sub(t.points[0].at) < trendMin {
		return 0, false
	}
	began := t.points[0].at
	var sx, sy, sxx, sxy float64
	for _, p := range t.points {
		x := p.at.Sub(began).Hours()
		sx, sy, sxx, sxy = sx+x, sy+p.free, sxx+x*x, sxy+x*p.free
	}
	c := float64(n)
	slope := (c*sxy - sx*sy) / (c*sxx - sx*sx) // share per hour
	// Less than this takes a month and more.
	if !(slope < -1e-3) {
		return 0, false
	}
	return time.Duration(t.points[n-1].free / -slope * float64(time.Hour)), true
}
