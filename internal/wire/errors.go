package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"panoptes/internal/model"
)

// Our errors travel as codes above gRPC's own, so that what the transport says
// is never taken for what a handler said.
const (
	codeInternal codes.Code = 100 + iota
	codeInvalid             // message: JSON of the faults
	codeNotFound
	codeConflict
	codeRevision
	codeUnauthorized
	codeForbidden
	codeUnavailable
	codeNoSpace
	codeLimit
	codeTooLarge
)

// maxErrorText bounds the message of an error on its way: it is a header.
const maxErrorText = 4 << 10

var sentinels = []struct {
	code codes.Code
	name string
	err  error
}{
	{codeNotFound, "not_found", model.ErrNotFound},
	{codeConflict, "conflict", model.ErrConflict},
	{codeRevision, "revision", model.ErrRevision},
	{codeUnauthorized, "unauthorized", model.ErrUnauthorized},
	{codeForbidden, "forbidden", model.ErrForbidden},
	{codeUnavailable, "unavailable", model.ErrUnavailable},
	{codeNoSpace, "no_space", model.ErrNoSpace},
	{codeLimit, "limit", model.ErrLimit},
	{codeTooLarge, "too_large", model.ErrTooLarge},
}

// toStatus turns the error of a handler into what is sent. Internal errors go
// out with their text only to nodes of ours.
func toStatus(err error, known bool) error {
	if err == nil {
		return nil
	}
	var inv model.Invalid
	var fe *model.FieldError
	if errors.As(err, &inv) || errors.As(err, &fe) {
		if inv == nil {
			inv = model.Invalid{fe}
		}
		return status.Error(codeInvalid, encodeInvalid(inv))
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return status.Error(s.code, clip(err.Error()))
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.Error(codeUnavailable, clip(err.Error()))
	case known:
		return status.Error(codeInternal, clip(err.Error()))
	}
	return status.Error(codeInternal, "internal error")
}

func encodeInvalid(inv model.Invalid) string {
	inv = inv[:min(len(inv), 64)]
	b, err := json.Marshal(inv)
	for len(inv) > 1 && len(b) > maxErrorText {
		inv = inv[:len(inv)/2]
		b, err = json.Marshal(inv)
	}
	if err != nil || len(b) > maxErrorText {
		b, _ = json.Marshal(model.Invalid{{Field: cut(inv[0].Field, 200), Msg: cut(inv[0].Msg, 1000)}})
	}
	return string(b)
}

// remoteError is an error that another process answered with.
type remoteError struct {
	text string
	kind []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.kind }

// fromStatus turns what came back into an error of ours. ctx is the caller's.
func fromStatus(ctx context.Context, method, addr string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return fmt.Errorf("%s at %s: %w", method, addr, err)
	}
	text := s.Message()
	if s.Code() == codeInvalid {
		var inv model.Invalid
		if json.Unmarshal([]byte(text), &inv) != nil || len(inv) == 0 {
			inv = model.Invalid{{Msg: clip(text)}}
		}
		return withoutNil(inv)
	}
	for _, k := range sentinels {
		if s.Code() == k.code {
			return &remoteError{text: text, kind: []error{k.err}}
		}
	}
	at := fmt.Sprintf("%s at %s: ", method, addr)
	switch s.Code() {
	case codes.Canceled:
		if cause := ctx.Err(); cause != nil {
			return &remoteError{text: at + cause.Error(), kind: []error{cause}}
		}
		return &remoteError{text: at + "connection ended: " + text, kind: []error{model.ErrUnavailable}}
	case codes.DeadlineExceeded:
		return &remoteError{text: at + "no answer in time", kind: []error{model.ErrUnavailable, context.DeadlineExceeded}}
	case codes.Unavailable:
		return &remoteError{text: at + "unavailable: " + clip(text), kind: []error{model.ErrUnavailable}}
	case codes.Unimplemented:
		return &remoteError{text: at + "unavailable: the other side does not know this method; is it older?", kind: []error{model.ErrUnavailable}}
	case codes.ResourceExhausted:
		return &remoteError{text: at + "too large: " + clip(text), kind: []error{model.ErrTooLarge}}
	}
	return &remoteError{text: at + clip(text)}
}

// withoutNil drops what a hostile answer may have put between the faults.
func withoutNil(inv model.Invalid) error {
	out := inv[:0]
	for _, f := range inv {
		if f != nil {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return model.Invalid{{Msg: "refused without a reason"}}
	}
	return out
}

// kind names err for metrics.
func kind(err error) string {
	if err == nil || err == io.EOF {
		return "ok"
	}
	var inv model.Invalid
	var fe *model.FieldError
	if errors.As(err, &inv) || errors.As(err, &fe) {
		return "invalid"
	}
	for _, s := range sentinels {
		if errors.Is(err, s.err) {
			return s.name
		}
	}
	if errors.Is(err, context.Canceled) {
		return "canceled"
	}
	return "internal"
}

// clip cuts text to what fits into a header.
func clip(text string) string { return cut(text, maxErrorText) }

func cut(text string, n int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}
