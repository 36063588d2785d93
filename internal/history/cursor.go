package history

import (
	"encoding/base64"
	"encoding/binary"
	"errors"

	"github.com/oklog/ulid/v2"
)

// position is a place in the order of events.
type position struct {
	ms int64
	id string
}

var errCursor = errors.New("is not a cursor of this list; begin again without it")

const cursorVersion = 1

func encodeCursor(p position) string {
	b := append([]byte{cursorVersion}, binary.BigEndian.AppendUint64(nil, uint64(p.ms))...)
	return base64.RawURLEncoding.EncodeToString(append(b, p.id...))
}

func decodeCursor(s string) (position, error) {
	if len(s) > 64 {
		return position{}, errCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 9+ulid.EncodedSize || b[0] != cursorVersion {
		return position{}, errCursor
	}
	p := position{ms: int64(binary.BigEndian.Uint64(b[1:9])), id: string(b[9:])}
	if _, err := ulid.ParseStrict(p.id); err != nil {
		return position{}, errCursor
	}
	return p, nil
}
