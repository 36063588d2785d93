package model

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of error that a caller may tell apart with errors.Is. All other
// errors are internal: logged, never shown to strangers.
var (
	ErrNotFound     = errors.New("not found")            // 404
	ErrConflict     = errors.New("conflict")             // 409: the name is taken, or something still refers to it
	ErrRevision     = errors.New("revision changed")     // 412: somebody else wrote first
	ErrUnauthorized = errors.New("not authenticated")    // 401
	ErrForbidden    = errors.New("not allowed")          // 403
	ErrUnavailable  = errors.New("unavailable")          // 503: no quorum, starting, shutting down
	ErrNoSpace      = errors.New("insufficient storage") // 507: the disk is full
	ErrLimit        = errors.New("limit exceeded")       // 429, or 422 for one object or query
	ErrTooLarge     = errors.New("too large")            // 413
)

// FieldError says which field of a record, request or file is wrong and what
// would be right.
type FieldError struct {
	Field string // dotted path as it is written: "http.expect_status[0]"
	Msg   string // what is wrong and the remedy
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Msg
	}
	return e.Field + ": " + e.Msg
}

// Invalid collects the faults of one object. It is answered with 400.
type Invalid []*FieldError

func (e Invalid) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Error()
	}
	return strings.Join(parts, "; ")
}

// Add notes a fault of a field.
func (e *Invalid) Add(field, format string, args ...any) {
	*e = append(*e, &FieldError{Field: field, Msg: fmt.Sprintf(format, args...)})
}

// AddErr takes over err: the fields of an Invalid or FieldError get prefix in
// front, any other error becomes the message of prefix. A nil err adds nothing.
func (e *Invalid) AddErr(prefix string, err error) {
	var inv Invalid
	var fe *FieldError
	switch {
	case err == nil:
	case errors.As(err, &inv):
		for _, f := range inv {
			e.Add(join(prefix, f.Field), "%s", f.Msg)
		}
	case errors.As(err, &fe):
		e.Add(join(prefix, fe.Field), "%s", fe.Msg)
	default:
		e.Add(prefix, "%s", err)
	}
}

// Err returns e as an error, nil when nothing was added.
func (e Invalid) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

func join(prefix, field string) string {
	switch {
	case prefix == "":
		return field
	case field == "" || strings.HasPrefix(field, "["):
		return prefix + field
	}
	return prefix + "." + field
}
