package pushgateway

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/klauspost/compress/zstd"

	"panoptes/internal/model"
)

// The file begins with a line that names its format; each record behind it has
// its length, the checksum of what follows and the compressed JSON. Changes are
// added at the end; when most of the file is outdated it is written anew.
const (
	fileMagic     = "panoptes pushgateway 1\n"
	maxRecord     = 64 << 20
	rewriteFrom   = 1 << 20 // bytes up to which a file is never too long
	rewriteFactor = 4       // how many times its size when it was new
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type file struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex // guards what follows; taken before the Pushgateway's
	saved  uint64     // changes up to here are on the disk
	f      *os.File   // nil after a failure: the next write makes the file anew
	size   int64
	fresh  int64 // size when it was made
	closed bool
	packer *zstd.Encoder
}

// openFile reads what is there and hands over each record.
func openFile(path string, log *slog.Logger, each func(*record)) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of groups: %w", err)
	}
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	f := &file{path: path, log: log, packer: packer}
	if err := f.read(each); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *file) read(each func(*record)) error {
	h, err := os.OpenFile(f.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open groups: %w", err)
	}
	good, damage := readRecords(bufio.NewReaderSize(h, 1<<16), each)
	info, err := h.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("look at %s: %w", f.path, err), h.Close())
	}
	if damage == nil {
		f.f, f.size, f.fresh = h, good, good
		_, err = h.Seek(good, io.SeekStart)
		return err
	}
	// A record that was not acknowledged may be torn at the end; anything else
	// is worth a look by a person. Either way the file is made anew.
	if err := h.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.path, err)
	}
	f.log.Warn("the file of pushed groups ends in the middle or is damaged; what can be read of it is kept, the rest comes from other servers",
		"path", f.path, "readable", good, "size", info.Size(), "err", damage)
	if err := os.Rename(f.path, f.path+".damaged"); err != nil {
		return fmt.Errorf("set the damaged groups aside: %w", err)
	}
	return nil
}

// readRecords returns how many bytes are good, and what is wrong behind them.
func readRecords(r io.Reader, each func(*record)) (good int64, err error) {
	magic := make([]byte, len(fileMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != fileMagic {
		return 0, errors.New("it does not begin as a file of groups does")
	}
	unpacker, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRecord))
	if err != nil {
		return 0, err
	}
	defer unpacker.Close()
	good = int64(len(magic))
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return good, nil
		} else if err != nil {
			return good, err
		}
		n := binary.BigEndian.Uint32(head[:4])
		if n > maxRecord {
			return good, fmt.Errorf("a record claims %d bytes", n)
		}
		data, err := io.ReadAll(io.LimitReader(r, int64(n)))
		if err != nil {
			return good, err
		}
		if len(data) < int(n) || crc32.Checksum(data, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
			return good, errors.New("a record is torn")
		}
		plain, err := unpacker.DecodeAll(data, nil)
		if err != nil {
			return good, err
		}
		var rec record
		if err := json.Unmarshal(plain, &rec); err != nil {
			return good, err
		}
		each(&rec)
		good += int64(len(head)) + int64(n)
	}
}

func (f *file) pack(b []byte, rec *record) ([]byte, error) {
	plain, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode group: %w", err)
	}
	start := len(b)
	b = f.packer.EncodeAll(plain, append(b, make([]byte, 8)...))
	data := b[start+8:]
	if len(data) > maxRecord {
		return nil, fmt.Errorf("a group of %d bytes: %w", len(data), model.ErrTooLarge)
	}
	binary.BigEndian.PutUint32(b[start:], uint32(len(data)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(data, castagnoli))
	return b, nil
}

func (f *file) wantsRewrite() bool {
	return f.f == nil || f.size > rewriteFrom && f.size > rewriteFactor*f.fresh
}

// append adds records and waits for the disk.
func (f *file) append(records []*record) error {
	var b []byte
	var err error
	for _, r := range records {
		if b, err = f.pack(b, r); err != nil {
			f.drop()
			return err
		}
	}
	if len(b) == 0 {
		return nil
	}
	if _, err = f.f.Write(b); err == nil {
		err = f.f.Sync()
	}
	if err != nil {
		f.drop()
		return full(fmt.Errorf("write %s: %w", f.path, err))
	}
	f.size += int64(len(b))
	return nil
}

// rewrite makes the file anew beside the old one and puts it in its place.
func (f *file) rewrite(records []*record) (err error) {
	b := []byte(fileMagic)
	for _, r := range records {
		if b, err = f.pack(b, r); err != nil {
			return err
		}
	}
	h, err := os.OpenFile(f.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return full(fmt.Errorf("make the file of groups: %w", err))
	}
	if _, err = h.Write(b); err == nil {
		err = h.Sync()
	}
	if err == nil {
		err = os.Rename(f.path+".new", f.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(f.path))
	}
	if err != nil {
		return full(errors.Join(fmt.Errorf("write %s: %w", f.path, err), h.Close()))
	}
	f.drop()
	f.f, f.size, f.fresh = h, int64(len(b)), int64(len(b))
	return nil
}

// drop ends the use of the open file; a failed fsync leaves nobody knows what.
func (f *file) drop() {
	if f.f == nil {
		return
	}
	if err := f.f.Close(); err != nil {
		f.log.Warn("the file of pushed groups was not closed well", "path", f.path, "err", err)
	}
	f.f = nil
}

func (f *file) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop()
	f.closed = true
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// full marks the errors of a full disk.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errors.Join(model.ErrNoSpace, err)
	}
	return err
}
