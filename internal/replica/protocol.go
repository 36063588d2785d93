package replica

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"panoptes/internal/model"
)

// The methods that servers call of each other.
const (
	methodInfo    = "replica.info"    // what a server has: infoRequest, info
	methodEvents  = "replica.events"  // a page of events: eventsRequest, eventsPage
	methodDays    = "replica.days"    // digests of events: daysRequest, []model.EventDigest
	methodSuspect = "replica.suspect" // a block arrived damaged: suspect
	methodBlock   = "replica.block"   // stream: blockRequest; the pieces of one block
	methodRecent  = "replica.recent"  // stream: recentRequest; the pieces of blocks of what is in memory
	methodDigests = "replica.digests" // stream: digestsRequest; []model.Digest for each range
	methodRaw     = "replica.raw"     // stream: model.SampleRange; raw samples
)

type infoRequest struct {
	Blocks bool `json:"blocks"` // list them
}

type info struct {
	Needs  []span        `json:"needs"` // what it lacks itself
	Oldest int64         `json:"oldest"`
	Busy   int           `json:"busy"` // copies that it serves
	Lag    int64         `json:"lag"`  // ms; age of the oldest sample that it holds for a live server
	Blocks []model.Block `json:"blocks,omitempty"`
}

// span is a need as others see it.
type span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	All  bool  `json:"all,omitempty"`
}

type eventsRequest struct {
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Cursor string `json:"cursor"`
	Limit  int    `json:"limit"`
}

type eventsPage struct {
	Events []model.Event `json:"events"`
	Next   string        `json:"next"`
}

type daysRequest struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

type suspect struct {
	ID string `json:"id"`
}

type blockRequest struct {
	ID   string           `json:"id"`
	Have map[string]int64 `json:"have,omitempty"` // bytes of its files that are there already
}

type recentRequest struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

type digestsRequest struct {
	Ranges []model.SampleRange `json:"ranges"`
}

// Bounds of what strangers among the servers may ask for.
const (
	pieceBytes  = 256 << 10
	maxRanges   = 64
	maxPage     = 1000
	maxScan     = 2 * 60 * 60 * 1000 // ms of samples in one scan
	maxHave     = 4096
	maxBlockFil = 4096 // files of a block
)

// A block travels as a head (model.Block), then for every file its bytes in
// pieces, each with its place in the file, and the hash of the whole file.
const (
	pieceHead byte = 'h'
	pieceData byte = 'd'
	pieceEnd  byte = 'e' // of a file: SHA-256 of all of it
)

var errProtocol = errors.New("the other server sent something unexpected")

func headPiece(b model.Block) ([]byte, error) {
	out, err := json.Marshal(b)
	return append([]byte{pieceHead}, out...), err
}

// dataPiece prepares a message for bytes at a place in a file.
func dataPiece(buf []byte, at int64) []byte {
	return binary.LittleEndian.AppendUint64(append(buf[:0], pieceData), uint64(at))
}

const dataHead = 9 // bytes before the data

// decodeHead reads and bounds the description of a block that is to come.
func decodeHead(m []byte) (b model.Block, err error) {
	if len(m) == 0 || m[0] != pieceHead {
		return b, fmt.Errorf("%w: no head of a block", errProtocol)
	}
	if err := json.Unmarshal(m[1:], &b); err != nil {
		return b, fmt.Errorf("%w: head of a block: %w", errProtocol, err)
	}
	if !blockID(b.ID) || len(b.Files) == 0 || len(b.Files) > maxBlockFil {
		return b, fmt.Errorf("%w: head of a block", errProtocol)
	}
	seen := make(map[string]bool)
	for _, f := range b.Files {
		if !blockFile(f.Name) || f.Size < 0 || seen[f.Name] {
			return b, fmt.Errorf("%w: file of a block", errProtocol)
		}
		seen[f.Name] = true
	}
	return b, nil
}

// decodeData reads a piece of a file.
func decodeData(m []byte) (at int64, data []byte, err error) {
	if len(m) < dataHead || m[0] != pieceData {
		return 0, nil, fmt.Errorf("%w: no piece of a file", errProtocol)
	}
	return int64(binary.LittleEndian.Uint64(m[1:])), m[dataHead:], nil
}

// blockID reports whether s is a ULID, and with it a harmless name of a directory.
func blockID(s string) bool {
	if len(s) != 26 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// blockFile reports whether name is a file that blocks have.
func blockFile(name string) bool {
	switch name {
	case "index", "tombstones", "meta.json":
		return true
	}
	if len(name) != len("chunks/000001") || name[:7] != "chunks/" {
		return false
	}
	for _, c := range name[7:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
