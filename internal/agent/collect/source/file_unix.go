//go:build unix

package source

import (
	"fmt"
	"io"
	"io/fs"
	"syscall"
)

// file is a descriptor without the poller and finalizer of os.File: a round
// opens a few hundred files of /proc and /sys, where these cost more than the read.
type file int

func openRegular(path string) (file, error) {
	for {
		// O_NONBLOCK so that opening a FIFO or a device does not wait.
		fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		var st syscall.Stat_t
		if err := syscall.Fstat(fd, &st); err != nil || uint32(st.Mode)&syscall.S_IFMT != syscall.S_IFREG {
			syscall.Close(fd)
			return -1, fmt.Errorf("open %s: not a regular file", path)
		}
		return file(fd), nil
	}
}

func (f file) read(p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(f), p)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}
}

func (f file) close() { _ = syscall.Close(int(f)) }
