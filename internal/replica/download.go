package replica

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// errTransit says that a file did not arrive as it was sent.
var errTransit = errors.New("a file was damaged on the way")

// recentPrefix begins the directories of blocks that cannot be resumed; the
// store removes them when it is opened.
const recentPrefix = "tmp-copy-"

// fetch receives a block into dir, going on where an earlier attempt ended.
func (r *Replica) fetch(ctx context.Context, conn wire.Conn, id, dir string) (b model.Block, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	have, err := parts(dir)
	if err != nil {
		return b, err
	}
	s, err := open(ctx, conn, methodBlock, blockRequest{ID: id, Have: have})
	if err != nil {
		return b, err
	}
	m, err := s.Recv()
	if err != nil {
		return b, unexpectedEnd(err)
	}
	if b, err = decodeHead(m); err != nil {
		return b, err
	}
	if b.ID != id {
		return b, fmt.Errorf("%w: another block", errProtocol)
	}
	return b, r.receive(ctx, s, b, dir)
}

// open begins a stream with a request; nothing more is sent on it.
func open(ctx context.Context, conn wire.Conn, method string, req any) (wire.ClientStream, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	s, err := conn.Open(ctx, method)
	if err != nil {
		return nil, err
	}
	if err := s.Send(b); err != nil && !errors.Is(err, io.EOF) { // Recv tells why it ended
		return nil, err
	}
	return s, s.CloseSend()
}

// unexpectedEnd makes the end of a stream an error.
func unexpectedEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ended too early", errProtocol)
	}
	return err
}

// parts returns the files below dir and their sizes.
func parts(dir string) (map[string]int64, error) {
	out := make(map[string]int64)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = fi.Size()
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return out, err
}

// receive writes the files of a block below dir.
func (r *Replica) receive(ctx context.Context, s wire.Stream, b model.Block, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "chunks"), 0o750); err != nil {
		return err
	}
	for _, f := range b.Files {
		if err := r.receiveFile(ctx, s, f, filepath.Join(dir, filepath.FromSlash(f.Name))); err != nil {
			return fmt.Errorf("copy %s of block %s: %w", f.Name, b.ID, err)
		}
	}
	return nil
}

func (r *Replica) receiveFile(ctx context.Context, s wire.Stream, f model.BlockFile, path string) (err error) {
	w, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, w.Close())
		if errors.Is(err, errTransit) || errors.Is(err, errProtocol) {
			err = errors.Join(err, os.Remove(path)) // what is wrong must not be gone on with
		}
	}()
	sum := sha256.New()
	at, err := prefix(w, f.Size, sum)
	if err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return unexpectedEnd(err)
		}
		if len(m) == 1+sha256.Size && m[0] == pieceEnd {
			if at != f.Size || !bytes.Equal(m[1:], sum.Sum(nil)) {
				return errTransit
			}
			return nil
		}
		place, data, err := decodeData(m)
		if err != nil {
			return err
		}
		if place != at || at+int64(len(data)) > f.Size || len(data) == 0 {
			return fmt.Errorf("%w: a piece at %d, expected %d", errProtocol, place, at)
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		sum.Write(data)
		at += int64(len(data))
		r.m.received.Add(float64(len(data)))
		r.update(func(s *Status) { s.Done += int64(len(data)) })
		if err := r.wait(ctx, r.in, len(data)); err != nil {
			return err
		}
	}
}

// prefix reads what an earlier attempt left of a file; too much begins anew.
func prefix(w *os.File, size int64, sum hash.Hash) (int64, error) {
	fi, err := w.Stat()
	if err != nil {
		return 0, err
	}
	if fi.Size() > size {
		return 0, w.Truncate(0)
	}
	return io.Copy(sum, w)
}

// fetchRecent imports blocks of what the source has in memory.
func (r *Replica) fetchRecent(ctx context.Context, conn wire.Conn, n Need) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := r.deps.Store.Incoming()
	if err != nil {
		return err
	}
	s, err := open(ctx, conn, methodRecent, recentRequest{From: n.From, To: endOf(n.To)})
	if err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := decodeHead(m)
		if err != nil {
			return err
		}
		r.update(func(s *Status) { s.Total += b.Bytes })
		dir := filepath.Join(in, recentPrefix+b.ID)
		err = r.receive(ctx, s, b, dir)
		if err == nil {
			_, err = r.deps.Store.Import(ctx, dir, b)
		}
		if err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
		r.m.blocks.Inc()
	}
}

// endOf is the end of a need as a time that the store understands.
func endOf(ms int64) int64 {
	if ms == 0 {
		return 1<<62 - 1
	}
	return ms
}

// sweep removes what earlier copies left and nothing will go on with.
func (r *Replica) sweep() error {
	in, err := r.deps.Store.Incoming()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(in)
	for _, e := range entries {
		if blockID(e.Name()) || strings.HasPrefix(e.Name(), recentPrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(in, e.Name())))
		}
	}
	return err
}
