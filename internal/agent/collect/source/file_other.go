//go:build !unix

package source

import (
	"fmt"
	"os"
)

type file struct{ f *os.File }

func openRegular(path string) (file, error) {
	st, err := os.Stat(path)
	if err != nil {
		return file{}, err
	}
	if !st.Mode().IsRegular() {
		return file{}, fmt.Errorf("open %s: not a regular file", path)
	}
	f, err := os.Open(path)
	return file{f}, err
}

func (f file) read(p []byte) (int, error) { return f.f.Read(p) }

func (f file) close() { _ = f.f.Close() }
