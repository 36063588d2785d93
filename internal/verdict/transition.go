package verdict

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Transition is a change of a check's state. When a child that was silenced by
// its parent has to be told of after all, From equals To.
type Transition struct {
	ID       string // of its event; with At it orders the transitions of a check
	Check    model.Check
	From, To model.Status
	At       time.Time
	Message  string // English, names the regions
	Code     string // "check." and the state
	Regions  map[string]model.RegionState
	Evidence map[string]json.RawMessage // by failing region, as it was found
	// Notify says that people have not been told of this state yet. It is false
	// for pending, maintenance and paused, and for a state they know already.
	Notify bool
	// Suppressed says that an ancestor is down: the state counts, but it is not
	// the news.
	Suppressed bool
	// Decided is the state below maintenance or pause, Told the one people were
	// last told of; the next owner continues with both.
	Decided, Told model.Status
}

// stamp orders transitions: by time, to the millisecond that all stores keep,
// and by id where that is the same.
type stamp struct {
	at time.Time
	id string
}

func (t *Transition) stamp() stamp { return stamp{t.At, t.ID} }

func (s stamp) before(o stamp) bool {
	if a, b := s.at.UnixMilli(), o.at.UnixMilli(); a != b {
		return a < b
	}
	return s.id < o.id
}

// decided is the state below maintenance or pause. Old events do not name it.
func (t *Transition) decided() model.Status {
	switch {
	case slices.Contains(decisions, t.Decided):
		return t.Decided
	case slices.Contains(decisions, t.To):
		return t.To
	}
	return model.StatusPending
}

// told is what people were told last.
func (t *Transition) told() model.Status {
	switch {
	case slices.Contains(decisions, t.Told):
		return t.Told
	case slices.Contains(decisions, t.To) && !t.Suppressed:
		return t.To
	}
	return model.StatusUp
}

// newestVote is when the youngest vote of the transition was made; without
// votes, when it was decided.
func (t *Transition) newestVote() time.Time {
	var newest time.Time
	for _, r := range t.Regions {
		if r.Status != model.StatusUnknown && r.At.After(newest) {
			newest = r.At
		}
	}
	if newest.IsZero() {
		return t.At
	}
	return newest
}

// EventData is the Data of a state event.
type EventData struct {
	From       model.Status                 `json:"from"`
	To         model.Status                 `json:"to"`
	Message    string                       `json:"message"`
	Regions    map[string]model.RegionState `json:"regions,omitempty"`
	Evidence   map[string]json.RawMessage   `json:"evidence,omitempty"`
	Notify     bool                         `json:"notify"`
	Suppressed bool                         `json:"suppressed,omitempty"`
	Decided    model.Status                 `json:"decided,omitempty"`
	Told       model.Status                 `json:"told,omitempty"`
}

const subjectPrefix = "check/"

// Event makes the event that keeps t: kind state, subject "check/<id>", its
// data an EventData.
func Event(t Transition, check model.Check) (model.Event, error) {
	data, err := json.Marshal(EventData{
		From: t.From, To: t.To, Message: t.Message, Regions: t.Regions, Evidence: t.Evidence,
		Notify: t.Notify, Suppressed: t.Suppressed, Decided: t.Decided, Told: t.Told,
	})
	if err != nil {
		return model.Event{}, fmt.Errorf("encode state of check %s: %w", check.Name, err)
	}
	severity := "info"
	switch t.To {
	case model.StatusDown:
		severity = check.Severity
		if severity == "" {
			severity = "critical"
		}
	case model.StatusDegraded, model.StatusUnknown:
		severity = "warning"
	}
	id := t.ID
	if id == "" {
		id = model.NewID(t.At)
	}
	return model.Event{
		ID: id, Time: t.At.UTC(), Kind: model.EventState, Subject: subjectPrefix + check.ID, Name: check.Name,
		Severity: severity, Actor: "system", Message: t.Message, Code: t.Code, Labels: check.Labels, Data: data,
	}, nil
}

// FromEvent reads what Event wrote. Of the check it knows ID, Name and Labels.
func FromEvent(e model.Event) (Transition, error) {
	id, ok := strings.CutPrefix(e.Subject, subjectPrefix)
	if !ok || e.Kind != model.EventState {
		return Transition{}, fmt.Errorf("event %s (%s about %q) is no state of a check", e.ID, e.Kind, e.Subject)
	}
	var d EventData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return Transition{}, fmt.Errorf("read state event %s: %w", e.ID, err)
	}
	if d.To.Code() < 0 {
		return Transition{}, fmt.Errorf("read state event %s: %q is no state", e.ID, d.To)
	}
	return Transition{
		ID: e.ID, Check: model.Check{ID: id, Name: e.Name, Labels: e.Labels}, From: d.From, To: d.To, At: e.Time, Message: e.Message, Code: e.Code,
		Regions: d.Regions, Evidence: d.Evidence, Notify: d.Notify, Suppressed: d.Suppressed, Decided: d.Decided, Told: d.Told,
	}, nil
}
