package model

import "fmt"

// KV is one key of the configuration store.
type KV struct {
	Key      string
	Value    []byte
	Revision int64 // of the last change of this key; it rises with every write to the store
}

// The values of KVCond.Revision that are no revision.
const (
	KVAny    int64 = -1 // no condition; in a KVCond: the key must exist
	KVAbsent int64 = 0  // the key must not exist
)

// KVCond is what must hold for a transaction to be carried out: the key was
// last changed by Revision, or KVAbsent, or KVAny for "exists".
type KVCond struct {
	Key      string
	Revision int64
}

// KVOp writes or deletes one key in a transaction.
type KVOp struct {
	Key    string
	Value  []byte
	Delete bool
}

// KVEvent is one change that a watch saw. Value is nil when Deleted.
type KVEvent struct {
	KV
	Deleted bool
}

// KVBatch is what a watch delivers at once. After a Reset the events are all
// keys that exist; what the receiver knows beyond them is gone.
type KVBatch struct {
	Reset    bool
	Events   []KVEvent // in order of revision; those of one transaction are never torn apart
	Revision int64     // everything up to here has been delivered
}

// KVCondError says which condition of a transaction did not hold. It wraps
// ErrConflict when a key that must be absent exists, else ErrRevision.
type KVCondError struct {
	Key      string
	Found    int64 // the key's revision, KVAbsent when there is none
	Revision int64 // of the store when it looked
	Err      error
}

func (e *KVCondError) Error() string {
	return fmt.Sprintf("%s: %s is at revision %d", e.Err, e.Key, e.Found)
}

func (e *KVCondError) Unwrap() error { return e.Err }
