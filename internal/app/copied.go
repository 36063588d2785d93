package app

import (
	"context"

	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// copies is the history as it is filled from those of other servers. Nobody is
// told of what happened long ago, but what is known of checks may end otherwise
// after it.
type copies struct {
	*history.History
	told func(events []model.Event)
}

// Import stores events as the history does.
func (c copies) Import(ctx context.Context, events ...model.Event) (added int, err error) {
	added, err = c.History.Import(ctx, events...)
	if added > 0 {
		c.told(events)
	}
	return added, err
}

// copied has checks looked at again when states of them were copied.
func (a *App) copied(events []model.Event) {
	var list []verdict.Transition
	for _, e := range events {
		if e.Kind != model.EventState {
			continue
		}
		if t, err := verdict.FromEvent(e); err == nil {
			t.Regions, t.Evidence = nil, nil
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return
	}
	a.checks.forget(list)
	a.bridge.takeCopied(list, a.copiesEvents)
}

// copiesEvents reports whether events are still to be copied from another server.
func (a *App) copiesEvents() bool {
	for _, n := range a.replica.Status().Needs {
		if n.Events && !n.EventsDone {
			return true
		}
	}
	return false
}
