package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge carries etcd's log to slog. etcd stalls when its log sink does, so
// lines wait in a bounded queue and are dropped (and counted) when it is full.
type bridge struct {
	log     *slog.Logger
	fatal   func(msg string)
	older   func() // the log lacks what this member acknowledged once
	removed func() // others say that this member was removed
	queue   chan line
	dropped atomic.Int64
}

type line struct {
	level slog.Level
	msg   string
	attrs []slog.Attr
}

func newBridge(log *slog.Logger, fatal func(string), older, removed func()) *bridge {
	return &bridge{log: log.With("engine", "etcd"), fatal: fatal, older: older, removed: removed, queue: make(chan line, 256)}
}

// run begins to write lines; the function it returns writes what is left and stops.
func (b *bridge) run() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case l := <-b.queue:
				b.write(l)
			case <-done:
				for {
					select {
					case l := <-b.queue:
						b.write(l)
					default:
						return
					}
				}
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

// harmless lines of etcd are warnings about listeners and tokens for clients
// from outside, of which this one has none.
var harmless = []string{"Running http and grpc server on single port", "simple token is not cryptographically signed"}

func (b *bridge) write(l line) {
	for _, h := range harmless {
		if l.level == slog.LevelWarn && strings.HasPrefix(l.msg, h) {
			l.level = slog.LevelDebug
		}
	}
	if n := b.dropped.Swap(0); n > 0 {
		b.log.Warn("log lines dropped", "lines", n)
	}
	b.log.LogAttrs(context.Background(), l.level, l.msg, l.attrs...)
}

// zap returns the logger for etcd. A fatal line ends the goroutine that wrote
// it, not the process: the server goes on watching and warning without etcd.
func (b *bridge) zap() *zap.Logger {
	return zap.New(&core{b: b}, zap.WithFatalHook(zapcore.WriteThenGoexit), zap.WithPanicHook(panicHook{b}))
}

// panicHook notes why etcd is about to panic. The panic itself goes on: etcd
// recovers from some of them, and the others mean broken files, which CheckDir
// is there to find. What it cannot find is a log that ends before what others
// know this member to have: that would come again at each start, and ends the
// goroutine only.
type panicHook struct{ b *bridge }

func (h panicHook) OnWrite(e *zapcore.CheckedEntry, f []zapcore.Field) {
	if strings.HasPrefix(e.Message, "tocommit(") || strings.Contains(e.Message, "conflict with committed entry") {
		h.b.older()
		zapcore.WriteThenGoexit.OnWrite(e, f)
	}
	h.b.fatal(e.Message)
	zapcore.WriteThenPanic.OnWrite(e, f)
}

// core implements zapcore.Core.
type core struct {
	b      *bridge
	fields []zapcore.Field
}

// Enabled always lets warnings through: some of them say what has become of this member.
func (c *core) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel || c.b.log.Enabled(context.Background(), slogLevel(l))
}

func (c *core) With(f []zapcore.Field) zapcore.Core {
	return &core{b: c.b, fields: append(c.fields[:len(c.fields):len(c.fields)], f...)}
}

func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(enc)
	}
	l := line{level: slogLevel(e.Level), msg: e.Message}
	// The end of a listener that was closed on purpose is no fault.
	if text, ok := enc.Fields["error"].(string); ok && l.level == slog.LevelError && strings.Contains(text, net.ErrClosed.Error()) {
		l.level = slog.LevelDebug
	}
	for k, v := range enc.Fields {
		l.attrs = append(l.attrs, slog.Any(k, v))
	}
	if text, _ := enc.Fields["error"].(string); e.Message == "server error" && strings.Contains(text, "permanently removed") {
		c.b.removed()
	}
	if e.Level == zapcore.FatalLevel {
		msg := e.Message
		if err, ok := enc.Fields["error"]; ok {
			msg = fmt.Sprintf("%s: %v", msg, err)
		}
		c.b.fatal(msg)
	}
	select {
	case c.b.queue <- l:
	default:
		c.b.dropped.Add(1)
	}
	return nil
}

func (c *core) Sync() error { return nil }

// slogLevel lowers etcd's levels: its info is a running commentary.
func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func isAddrInUse(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || err != nil && strings.Contains(err.Error(), "address already in use")
}
