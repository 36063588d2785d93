package alert

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// journal keeps what changed since the last snapshot, so that a process that is
// killed knows what it has sent. An entry is its length, its CRC-32C and its
// bytes. A torn end is where the process died; what stands before it counts.
type journal struct {
	path string

	mu      sync.Mutex
	f       *os.File // guarded by mu
	written uint64   // guarded by mu; entries handed to the file
	size    int64    // guarded by mu; bytes of whole entries
	err     error    // guarded by mu; the last write that went wrong

	syncMu sync.Mutex
	synced uint64 // guarded by syncMu
}

const maxEntry = 16 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal replays what a journal holds into merge and opens it for more.
func openJournal(path string, merge func([]byte) error) (*journal, error) {
	for _, p := range []string{path + ".old", path} {
		if err := replay(p, merge); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &journal{path: path, f: f, size: st.Size()}, nil
}

// replay reads a journal and cuts off a torn end.
func replay(path string, merge func([]byte) error) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var good int64
	for {
		b, err := readEntry(r)
		if err != nil {
			break
		}
		// An entry that the engine does not understand is no reason to lose
		// those behind it.
		_ = merge(b)
		good += int64(8 + len(b))
	}
	if err := f.Truncate(good); err != nil {
		return fmt.Errorf("cut off the torn end of %s: %w", path, err)
	}
	return nil
}

var errTorn = errors.New("torn entry")

func readEntry(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, errTorn
	}
	n := binary.LittleEndian.Uint32(head[:4])
	if n > maxEntry {
		return nil, errTorn
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, errTorn
	}
	if crc32.Checksum(b, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return b, nil
}

// append hands an entry to the operating system: it survives a killed process.
func (j *journal) append(b []byte) {
	buf := make([]byte, 8, 8+len(b))
	binary.LittleEndian.PutUint32(buf[:4], uint32(len(b)))
	binary.LittleEndian.PutUint32(buf[4:], crc32.Checksum(b, castagnoli))
	buf = append(buf, b...)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return
	}
	j.written++
	if _, err := j.f.Write(buf); err != nil {
		// Half an entry (a full disk) would hide those that follow it.
		j.err = errors.Join(fmt.Errorf("append to %s: %w", j.path, err), j.f.Truncate(j.size))
		return
	}
	j.size += int64(len(buf))
}

// sync returns when all that was appended before is on disk. Callers at the
// same time share one fsync.
func (j *journal) sync() error {
	j.mu.Lock()
	want := j.written
	j.mu.Unlock()
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	if j.synced >= want {
		return nil
	}
	j.mu.Lock()
	upTo, f, err := j.written, j.f, j.err
	j.err = nil
	j.mu.Unlock()
	if f == nil {
		return os.ErrClosed
	}
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", j.path, err)
	}
	j.synced = upTo
	return nil
}

// rotate moves the entries so far aside before a snapshot that will contain them.
func (j *journal) rotate() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f == nil {
		return os.ErrClosed
	}
	if _, err := os.Stat(j.path + ".old"); err == nil {
		// The snapshot before failed: its entries are still needed. Go on in
		// the same file.
		return nil
	}
	if err := j.f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", j.path, err)
	}
	// The new file is there before the old one moves: whatever fails, entries
	// go on into a file that the next start reads.
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rotate %s: %w", j.path, err)
	}
	if err := os.Rename(j.path, j.path+".old"); err != nil {
		f.Close()
		return fmt.Errorf("rotate %s: %w", j.path, err)
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		f.Close()
		return errors.Join(fmt.Errorf("rotate %s: %w", j.path, err), os.Rename(j.path+".old", j.path))
	}
	j.f.Close()
	j.f, j.size, j.synced = f, 0, j.written
	return syncDir(filepath.Dir(j.path))
}

// settle drops the entries that a snapshot has made superfluous.
func (j *journal) settle() error {
	if err := os.Remove(j.path + ".old"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (j *journal) close() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f != nil {
		j.f.Close()
		j.f = nil
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
