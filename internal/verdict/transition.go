package verdict

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Transition is a change of a check's state. When a child that was silenced by
// its parent has to be told of after all, From equals To.
type Transition struct {
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
	return model.Event{
		ID: model.NewID(t.At), Time: t.At.UTC(), Kind: model.EventState, Subject: subjectPrefix + check.ID, Name: check.Name,
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
		Check: model.Check{ID: id, Name: e.Name, Labels: e.Labels}, From: d.From, To: d.To, At: e.Time, Message: e.Message, Code: e.Code,
		Regions: d.Regions, Evidence: d.Evidence, Notify: d.Notify, Suppressed: d.Suppressed, Decided: d.Decided, Told: d.Told,
	}, nil
}
