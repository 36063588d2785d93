package store

import (
	"time"

	"panoptes/internal/model"
)

// Config says where samples are kept, for how long, and what is accepted. The
// zero value of a field means its default.
type Config struct {
	Dir              string        // the database's directory; who composes holds its lock
	RetentionTime    time.Duration // default 15 days
	RetentionSize    int64         // bytes of blocks; 0: no limit
	OutOfOrderWindow time.Duration // back from the newest sample; default 49 h; negative: off
	FutureLimit      time.Duration // how far ahead of the clock a sample may be; default 10 min
	MaxExemplars     int64         // default 100,000

	// What a series may have, whoever brings it. The doors set tighter limits
	// for strangers.
	MaxLabels     int // labels of a series, default 1000
	MaxNameBytes  int // bytes of a label's name and of the metric's name, default 4096
	MaxValueBytes int // bytes of a label's value, default 64 KiB

	MinFreeBytes  int64         // appends are refused below it; default 512 MiB; negative: no limit
	ReserveBytes  int64         // size of the file given up when the disk is full; default 64 MiB; negative: none
	CheckInterval time.Duration // how often space is looked at; default 1 s

	ReplayConcurrency int           // processors that replay the log; default all
	SegmentBytes      int           // size of a segment of the log; default 128 MiB
	ScrubRate         int64         // bytes a second that are read to find damage; default 2 MiB; negative: off
	ScrubInterval     time.Duration // between two passes over all blocks; default 7 days
	ScrubPause        time.Duration // between two blocks; default 1 min
	ReadWait          time.Duration // how long a query waits while the database is opened again; default 5 s
	CloseWait         time.Duration // how long a stop waits for queries; default 30 s
}

const mib = 1 << 20

func (c Config) withDefaults() Config {
	set(&c.RetentionTime, 15*24*time.Hour)
	set(&c.OutOfOrderWindow, 49*time.Hour)
	set(&c.FutureLimit, 10*time.Minute)
	set(&c.MaxExemplars, 100_000)
	set(&c.MaxLabels, 1000)
	set(&c.MaxNameBytes, 4096)
	set(&c.MaxValueBytes, 64<<10)
	set(&c.MinFreeBytes, 512*mib)
	set(&c.ReserveBytes, 64*mib)
	set(&c.CheckInterval, time.Second)
	set(&c.SegmentBytes, 128*mib)
	set(&c.ScrubRate, 2*mib)
	set(&c.ScrubInterval, 7*24*time.Hour)
	set(&c.ScrubPause, time.Minute)
	set(&c.ReadWait, 5*time.Second)
	set(&c.CloseWait, 30*time.Second)
	return c
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate names what is wrong; it returns nil or a model.Invalid.
func (c Config) Validate() error {
	var inv model.Invalid
	if c.Dir == "" {
		inv.Add("dir", "must name a directory")
	}
	if c.RetentionTime < 2*time.Hour {
		inv.Add("retention_time", "is %s; it must be at least 2h", c.RetentionTime)
	}
	if c.RetentionSize < 0 {
		inv.Add("retention_size", "must not be negative")
	}
	if c.FutureLimit < 0 {
		inv.Add("future_limit", "must not be negative")
	}
	if c.SegmentBytes < 0 || c.SegmentBytes%(32<<10) != 0 {
		inv.Add("segment_bytes", "must be a multiple of 32 KiB")
	}
	if c.MaxLabels < 1 || c.MaxNameBytes < 1 || c.MaxValueBytes < 1 {
		inv.Add("max_labels", "and max_name_bytes and max_value_bytes must be at least 1")
	}
	if c.CheckInterval < 0 {
		inv.Add("check_interval", "must not be negative")
	}
	if len(inv) > 0 {
		return inv
	}
	return nil
}
