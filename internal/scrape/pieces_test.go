package scrape

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/stretchr/testify/require"
)

// told is a mechanism that says what a test gives it.
type told chan []*targetgroup.Group

func (m told) Run(ctx context.Context, up chan<- []*targetgroup.Group) {
	for {
		select {
		case <-ctx.Done():
			return
		case list := <-m:
			up <- list
		}
	}
}

// TestMechanismsThatTellPieces reaches inside: what they wait for takes minutes.
func TestMechanismsThatTellPieces(t *testing.T) {
	one := []*targetgroup.Group{{Source: "a"}}
	for _, c := range []struct {
		name, mechanism string
		pieces          []time.Duration // before each piece
		list            []*targetgroup.Group
		marked          time.Duration // after the start; 0: never
	}{
		{"all at once", "http", []time.Duration{time.Second}, one, time.Second},
		{"an empty list", "http", []time.Duration{time.Second}, nil, time.Second},
		{"no answer", "http", nil, nil, 0},
		{"no name is resolved", "dns", []time.Duration{time.Second}, nil, 0},
		{"pieces", "kubernetes", []time.Duration{time.Second, time.Second, time.Second}, one, 3*time.Second + settlePieces},
		{"pieces without end", "file", make([]time.Duration, 3600), one, time.Second + mostPieces},
		{"nothing to say", "kubernetes", nil, nil, silentPieces},
		{"it would say so", "consul", nil, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				m, up, start := make(told), make(chan []*targetgroup.Group), time.Now()
				go (&answering{m, c.mechanism}).Run(ctx, up)
				go func() {
					for _, wait := range c.pieces {
						select {
						case <-time.After(max(wait, time.Second)):
						case <-ctx.Done():
							return
						}
						select {
						case m <- c.list:
						case <-ctx.Done():
							return
						}
					}
				}()
				var marked time.Duration
				marks, end := 0, time.After(30*time.Minute)
				for done := false; !done; {
					select {
					case list := <-up:
						for _, g := range list {
							if g.Source == answeredSource {
								marked = time.Since(start)
								marks++
							}
						}
					case <-end:
						done = true
					}
				}
				require.Equal(t, c.marked, marked)
				require.Equal(t, c.marked != 0, marks == 1)
				cancel()
				synctest.Wait()
			})
		})
	}
}
