package notify

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/smtp"
	"strings"
	"sync"
	"time"
)

// A server may refuse some recipients of a mail: the others have it all the
// same. One that is refused for good is told of with the delivery. One that is
// refused for now is tried again, alone, as the others have the mail.

const (
	refusedFor = time.Hour // so long somebody who is refused for now is tried again
	maxServed  = 1000      // mails of which it is remembered who has them
)

// served remembers who has mails that somebody else is yet to get.
type served struct {
	mu sync.Mutex // guards m
	m  map[string]*servedMail
}

type servedMail struct {
	since time.Time
	has   map[string]bool // addresses
}

// left returns who of to does not have the mail of that id.
func (s *served) left(id string, to []*mail.Address) (out []*mail.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.m[id]
	for _, a := range to {
		if got == nil || !got.has[a.Address] {
			out = append(out, a)
		}
	}
	return out
}

// note keeps who has the mail while others are to get it, and reports whether
// these are worth another attempt.
func (s *served) note(id string, has []string, more bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.m[id]
	if !more || id == "" || got != nil && time.Since(got.since) >= refusedFor {
		delete(s.m, id)
		return false
	}
	if got == nil {
		for k, g := range s.m {
			if time.Since(g.since) >= 2*refusedFor {
				delete(s.m, k)
			}
		}
		if len(s.m) >= maxServed || s.m == nil {
			s.m = map[string]*servedMail{}
		}
		got = &servedMail{since: time.Now(), has: map[string]bool{}}
		s.m[id] = got
	}
	for _, a := range has {
		got.has[a] = true
	}
	return true
}

// recipients names to whom the mail goes. later says that some of those who are
// refused may be taken another time.
func recipients(c *smtp.Client, to []*mail.Address) (taken []string, refused []error, later bool) {
	for _, a := range to {
		if err := c.Rcpt(a.Address); err != nil {
			refused = append(refused, fmt.Errorf("recipient %s: %w", a.Address, err))
			later = later || retryable(err)
			continue
		}
		taken = append(taken, a.Address)
	}
	return taken, refused, later
}

func oneLine(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	texts := make([]string, len(errs))
	for i, e := range errs {
		texts[i] = e.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

type partKey struct{}

// partly is where a sender leaves what could not be delivered of a message that
// others got.
func partly(ctx context.Context) (context.Context, *error) {
	if p, ok := ctx.Value(partKey{}).(*error); ok {
		return ctx, p
	}
	p := new(error)
	return context.WithValue(ctx, partKey{}, p), p
}
