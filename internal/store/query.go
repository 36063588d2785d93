package store

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/storage"
)

// Querier reads floats and histograms between two times, in milliseconds. It
// keeps the database from being closed until it is closed itself. The error
// is model.ErrUnavailable while there is no open database.
func (s *Store) Querier(mint, maxt int64) (storage.Querier, error) {
	h, err := s.acquireRead()
	if err != nil {
		return nil, err
	}
	q, err := h.db.Querier(mint, maxt)
	if err != nil {
		s.release(h)
		return nil, err
	}
	return &querier{Querier: q, release: sync.OnceFunc(func() { s.release(h) })}, nil
}

// ChunkQuerier is Querier for encoded chunks.
func (s *Store) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	h, err := s.acquireRead()
	if err != nil {
		return nil, err
	}
	q, err := h.db.ChunkQuerier(mint, maxt)
	if err != nil {
		s.release(h)
		return nil, err
	}
	return &chunkQuerier{ChunkQuerier: q, release: sync.OnceFunc(func() { s.release(h) })}, nil
}

// ExemplarQuerier reads exemplars, which are kept in memory only.
func (s *Store) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	h, err := s.acquireRead()
	if err != nil {
		return nil, err
	}
	defer s.release(h)
	return h.db.ExemplarQuerier(ctx)
}

type querier struct {
	storage.Querier
	release func()
}

func (q *querier) Close() error {
	defer q.release()
	return q.Querier.Close()
}

type chunkQuerier struct {
	storage.ChunkQuerier
	release func()
}

func (q *chunkQuerier) Close() error {
	defer q.release()
	return q.ChunkQuerier.Close()
}
