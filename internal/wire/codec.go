package wire

import (
	"fmt"

	"google.golang.org/grpc/mem"
)

// message is what the codec decodes into. Its bytes are valid until free.
type message struct {
	buf mem.Buffer
	own bool // copy instead of keeping gRPC's buffer
	b   []byte
}

func (m *message) free() {
	if m.buf != nil {
		m.buf.Free()
		m.buf = nil
	}
	m.b = nil
}

// codec hands bytes through. What is sent is copied once, because gRPC writes it
// after Send has returned.
type codec struct{}

func (codec) Name() string { return serviceName }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("send a message of type %T: must be bytes", v)
	}
	if len(b) == 0 {
		return nil, nil
	}
	return mem.BufferSlice{mem.Copy(b, mem.DefaultBufferPool())}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("receive a message into %T", v)
	}
	m.free()
	if m.own {
		m.b = data.Materialize()
		return nil
	}
	m.buf = data.MaterializeToBuffer(mem.DefaultBufferPool())
	m.b = m.buf.ReadOnlyData()
	return nil
}
