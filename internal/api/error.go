package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"panoptes/internal/model"
)

// errorBody is the JSON of every error.
type errorBody struct {
	Error errorInfo `json:"error"`
}

type errorInfo struct {
	Code    string       `json:"code"`
	Message string       `json:"message"`
	Field   string       `json:"field,omitempty"`
	Fields  []fieldFault `json:"fields,omitempty"`
}

type fieldFault struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// The kinds of error, first match wins: a sentinel may wrap a FieldError.
var errorKinds = []struct {
	err    error
	status int
	code   string
}{
	{model.ErrUnauthorized, http.StatusUnauthorized, "unauthorized"},
	{model.ErrForbidden, http.StatusForbidden, "forbidden"},
	{model.ErrNotFound, http.StatusNotFound, "not_found"},
	{model.ErrConflict, http.StatusConflict, "conflict"},
	{model.ErrRevision, http.StatusPreconditionFailed, "revision"},
	{model.ErrTooLarge, http.StatusRequestEntityTooLarge, "too_large"},
	{model.ErrUnavailable, http.StatusServiceUnavailable, "unavailable"},
	{model.ErrNoSpace, http.StatusInsufficientStorage, "no_space"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "unavailable"},
}

// retryAfter is an error that knows when to try again.
type retryAfter interface{ RetryAfter() time.Duration }

// limited is a model.ErrLimit with the time after which it holds no more.
type limited struct {
	msg   string
	after time.Duration
}

func (e *limited) Error() string             { return e.msg }
func (e *limited) Unwrap() error             { return model.ErrLimit }
func (e *limited) RetryAfter() time.Duration { return e.after }

// describe maps an error to a status and a body. Internal errors are not told.
func describe(err error) (int, errorInfo) {
	var tooBig *http.MaxBytesError
	if errors.As(err, &tooBig) {
		return http.StatusRequestEntityTooLarge, errorInfo{Code: "too_large", Message: fmt.Sprintf("the body is larger than %d bytes", tooBig.Limit)}
	}
	info := errorInfo{Message: err.Error()}
	var inv model.Invalid
	var fe *model.FieldError
	switch {
	case errors.As(err, &inv):
	case errors.As(err, &fe):
		inv = model.Invalid{fe}
	}
	for _, f := range inv {
		if f.Field != "" {
			info.Fields = append(info.Fields, fieldFault{f.Field, f.Msg})
		}
	}
	if len(info.Fields) > 0 {
		info.Field = info.Fields[0].Field
	}
	for _, k := range errorKinds {
		if errors.Is(err, k.err) {
			info.Code = k.code
			return k.status, info
		}
	}
	if errors.Is(err, model.ErrLimit) {
		info.Code = "limit"
		var ra retryAfter
		if errors.As(err, &ra) {
			return http.StatusTooManyRequests, info
		}
		return http.StatusUnprocessableEntity, info
	}
	if inv != nil {
		info.Code = "invalid"
		return http.StatusBadRequest, info
	}
	return http.StatusInternalServerError, errorInfo{Code: "internal", Message: "an internal error; the server's log tells more"}
}

// fail answers with an error.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return // nobody listens any more
	}
	status, info := describe(err)
	if status == http.StatusInternalServerError {
		a.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	var ra retryAfter
	switch {
	case errors.As(err, &ra):
		w.Header().Set("Retry-After", seconds(ra.RetryAfter()))
	case status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "2")
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="panoptes"`)
	}
	writeJSON(w, r, status, errorBody{info})
}

// missing is the error of a part that this process does not have.
func missing(part string) error {
	return fmt.Errorf("%w: this server has no %s", model.ErrUnavailable, part)
}

func invalid(field, format string, args ...any) error {
	return model.Invalid{{Field: field, Msg: fmt.Sprintf(format, args...)}}
}

// seconds rounds up, as Retry-After wants it.
func seconds(d time.Duration) string { return strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))) }
