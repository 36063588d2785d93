package model

import (
	"encoding/json"
	"time"

	"github.com/oklog/ulid/v2"
)

// EventKind says what an event tells of.
type EventKind string

// The kinds of event.
const (
	EventState    EventKind = "state"    // a check changed its state; Subject "check/<id>"
	EventAlert    EventKind = "alert"    // an alert began or ended; Subject "alert/<fingerprint>"
	EventDelivery EventKind = "delivery" // an attempt to notify; Subject "receiver/<name>"
	EventAudit    EventKind = "audit"    // somebody changed something or tried to log in; Subject "<resource>/<id>" or "session/<user>"
	EventNode     EventKind = "node"     // a server or agent came, went or is in trouble; Subject "node/<id>"
)

// Event is one thing that happened. It is immutable; storing it twice changes nothing.
type Event struct {
	ID       string            `json:"id"` // ULID; sorts by time
	Time     time.Time         `json:"time"`
	Kind     EventKind         `json:"kind"`
	Subject  string            `json:"subject"`            // "check/01J…", "receiver/hook", …
	Name     string            `json:"name,omitempty"`     // the subject's name at that time
	Severity string            `json:"severity,omitempty"` // info, warning, critical
	Actor    string            `json:"actor,omitempty"`    // "user/alice", "key/ci", "system"
	Message  string            `json:"message"`            // English sentence for logs and search
	Code     string            `json:"code,omitempty"`     // stable code, e.g. "check.down", that pages translate
	Labels   map[string]string `json:"labels,omitempty"`
	Data     json.RawMessage   `json:"data,omitempty"` // details; see the emitting package
}

// MaxEventBytes bounds one event, all fields.
const MaxEventBytes = 1 << 20

// ValidateEvents names what keeps events from being stored anywhere; it returns
// nil or an Invalid.
func ValidateEvents(events []Event) error {
	var inv Invalid
	for i := range events {
		e := &events[i]
		at := Index("events", i)
		if _, err := ulid.ParseStrict(e.ID); err != nil {
			inv.Add(at+".id", "%q is not a ULID", e.ID)
		}
		if e.Kind == "" {
			inv.Add(at+".kind", "must be given")
		}
		if e.Time.IsZero() {
			inv.Add(at+".time", "must be given")
		} else if _, err := e.Time.MarshalJSON(); err != nil {
			inv.Add(at+".time", "%v", err)
		}
		if len(e.Data) > 0 && !json.Valid(e.Data) {
			inv.Add(at+".data", "is not valid JSON")
		}
		size := len(e.Subject) + len(e.Name) + len(e.Severity) + len(e.Actor) + len(e.Message) + len(e.Code) + len(e.Data) + len(e.Kind)
		for k, v := range e.Labels {
			size += len(k) + len(v)
		}
		if size > MaxEventBytes {
			inv.Add(at, "has %d bytes; %d are allowed", size, MaxEventBytes)
		}
	}
	return inv.Err()
}

// EventQuery selects events, newest first. Empty fields select all.
type EventQuery struct {
	Kinds    []EventKind
	Subject  string // exact, or a prefix when it ends with "/"
	Severity string
	Text     string    // words that must all occur in name, message or actor, case-insensitive
	From, To time.Time // From inclusive, To exclusive
	Limit    int       // 1..1000; 0 means 100
	Cursor   string    // opaque; from the page before
}
