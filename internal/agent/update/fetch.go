package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/manifest"
	"panoptes/internal/wire/uplink"
)

// refusal is an error that trying again does not heal.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// callTime bounds one question to a server.
const callTime = 30 * time.Second

// fetch gets what is wanted from the first server that has it, into a slot.
func (u *Updater) fetch(ctx context.Context, want uplink.UpdateWanted) error {
	servers := u.deps.Servers()
	if len(servers) == 0 {
		return fmt.Errorf("%w: no server is known", model.ErrUnavailable)
	}
	var last error
	for _, c := range servers {
		err := u.fetchFrom(ctx, c, want)
		if err == nil || ctx.Err() != nil {
			return err
		}
		last = errors.Join(last, err)
		var r refusal
		if errors.As(err, &r) || errors.Is(err, errDisk) {
			return err
		}
	}
	return last
}

func (u *Updater) fetchFrom(ctx context.Context, c wire.Conn, want uplink.UpdateWanted) error {
	b, err := call(ctx, c, uplink.MethodUpdateManifest, struct{}{})
	if err != nil {
		return fmt.Errorf("ask for the manifest: %w", err)
	}
	offer, err := uplink.Decode[uplink.UpdateManifest](b, 4*manifest.MaxBytes)
	if err != nil {
		return fmt.Errorf("read the manifest: %w", err)
	}
	m, err := manifest.Verify(u.cfg.Key, offer.Manifest, offer.Signature)
	if err != nil {
		return refusal{err}
	}
	if m.Version != want.Version {
		return fmt.Errorf("%w: version %s is wanted, the server offers %s", model.ErrUnavailable, want.Version, m.Version)
	}
	if err := m.May(u.cfg.Version); err != nil {
		return refusal{err}
	}
	file, ok := m.File(u.cfg.Platform)
	if !ok {
		return refusal{fmt.Errorf("version %s has no program for %s", m.Version, u.cfg.Platform)}
	}
	part := filepath.Join(u.cfg.Dir, "incoming-"+file.SHA256[:16])
	if err := u.download(ctx, c, file, part); err != nil {
		return err
	}
	if err := checkProgram(part, file); err != nil {
		return refusal{errors.Join(err, os.Remove(part))}
	}
	if err := fill(u.cfg.Dir, m.Version, part, offer.Manifest, offer.Signature); err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	return nil
}

var errDisk = errors.New("the program cannot be written")

// download brings a program to a file, from where the last try ended.
func (u *Updater) download(ctx context.Context, c wire.Conn, file manifest.File, part string) error {
	if err := u.tidy(part); err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	defer f.Close() //nolint:errcheck // closed with its error below
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	if at > file.Size {
		if at, err = 0, f.Truncate(0); err != nil {
			return fmt.Errorf("%w: %w", errDisk, err)
		}
	}
	free, err := u.deps.Free(u.cfg.Dir)
	if err == nil && free < file.Size-at+u.cfg.MinFree {
		return fmt.Errorf("%w: the disk has %d bytes left, %d and a reserve of %d are needed", errDisk, free, file.Size-at, u.cfg.MinFree)
	}
	for at < file.Size {
		began := time.Now()
		b, err := call(ctx, c, uplink.MethodUpdateRead, uplink.UpdateRead{OS: file.OS, Arch: file.Arch, SHA256: file.SHA256, Offset: at})
		if err != nil {
			return fmt.Errorf("fetch the program at %d of %d: %w", at, file.Size, err)
		}
		if len(b) == 0 || int64(len(b)) > file.Size-at {
			return fmt.Errorf("%w: the server sent %d bytes at %d of %d", model.ErrUnavailable, len(b), at, file.Size)
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return fmt.Errorf("%w: %w", errDisk, err)
		}
		at += int64(len(b))
		// What is measured shares the way.
		pause := time.Duration(float64(len(b))/float64(u.cfg.Rate)*float64(time.Second)) - time.Since(began)
		if pause > 0 {
			t := time.NewTimer(pause)
			select {
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			case <-t.C:
			}
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	return nil
}

// tidy removes what was begun for other programs.
func (u *Updater) tidy(keep string) error {
	if err := os.MkdirAll(u.cfg.Dir, 0o700); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(u.cfg.Dir, "incoming-*"))
	if err != nil {
		return err
	}
	for _, o := range old {
		if o != keep {
			if err := os.Remove(o); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func call(ctx context.Context, c wire.Conn, method string, q any) ([]byte, error) {
	b, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return c.Call(ctx, method, b)
}
