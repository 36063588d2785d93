package alert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"panoptes/internal/model"
)

// Silence mutes the alerts that fit all its matchers from StartsAt to EndsAt.
type Silence struct {
	ID        string    `json:"id"`
	Matchers  []string  `json:"matchers"` // Alertmanager's syntax: check="shop"
	StartsAt  time.Time `json:"starts_at"`
	EndsAt    time.Time `json:"ends_at"`
	CreatedBy string    `json:"created_by"`
	Comment   string    `json:"comment"`
	Status    string    `json:"status"` // active, pending, expired; read only
}

// Silences lists the silences, active ones first, then the ones that end last.
func (a *Alerting) Silences(ctx context.Context) ([]Silence, error) {
	list, _, err := a.silences.Query(ctx)
	if err != nil {
		return nil, fmt.Errorf("list silences: %w", err)
	}
	out := make([]Silence, 0, len(list))
	for _, s := range list {
		out = append(out, fromProto(s))
	}
	order := []string{"active", "pending", "expired"}
	slices.SortFunc(out, func(x, y Silence) int {
		if c := slices.Index(order, x.Status) - slices.Index(order, y.Status); c != 0 {
			return c
		}
		if c := y.EndsAt.Compare(x.EndsAt); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return out, nil
}

// Silence returns one silence, or model.ErrNotFound.
func (a *Alerting) Silence(ctx context.Context, id string) (Silence, error) {
	s, err := a.silences.QueryOne(ctx, silence.QIDs(id))
	if err != nil {
		return Silence{}, silenceError(id, err)
	}
	return fromProto(s), nil
}

// SetSilence creates a silence, or changes the one with its ID. What may not be
// changed any more makes a new silence with a new ID in place of the old one. It
// is on disk when SetSilence returns.
func (a *Alerting) SetSilence(ctx context.Context, s Silence) (Silence, error) {
	now := time.Now()
	if s.StartsAt.IsZero() {
		s.StartsAt = now
	}
	ms, err := checkSilence(s, now)
	if err != nil {
		return Silence{}, err
	}
	set := &silencepb.MatcherSet{}
	for _, m := range ms {
		set.Matchers = append(set.Matchers, &silencepb.Matcher{Name: m.Name, Pattern: m.Value, Type: protoType(m.Type)})
	}
	p := &silencepb.Silence{
		Id: s.ID, MatcherSets: []*silencepb.MatcherSet{set}, StartsAt: timestamppb.New(s.StartsAt), EndsAt: timestamppb.New(s.EndsAt),
		CreatedBy: s.CreatedBy, Comment: s.Comment, Annotations: map[string]string{},
	}
	if err := a.silences.Set(ctx, p); err != nil {
		return Silence{}, silenceError(s.ID, err)
	}
	return a.Silence(ctx, p.Id)
}

func checkSilence(s Silence, now time.Time) ([]*labels.Matcher, error) {
	var inv model.Invalid
	ms := parseMatchers(s.Matchers, "matchers", &inv)
	switch {
	case len(s.Matchers) == 0:
		inv.Add("matchers", "must be given, for example [\"check=\\\"shop\\\"\"]")
	case len(inv) == 0 && !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches("") }):
		inv.Add("matchers", "they would mute everything; at least one must ask for a value")
	}
	if s.EndsAt.IsZero() {
		inv.Add("ends_at", "must be given")
	} else if !s.EndsAt.After(now) || !s.EndsAt.After(s.StartsAt) {
		inv.Add("ends_at", "must lie in the future and after starts_at")
	}
	if strings.TrimSpace(s.Comment) == "" {
		inv.Add("comment", "must be given: why the alerts are muted")
	}
	if strings.TrimSpace(s.CreatedBy) == "" {
		inv.Add("created_by", "must be given")
	}
	if len(s.Comment) > 4096 {
		inv.Add("comment", "is longer than 4096 bytes")
	}
	return ms, inv.Err()
}

// ExpireSilence ends a silence now. One that has ended already stays as it is.
func (a *Alerting) ExpireSilence(ctx context.Context, id string) error {
	if s, err := a.Silence(ctx, id); err != nil || s.Status == "expired" {
		return err
	}
	if err := a.silences.Expire(ctx, id); err != nil {
		return silenceError(id, err)
	}
	return nil
}

// PreviewSilence lists the active alerts that a silence with these matchers
// would mute.
func (a *Alerting) PreviewSilence(ctx context.Context, matchers []string) ([]Status, error) {
	if len(matchers) == 0 {
		return nil, model.Invalid{{Field: "matchers", Msg: "must be given"}}
	}
	return a.Alerts(ctx, matchers...)
}

func silenceError(id string, err error) error {
	switch {
	case errors.Is(err, silence.ErrNotFound):
		return fmt.Errorf("silence %q: %w", id, model.ErrNotFound)
	case strings.Contains(err.Error(), "invalid silence"):
		return model.Invalid{{Msg: err.Error()}}
	case strings.Contains(err.Error(), "exceeded maximum"):
		return fmt.Errorf("%w: %w", model.ErrLimit, err)
	}
	return fmt.Errorf("silence %q: %w", id, err)
}

func protoType(t labels.MatchType) silencepb.Matcher_Type {
	switch t {
	case labels.MatchNotEqual:
		return silencepb.Matcher_NOT_EQUAL
	case labels.MatchRegexp:
		return silencepb.Matcher_REGEXP
	case labels.MatchNotRegexp:
		return silencepb.Matcher_NOT_REGEXP
	}
	return silencepb.Matcher_EQUAL
}

func fromProto(p *silencepb.Silence) Silence {
	s := Silence{
		ID: p.Id, StartsAt: p.StartsAt.AsTime(), EndsAt: p.EndsAt.AsTime(), CreatedBy: p.CreatedBy, Comment: p.Comment,
		Status: string(silence.CurrentState(p.StartsAt.AsTime(), p.EndsAt.AsTime())), Matchers: []string{},
	}
	for _, set := range p.MatcherSets {
		for _, m := range set.Matchers {
			op := map[silencepb.Matcher_Type]labels.MatchType{
				silencepb.Matcher_NOT_EQUAL: labels.MatchNotEqual, silencepb.Matcher_REGEXP: labels.MatchRegexp, silencepb.Matcher_NOT_REGEXP: labels.MatchNotRegexp,
			}[m.Type]
			s.Matchers = append(s.Matchers, (&labels.Matcher{Type: op, Name: m.Name, Value: m.Pattern}).String())
		}
	}
	return s
}
