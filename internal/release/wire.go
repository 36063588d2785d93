package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/manifest"
	"panoptes/internal/wire/uplink"
)

// Register serves agents that update themselves, over the connections that they
// have anyway.
func (r *Release) Register(s *wire.Server) {
	agents := []model.NodeRole{model.RoleAgent}
	s.Handle(uplink.MethodUpdateManifest, agents, func(context.Context, model.Peer, []byte) ([]byte, error) {
		_, text, sig, err := r.Signed()
		if err != nil {
			return nil, err
		}
		return json.Marshal(uplink.UpdateManifest{Manifest: text, Signature: sig})
	})
	s.Handle(uplink.MethodUpdateRead, agents, func(_ context.Context, _ model.Peer, request []byte) ([]byte, error) {
		var q uplink.UpdateRead
		if err := json.Unmarshal(request, &q); err != nil {
			return nil, model.DecodeError(err)
		}
		return r.read(q)
	})
}

// read returns a piece of a program; none at its end.
func (r *Release) read(q uplink.UpdateRead) ([]byte, error) {
	f, file, err := r.open(manifest.Platform{OS: q.OS, Arch: q.Arch})
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	if file.SHA256 != q.SHA256 {
		return nil, fmt.Errorf("%w: this server has another program for %s now", model.ErrConflict, file.Platform)
	}
	if q.Offset < 0 || q.Offset > file.Size {
		return nil, model.Invalid{{Field: "offset", Msg: "lies outside the program"}}
	}
	b := make([]byte, min(uplink.UpdateChunk, file.Size-q.Offset))
	n, err := f.ReadAt(b, q.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return b[:n], nil
}
