package relay

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"panoptes/internal/model"
)

// A push stream begins with a hello of the sender and a welcome of the
// receiver, both JSON. Then each message is a byte that says what it is, and
// its content.
const (
	msgStart   = 'S' // to the receiver: two positions: a segment begins here; what is before the second is there already
	msgRecords = 'R' // to the receiver: a position, and records of the log as they are in it
	msgLag     = 'L' // to the receiver: JSON lag
	msgAck     = 'A' // to the sender: a position, everything before it is stored; a count of what was refused for good
	msgClose   = 'C' // to the sender: this stream is to end; begin another
	msgRefused = 'E' // to the sender: JSON refusal: nothing is stored at the moment
)

type hello struct {
	Log    string  `json:"log"`
	Missed *missed `json:"missed,omitempty"` // dropped: to be copied from elsewhere
	// Clock is the sender's, milliseconds since 1970. What is in the log before
	// End was taken before that.
	Clock int64    `json:"clock,omitempty"`
	End   position `json:"end,omitempty"`
}

type welcome struct {
	Log string   `json:"log,omitempty"` // of which Pos is
	Pos position `json:"pos,omitempty"` // everything before it is stored, and records may go on from here
}

// lag is what the sender still holds for the receiver.
type lag struct {
	Bytes  int64 `json:"bytes"`
	Millis int64 `json:"ms"` // age of the oldest entry
}

type refusal struct {
	Space   bool     `json:"space,omitempty"`   // the disk is full
	Damaged position `json:"damaged,omitempty"` // of a record that cannot be understood
	Text    string   `json:"text"`
}

func (r refusal) err() error {
	if r.Space {
		return fmt.Errorf("%w: %s", model.ErrNoSpace, r.Text)
	}
	return fmt.Errorf("%w: %s", model.ErrUnavailable, r.Text)
}

func appendPosition(b []byte, p position) []byte {
	return binary.LittleEndian.AppendUint64(b, uint64(p))
}

var errMessage = errors.New("malformed message")

// cutPosition takes a position from the front of b.
func cutPosition(b []byte) (position, []byte, error) {
	if len(b) < 8 {
		return 0, nil, errMessage
	}
	return position(binary.LittleEndian.Uint64(b)), b[8:], nil
}

func encodeJSON(kind byte, v any) ([]byte, error) {
	j, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte{kind}, j...), nil
}
