package history

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Bounds of a question.
const (
	defaultLimit = 100
	maxLimit     = 1000
	maxText      = 512
	maxWords     = 16
	maxKinds     = 16
)

const columns = "id, ms, ns, kind, subject, name, severity, actor, message, code, labels, data"

// Query returns the events that match, newest first (by time to the
// millisecond, then by ULID), and the cursor of the next page, empty when this
// was the last one. A page does not shift when new events arrive. A question
// that cannot be answered is a model.Invalid.
func (h *History) Query(ctx context.Context, q model.EventQuery) (events []model.Event, next string, err error) {
	if q.Limit == 0 {
		q.Limit = defaultLimit
	}
	var pos *position
	words := strings.Fields(strings.ToLower(q.Text))
	var inv model.Invalid
	if q.Limit < 1 || q.Limit > maxLimit {
		inv.Add("limit", "must lie between 1 and %d", maxLimit)
	}
	if len(q.Text) > maxText || len(words) > maxWords {
		inv.Add("q", "has up to %d bytes and %d words", maxText, maxWords)
	}
	kinds := slices.Compact(slices.Sorted(slices.Values(q.Kinds)))
	if len(kinds) > maxKinds {
		inv.Add("kind", "up to %d kinds can be asked for", maxKinds)
	}
	if q.Cursor != "" {
		p, err := decodeCursor(q.Cursor)
		inv.AddErr("cursor", err)
		pos = &p
	}
	if err := inv.Err(); err != nil {
		return nil, "", err
	}
	text, args := selectEvents(q, kinds, words, pos, q.Limit+1)
	events, err = h.rows(ctx, text, args...)
	if err != nil {
		return nil, "", err
	}
	if len(events) > q.Limit {
		events = events[:q.Limit]
		e := events[q.Limit-1]
		next = encodeCursor(position{ms: e.Time.UnixMilli(), id: e.ID})
	}
	return events, next, nil
}

// selectEvents builds the statement. Every branch walks one index in the order
// of the answer and stops at the limit, so no question sorts the whole table.
func selectEvents(q model.EventQuery, kinds []model.EventKind, words []string, pos *position, limit int) (string, []any) {
	var where []string
	var args []any
	add := func(cond string, values ...any) {
		where = append(where, cond)
		args = append(args, values...)
	}
	exact := q.Subject != "" && !strings.HasSuffix(q.Subject, "/")
	switch {
	case exact:
		add("subject = ?", q.Subject)
		if len(kinds) > 0 {
			values := make([]any, len(kinds))
			for i, k := range kinds {
				values[i] = string(k)
			}
			// The + keeps the planner from choosing the index of kinds.
			add("+kind IN (?"+strings.Repeat(",?", len(kinds)-1)+")", values...)
		}
	case q.Subject != "":
		add("+subject >= ? AND +subject < ?", q.Subject, q.Subject[:len(q.Subject)-1]+"0") // '0' follows '/'
	}
	if q.Severity != "" {
		add("severity = ?", q.Severity)
	}
	if !q.From.IsZero() {
		ms, ns := split(q.From)
		add("ms >= ? AND (ms > ? OR ns >= ?)", ms, ms, ns)
	}
	if !q.To.IsZero() {
		ms, ns := split(q.To)
		add("ms <= ? AND (ms < ? OR ns < ?)", ms, ms, ns)
	}
	if pos != nil {
		add("(ms, id) < (?, ?)", pos.ms, pos.id)
	}
	for _, w := range words {
		add("instr(search, ?) > 0", w)
	}
	const order = " ORDER BY ms DESC, id DESC LIMIT ?"
	branch := func(conds []string) string {
		s := "SELECT " + columns + " FROM events"
		if len(conds) > 0 {
			s += " WHERE " + strings.Join(conds, " AND ")
		}
		return s + order
	}
	if exact || len(kinds) == 0 {
		return branch(where), append(args, limit)
	}
	var branches []string
	var all []any
	for _, k := range kinds {
		branches = append(branches, "SELECT * FROM ("+branch(append([]string{"kind = ?"}, where...))+")")
		all = append(append(append(all, string(k)), args...), limit)
	}
	return strings.Join(branches, " UNION ALL ") + order, append(all, limit)
}

// Transitions returns the state events of subject from the given time on,
// oldest first, preceded by the last one before, which tells the state at from.
func (h *History) Transitions(ctx context.Context, subject string, from time.Time) ([]model.Event, error) {
	ms, ns := split(from)
	before, err := h.rows(ctx, "SELECT "+columns+` FROM events WHERE subject = ? AND +kind = 'state' AND ms <= ? AND (ms < ? OR ns < ?)
		ORDER BY ms DESC, id DESC LIMIT 1`, subject, ms, ms, ns)
	if err != nil {
		return nil, err
	}
	after, err := h.rows(ctx, "SELECT "+columns+` FROM events WHERE subject = ? AND +kind = 'state' AND ms >= ? AND (ms > ? OR ns >= ?)
		ORDER BY ms, id`, subject, ms, ms, ns)
	if err != nil {
		return nil, err
	}
	return append(before, after...), nil
}

// Last returns the newest event of a kind about a subject; false when there is none.
func (h *History) Last(ctx context.Context, kind model.EventKind, subject string) (model.Event, bool, error) {
	events, err := h.rows(ctx, "SELECT "+columns+` FROM events WHERE subject = ? AND +kind = ?
		ORDER BY ms DESC, id DESC LIMIT 1`, subject, string(kind))
	if err != nil || len(events) == 0 {
		return model.Event{}, false, err
	}
	return events[0], true, nil
}

// LastStates returns the newest state event of every subject, by subject.
func (h *History) LastStates(ctx context.Context) (map[string]model.Event, error) {
	events, err := h.rows(ctx, "SELECT "+columns+" FROM events WHERE id IN (SELECT id FROM last_states)")
	if err != nil {
		return nil, err
	}
	out := make(map[string]model.Event, len(events))
	for _, e := range events {
		out[e.Subject] = e
	}
	return out, nil
}

func (h *History) rows(ctx context.Context, text string, args ...any) (events []model.Event, err error) {
	// An interrupted statement names the engine's reason; the caller wants its own.
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	rows, err := h.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, h.fail("query events", err)
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scan(rows)
		if err != nil {
			return nil, h.fail("query events", err)
		}
		events = append(events, e)
	}
	return events, h.fail("query events", rows.Err())
}

func scan(rows *sql.Rows) (e model.Event, err error) {
	var ms, ns int64
	var labels, data string
	if err := rows.Scan(&e.ID, &ms, &ns, &e.Kind, &e.Subject, &e.Name, &e.Severity, &e.Actor, &e.Message, &e.Code, &labels, &data); err != nil {
		return e, err
	}
	e.Time = joinTime(ms, ns)
	if labels != "" {
		if err := json.Unmarshal([]byte(labels), &e.Labels); err != nil {
			return e, err
		}
	}
	if data != "" {
		e.Data = json.RawMessage(data)
	}
	return e, nil
}
