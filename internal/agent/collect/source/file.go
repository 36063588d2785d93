// Package source reads what the system says about itself: small files of /proc
// and /sys with bounds on size, into buffers that are used again.
package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MaxFile is the most that Reader.Read reads of one file.
const MaxFile = 4 << 20

// Tree is a file system that may lie somewhere else than at its usual place,
// as the host's /proc does inside a container.
type Tree struct {
	Root string // for example /proc
}

// Path joins parts below the root.
func (t Tree) Path(parts ...string) string {
	return t.Root + "/" + strings.Join(parts, "/")
}

// Reader reads whole files into one buffer. It belongs to one goroutine.
type Reader struct {
	buf []byte
}

// Read returns the content of a file, valid until the next Read. More than
// MaxFile bytes, or anything that is not a regular file (a FIFO would block
// for ever), is an error.
func (r *Reader) Read(path string) ([]byte, error) { return r.ReadMax(path, MaxFile) }

// ReadMax is Read with its own limit.
func (r *Reader) ReadMax(path string, limit int) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if cap(r.buf) == 0 {
		r.buf = make([]byte, 0, 4096)
	}
	b := r.buf[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
			r.buf = b
		}
		n, err := f.read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if len(b) > limit {
			return nil, fmt.Errorf("read %s: more than %d bytes", path, limit)
		}
		if errors.Is(err, io.EOF) || (err == nil && n == 0) {
			r.buf = b
			return b, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
}

// Text returns the trimmed content of a small file, "" when it cannot be read.
func (r *Reader) Text(path string) string {
	b, err := r.ReadMax(path, 64<<10)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// Number returns the number in a small file.
func (r *Reader) Number(path string) (float64, bool) {
	b, err := r.ReadMax(path, 4096)
	if err != nil {
		return 0, false
	}
	return Float(bytes.TrimSpace(b))
}

// Float reads a decimal number without allocating for plain integers.
func Float(b []byte) (float64, bool) {
	if n, ok := Uint(b); ok {
		return float64(n), true
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return v, err == nil
}

// Uint reads a decimal integer of at most 19 digits.
func Uint(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// Line cuts the first line off b.
func Line(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// Fields splits a line at white space into into, which is used again. At most
// cap(into) fields are kept when it has a capacity above zero.
func Fields(line []byte, into [][]byte) [][]byte {
	into = into[:0]
	limit := cap(into)
	for i := 0; i < len(line); {
		for i < len(line) && space(line[i]) {
			i++
		}
		start := i
		for i < len(line) && !space(line[i]) {
			i++
		}
		if i > start {
			if limit > 0 && len(into) == limit {
				return into
			}
			into = append(into, line[start:i])
		}
	}
	return into
}

func space(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// Names lists at most limit entries of a directory, sorted; nil when it cannot be read.
func Names(dir string, limit int) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(limit)
	slices.Sort(names)
	return names
}

// Glob is filepath.Glob with the error, which only a bad pattern makes, left out.
func Glob(pattern string) []string {
	m, _ := filepath.Glob(pattern)
	return m
}
