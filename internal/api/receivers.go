package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"panoptes/internal/model"
)

type testAnswer struct {
	OK       bool    `json:"ok"`
	Message  string  `json:"message"`
	Duration float64 `json:"duration_seconds"`
}

const receiverTimeout = 30 * time.Second

func (a *API) receiverTypes(*http.Request) (any, error) {
	if a.deps.Receivers == nil {
		return nil, missing("receivers")
	}
	return a.deps.Receivers.Types(), nil
}

func (a *API) testReceiver(r *http.Request) (any, error) {
	spec, err := a.revealed(r, model.KindReceiver)
	if err != nil {
		return nil, err
	}
	var rc model.Receiver
	if err := json.Unmarshal(spec, &rc); err != nil {
		return nil, model.DecodeError(err)
	}
	if rc.Name == "" {
		rc.Name = "test"
	}
	return a.tryReceiver(r, rc)
}

func (a *API) testStoredReceiver(r *http.Request) (any, error) {
	rec, err := a.deps.Catalog.Get(model.KindReceiver, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	rc := model.Receiver{ID: rec.ID, Revision: rec.Revision}
	if err := json.Unmarshal(rec.Spec, &rc); err != nil {
		return nil, fmt.Errorf("read receiver %s: %w", rec.ID, err)
	}
	return a.tryReceiver(r, rc)
}

// tryReceiver sends a test message. That it did not arrive is an answer, not
// an error; a receiver that is wrong in itself is one.
func (a *API) tryReceiver(r *http.Request, rc model.Receiver) (any, error) {
	if a.deps.Receivers == nil {
		return nil, missing("receivers")
	}
	ctx, cancel := context.WithTimeout(r.Context(), receiverTimeout)
	defer cancel()
	begun := time.Now()
	err := a.deps.Receivers.TestReceiver(ctx, rc)
	out := testAnswer{OK: err == nil, Message: "delivered", Duration: time.Since(begun).Seconds()}
	if err != nil {
		if status, _ := describe(err); status == http.StatusBadRequest {
			return nil, err
		}
		out.Message = err.Error()
	}
	return out, nil
}
