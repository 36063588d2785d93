package verdict

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"panoptes/internal/model"
)

// RegionTransition tells that a region does not vote any more, or votes again.
type RegionTransition struct {
	ID       string // of its event
	Region   string
	Impaired bool
	Cause    string // vanished, cut_off or alone; empty when it votes again
	Code     string // region.impaired or region.recovered
	Message  string
	At       time.Time // when it was decided to say so
	Since    time.Time // when it began
}

// RegionData is the Data of a region's event.
type RegionData struct {
	Impaired bool      `json:"impaired"`
	Cause    string    `json:"cause,omitempty"`
	Since    time.Time `json:"since"`
}

const regionPrefix = "region/"

// regionKey is what Deps.Owns is asked about a region, and its event's subject.
func regionKey(name string) string { return regionPrefix + name }

// RegionEvent makes the event that keeps t: kind node, subject "region/<name>".
func RegionEvent(t RegionTransition) (model.Event, error) {
	data, err := json.Marshal(RegionData{Impaired: t.Impaired, Cause: t.Cause, Since: t.Since.UTC()})
	if err != nil {
		return model.Event{}, fmt.Errorf("encode state of region %s: %w", t.Region, err)
	}
	e := model.Event{
		ID: t.ID, Time: t.At.UTC(), Kind: model.EventNode, Subject: regionKey(t.Region), Name: t.Region, Severity: "info", Actor: "system",
		Message: t.Message, Code: t.Code, Labels: map[string]string{model.LabelRegion: t.Region}, Data: data,
	}
	if t.Impaired {
		e.Severity = "warning"
	}
	return e, nil
}

// RegionFromEvent reads what RegionEvent wrote.
func RegionFromEvent(e model.Event) (RegionTransition, error) {
	name, ok := strings.CutPrefix(e.Subject, regionPrefix)
	if !ok || e.Kind != model.EventNode {
		return RegionTransition{}, fmt.Errorf("event %s (%s about %q) is no state of a region", e.ID, e.Kind, e.Subject)
	}
	var d RegionData
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return RegionTransition{}, fmt.Errorf("read region event %s: %w", e.ID, err)
	}
	return RegionTransition{ID: e.ID, Region: name, Impaired: d.Impaired, Cause: d.Cause, Code: e.Code, Message: e.Message, At: e.Time, Since: d.Since}, nil
}

// AdoptRegion takes what another server, or the process before this one, said
// about a region, in any order and as often as it comes: it is not said twice.
// It reports whether that was news.
func (e *Engine) AdoptRegion(t RegionTransition) bool {
	e.placeMu.Lock()
	defer e.placeMu.Unlock()
	p := e.places[t.Region]
	if p == nil {
		if len(e.places) >= 10_000 {
			return false
		}
		p = &place{since: time.Now()}
		e.places[t.Region] = p
	}
	at := stamp{t.At, t.ID}
	if !p.last.before(at) {
		return false
	}
	news := p.told != t.Impaired
	p.told, p.last = t.Impaired, at
	if t.Impaired != p.impaired {
		p.heard = time.Now() // two sides of a split that has healed come together first
	}
	return news
}
