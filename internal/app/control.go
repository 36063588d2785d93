package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"panoptes/internal/control"
	"panoptes/internal/model"
)

// VerifyCommand is the hidden command that checks the configuration store.
const VerifyCommand = "verify-control"

// VerifyControl reads the store's files and reports damage. It may end the
// process: etcd's files can make their reader crash.
func VerifyControl(dir string) error { return control.CheckDir(dir) }

// verifyControl looks at the store's files before they are opened.
func (a *App) verifyControl() error {
	check := a.opts.CheckControl
	if check == nil {
		check = verifyInChild
	}
	return check(context.Background(), a.cfg.Path("control"))
}

// verifyInChild runs VerifyCommand of this program. A new directory needs none.
func verifyInChild(ctx context.Context, dir string) error {
	if !dataExists(dir) {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, self, VerifyCommand, dir).CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return errors.New("its check did not end within a minute")
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("%s (%w)", line, err)
}

// brokenStore stands for a configuration store that cannot be opened.
type brokenStore struct{ err error }

func (brokenStore) Ready() <-chan struct{} { return nil }
func (b brokenStore) Writable() error      { return b.err }
func (b brokenStore) Get(context.Context, string) (model.KV, error) {
	return model.KV{}, b.err
}
func (b brokenStore) Txn(context.Context, []model.KVCond, []model.KVOp) (int64, error) {
	return 0, b.err
}

// Watch delivers nothing and ends with ctx.
func (brokenStore) Watch(ctx context.Context, _ string, _ int64) <-chan model.KVBatch {
	ch := make(chan model.KVBatch)
	context.AfterFunc(ctx, func() { close(ch) })
	return ch
}
