// Package uplink holds the messages of the stream between an agent and the
// server that it talks to. The agent opens it; a message is one byte that says
// what it is, and its content. A kind that is not known comes from a newer
// program and is left alone.
//
// The agent begins with Hello, the server answers with Welcome or ends the
// stream. From then on both send what they have.
package uplink

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"panoptes/internal/model"
)

// Method is the name of the stream.
const Method = "agent.session"

// Kind says what a message is.
type Kind byte

// The messages. JSON unless said otherwise.
const (
	KindHello   Kind = 'H' // agent: Hello
	KindWelcome Kind = 'W' // server: Welcome
	KindBeat    Kind = 'h' // both: I am here; the agent's has the time by its clock, the server answers each one with nothing in it
	KindData    Kind = 'D' // agent: binary, see Data: a frame of samples and events
	KindAck     Kind = 'A' // server: binary, see Ack: frames that are safe
	KindResults Kind = 'R' // agent: []model.Result without samples, for the verdict
	KindRestart Kind = 'L' // server, empty: describe the series anew, their labels have changed
	KindSetting Kind = 'S' // server: Settings
	KindChecks  Kind = 'C' // server: Checks
	KindProbe   Kind = 'P' // server: ProbeRequest; agent: Answer with a model.Result
	KindLook    Kind = 'Q' // server: Request; agent: Answer with a snapshot
	KindBye     Kind = 'X' // both: Bye, the last message
)

// Bounds of messages.
const (
	MaxHello    = 16 << 10
	MaxFrame    = 1 << 20   // bytes of a frame as it travels
	MaxResults  = 512 << 10 // bytes of a message of results
	MaxAnswer   = 1 << 20
	Window      = 256 << 10 // bytes of backlog that may be on the way, not acknowledged
	MaxInFlight = 64        // frames of backlog that may be on the way
)

// Times of the stream.
const (
	BeatEvery = 900 * time.Millisecond // of the agent; below the second after which the transport asks for itself
	Silence   = 2 * time.Second        // without a word from the server: it is gone
)

// Hello is what an agent says of itself. Who it is says its certificate.
type Hello struct {
	Version   string            `json:"version"`
	Run       string            `json:"run"`                 // made anew by each process
	Boot      string            `json:"boot,omitempty"`      // made anew by each start of the machine
	Machine   string            `json:"machine,omitempty"`   // hash of what the machine says it is
	Hostname  string            `json:"hostname,omitempty"`  // as it is called today
	BootTime  time.Time         `json:"boot_time,omitzero"`  //
	Started   time.Time         `json:"started,omitzero"`    // of the process
	Time      time.Time         `json:"time"`                // by the agent's clock
	OS        string            `json:"os,omitempty"`        // linux, windows, …
	Arch      string            `json:"arch,omitempty"`      //
	Addresses []string          `json:"addresses,omitempty"` // of the machine, without loopback
	Labels    map[string]string `json:"labels,omitempty"`    // of the agent's own file
	Checks    bool              `json:"checks,omitempty"`    // it may be given checks
	Kinds     []string          `json:"kinds,omitempty"`     // of these kinds only; empty for all
	Backlog   int64             `json:"backlog,omitempty"`   // bytes in its buffer
	Update    *UpdateState      `json:"update,omitempty"`    // of its own program; nil: it does not renew itself
	Actions   bool              `json:"actions,omitempty"`   // its file lets something be restarted from here
}

// Validate bounds what a stranger may say.
func (h *Hello) Validate() error {
	var inv model.Invalid
	for field, s := range map[string]string{"version": h.Version, "run": h.Run, "boot": h.Boot, "machine": h.Machine, "os": h.OS, "arch": h.Arch} {
		if len(s) > 64 {
			inv.Add(field, "must have 64 bytes at most")
		}
	}
	if h.Run == "" {
		inv.Add("run", "must be given")
	}
	if len(h.Kinds) > 64 || slices.ContainsFunc(h.Kinds, func(k string) bool { return len(k) > 64 }) {
		inv.Add("kinds", "must be 64 names of 64 bytes at most")
	}
	if len(h.Hostname) > 255 {
		inv.Add("hostname", "must have 255 bytes at most")
	}
	if len(h.Addresses) > 16 {
		inv.Add("addresses", "must be 16 at most")
	}
	for _, a := range h.Addresses {
		if len(a) > 64 {
			inv.Add("addresses", "must have 64 bytes at most")
			break
		}
	}
	inv.AddErr("labels", model.ValidateLabels(h.Labels))
	inv.AddErr("", h.Update.Validate())
	return inv.Err()
}

// Server is one that agents may talk to.
type Server struct {
	ID   string `json:"id,omitempty"`
	Addr string `json:"addr"` // host:port
}

// Welcome is the server's answer to Hello.
type Welcome struct {
	Server   string    `json:"server"` // node id
	Time     time.Time `json:"time"`   // by the server's clock
	Settings Settings  `json:"settings"`
}

// Settings say what the agent is to do. What its own file forbids it does not do.
type Settings struct {
	Interval   model.Duration      `json:"interval,omitempty"`   // between two rounds of the collectors
	Live       bool                `json:"live,omitempty"`       // somebody looks: each second
	Collectors map[string]bool     `json:"collectors,omitempty"` // those switched on or off; the others are as they are by default
	Processes  []string            `json:"processes,omitempty"`  // patterns of processes to watch
	Scrapes    json.RawMessage     `json:"scrapes,omitempty"`    // targets near the host
	Labels     map[string]string   `json:"labels,omitempty"`     // of all series of the host; the server sets them
	Mesh       *Mesh               `json:"mesh,omitempty"`       // hosts to look at
	Services   []model.HostService `json:"services,omitempty"`   // to watch
	MaxAge     model.Duration      `json:"max_age,omitempty"`    // what is older the servers do not take
	Servers    []Server            `json:"servers,omitempty"`    // all that there are; empty: as before
	Update     *UpdateWanted       `json:"update,omitempty"`     // of the agent's own program; nil: none
}

// Check is a check with what its record alone does not say.
type Check struct {
	ID       string      `json:"id"`
	Revision int64       `json:"revision"`
	Check    model.Check `json:"check"`
}

// Of wraps a check.
func Of(c model.Check) Check { return Check{ID: c.ID, Revision: c.Revision, Check: c} }

// Unwrap returns the check with its id and revision.
func (c Check) Unwrap() model.Check {
	out := c.Check
	out.ID, out.Revision = c.ID, c.Revision
	return out
}

// Checks changes the list of checks that the agent runs.
type Checks struct {
	Reset  bool     `json:"reset,omitempty"` // forget all first
	Put    []Check  `json:"put,omitempty"`
	Remove []string `json:"remove,omitempty"` // ids
	More   bool     `json:"more,omitempty"`   // another message belongs to the same change
}

// Request asks for an answer.
type Request struct {
	ID uint64 `json:"id"`
}

// ProbeRequest asks for a run of a check now.
type ProbeRequest struct {
	Request
	Check Check `json:"check"`
}

// Answer answers a request.
type Answer struct {
	ID    uint64          `json:"id"`
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}

// Reasons of Bye.
const (
	ByeStop     = "stop"     // the agent was stopped
	ByeShutdown = "shutdown" // and its machine is being shut down
	ByeReboot   = "reboot"   // or started anew
	ByeMove     = "move"     // the other side: talk to another server; the agent: it does
	ByeClone    = "clone"    // another machine has the same identity
	ByeReplaced = "replaced" // the same agent has another stream
)

// Bye says why the stream ends.
type Bye struct {
	Reason string         `json:"reason"`
	Text   string         `json:"text,omitempty"`
	Wait   model.Duration `json:"wait,omitempty"` // before the next try
}

// ErrMessage says that a message is not what it should be.
var ErrMessage = errors.New("malformed message")

// Encode writes a JSON message.
func Encode(k Kind, v any) ([]byte, error) {
	j, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message %q: %w", byte(k), err)
	}
	return append([]byte{byte(k)}, j...), nil
}

// Split returns the kind of a message and its content.
func Split(b []byte) (Kind, []byte, error) {
	if len(b) == 0 {
		return 0, nil, fmt.Errorf("%w: it is empty", ErrMessage)
	}
	return Kind(b[0]), b[1:], nil
}

// AppendBeat adds an agent's beat: milliseconds since 1970 by its clock.
func AppendBeat(dst []byte, now time.Time) []byte {
	return binary.BigEndian.AppendUint64(append(dst, byte(KindBeat)), uint64(now.UnixMilli()))
}

// BeatTime is the time that a beat tells; ok is false when it tells none, as those
// of older agents.
func BeatTime(content []byte) (at time.Time, ok bool) {
	if len(content) < 8 {
		return at, false
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(content))), true
}

// Decode reads the content of a JSON message of at most limit bytes. Fields
// that are not known are ignored: the other side may be newer.
func Decode[T any](content []byte, limit int) (v T, err error) {
	if len(content) > limit {
		return v, fmt.Errorf("a message of %d bytes, %d are allowed: %w", len(content), limit, model.ErrTooLarge)
	}
	if err := json.Unmarshal(content, &v); err != nil {
		return v, fmt.Errorf("%w: %w", ErrMessage, model.DecodeError(err))
	}
	return v, nil
}

// The lanes of data.
const (
	Live    = 0 // what was just measured
	Backlog = 1 // what waited on the agent's disk
)

const (
	flagLane  = 0x01
	flagStart = 0x02
	flagKnown = 0x04
)

// Data is a frame of one lane. Frames of a lane are numbered from 1 in each
// stream.
type Data struct {
	Lane  int
	Start bool // the dictionary begins anew with this frame
	Known bool // the servers have it: it is only here for its dictionary
	Seq   uint64
	Frame []byte // valid as long as the message
}

// Append writes the message to dst.
func (d *Data) Append(dst []byte) []byte {
	flags := byte(d.Lane) & flagLane
	if d.Start {
		flags |= flagStart
	}
	if d.Known {
		flags |= flagKnown
	}
	dst = append(dst, byte(KindData), flags)
	dst = binary.AppendUvarint(dst, d.Seq)
	return append(dst, d.Frame...)
}

// ParseData reads the content of a data message.
func ParseData(b []byte) (Data, error) {
	if len(b) < 2 || b[0]&^(flagLane|flagStart|flagKnown) != 0 {
		return Data{}, fmt.Errorf("%w: data without a head", ErrMessage)
	}
	seq, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return Data{}, fmt.Errorf("%w: data without a number", ErrMessage)
	}
	return Data{Lane: int(b[0] & flagLane), Start: b[0]&flagStart != 0, Known: b[0]&flagKnown != 0, Seq: seq, Frame: b[1+n:]}, nil
}

// Ack says that all frames of a lane up to Seq are safe.
type Ack struct {
	Lane    int
	Seq     uint64
	Refused uint64 // samples and events that were refused for good since the last one
}

// Encode writes the message.
func (a Ack) Encode() []byte {
	b := []byte{byte(KindAck), byte(a.Lane)}
	b = binary.AppendUvarint(b, a.Seq)
	return binary.AppendUvarint(b, a.Refused)
}

// ParseAck reads the content of an acknowledgement.
func ParseAck(b []byte) (Ack, error) {
	if len(b) < 3 || b[0] > Backlog {
		return Ack{}, fmt.Errorf("%w: acknowledgement", ErrMessage)
	}
	seq, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return Ack{}, fmt.Errorf("%w: acknowledgement without a number", ErrMessage)
	}
	refused, m := binary.Uvarint(b[1+n:])
	if m <= 0 {
		return Ack{}, fmt.Errorf("%w: acknowledgement without a count", ErrMessage)
	}
	return Ack{Lane: int(b[0]), Seq: seq, Refused: refused}, nil
}

// CheckLabel is on samples of checks that an agent sends, with the check's id
// and revision: the server puts the check's labels in its place.
const CheckLabel = "__check__"

// CheckKey spells the value of CheckLabel.
func CheckKey(id string, revision int64) string { return fmt.Sprintf("%s@%d", id, revision) }

// SplitCheckKey returns the id.
func SplitCheckKey(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '@' {
			return s[:i]
		}
	}
	return s
}
