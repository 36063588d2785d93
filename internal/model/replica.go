package model

import (
	"errors"
	"io"
)

// ErrDamaged says that content is not what its checksums say.
var ErrDamaged = errors.New("damaged")

// Block describes one immutable block of samples.
type Block struct {
	ID      string      `json:"id"` // ULID
	MinTime int64       `json:"min_time"`
	MaxTime int64       `json:"max_time"` // exclusive, ms
	Bytes   int64       `json:"bytes"`
	Level   int         `json:"level"` // how often it was merged
	Series  uint64      `json:"series"`
	Samples uint64      `json:"samples"`
	Chunks  uint64      `json:"chunks"`
	Sources []string    `json:"sources"` // ULIDs of the blocks that were merged into it
	Damaged bool        `json:"damaged,omitempty"`
	Files   []BlockFile `json:"files,omitempty"`
}

// BlockFile is one file of a block. R is set while the block is open.
type BlockFile struct {
	Name string            `json:"name"` // below the block's directory, with slashes
	Size int64             `json:"size"`
	R    io.ReadSeekCloser `json:"-"`
}

// Close closes the files.
func (b *Block) Close() error {
	var errs []error
	for _, f := range b.Files {
		if f.R != nil {
			errs = append(errs, f.R.Close())
		}
	}
	return errors.Join(errs...)
}

// Digest is what two stores compare: the same samples of the same series give
// the same digest, in whatever order and files they lie.
type Digest struct {
	Series  uint64 `json:"series"`
	Samples uint64 `json:"samples"`
	Hash    uint64 `json:"hash,string"`
}

// SampleRange names samples: those of the series in some of the shards, by the
// hash of their labels, between two times in milliseconds, From inclusive, To
// exclusive.
type SampleRange struct {
	From   int64 `json:"from"`
	To     int64 `json:"to"`
	Shards int   `json:"shards"`
	Which  []int `json:"which,omitempty"` // empty: all
}

// SampleRepair says what became of samples that another server has.
type SampleRepair struct {
	Series    int      `json:"series"`              // that were looked at
	Missing   int      `json:"missing"`             // samples that this server lacked
	Added     int      `json:"added"`               // of those, stored now
	Extra     int      `json:"extra"`               // samples that only this server has
	Conflicts int      `json:"conflicts"`           // same series and time, other value: nothing was changed
	Examples  []string `json:"examples,omitempty"`  // of conflicts
	Refused   int      `json:"refused,omitempty"`   // samples that the store did not take
	FirstErr  string   `json:"first_err,omitempty"` // why
}

// LostSamples is a time range whose samples may be damaged or gone. From and To
// are 0 when they are not known.
type LostSamples struct {
	ID     string // stable, also after a restart
	From   int64  // ms
	To     int64
	Found  int64
	Block  string // ULID of a block that is still in use although it is damaged
	Reason string
}

// EventDigest is what two histories compare about one day.
type EventDigest struct {
	Day   string `json:"day"` // UTC, 2006-01-02
	Count int64  `json:"count"`
	Hash  uint64 `json:"hash,string"`
}
