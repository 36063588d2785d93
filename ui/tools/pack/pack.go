package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// File is one entry of the manifest.
type File struct {
	Hash string `json:"hash"` // SHA-256 of the plain content, hex, first 16 digits
	Size int    `json:"size"` // bytes, plain
	Gzip int    `json:"gzip"` // bytes, zipped with the best level
}

// Manifest maps paths below the directory, with slashes, to what is there.
type Manifest map[string]File

// Pack zips the files below dir, several at a time, and writes manifest.json.
// Of index.html the plain file stays, because the server writes into it; of
// everything else only the zipped one, which halves what is embedded. Running
// it a second time over the same directory is an error: the plain files are gone.
func Pack(dir string) (Manifest, error) {
	var names []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		base := d.Name()
		if strings.HasPrefix(base, ".") || p == filepath.Join(dir, "manifest.json") {
			return nil
		}
		if strings.HasSuffix(base, ".gz") {
			return fmt.Errorf("%s is zipped already; build the pages again", p)
		}
		names = append(names, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no pages; build them first", dir)
	}

	var (
		mu    sync.Mutex // guards m and first
		m     = Manifest{}
		first error
		wg    sync.WaitGroup
		slots = make(chan struct{}, runtime.GOMAXPROCS(0))
	)
	for _, p := range names {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			f, err := zip(p)
			rel, relErr := filepath.Rel(dir, p)
			if err == nil {
				err = relErr
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = err
			}
			m[filepath.ToSlash(rel)] = f
		})
	}
	wg.Wait()
	if first != nil {
		return nil, first
	}
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	return m, os.WriteFile(filepath.Join(dir, "manifest.json"), append(b, '\n'), 0o644)
}

// zip writes p.gz and removes p, unless p is the page itself.
func zip(p string) (File, error) {
	plain, err := os.ReadFile(p)
	if err != nil {
		return File{}, err
	}
	var buf bytes.Buffer
	// No name and no time in the header: the same input gives the same bytes.
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return File{}, err
	}
	if _, err := zw.Write(plain); err != nil {
		return File{}, err
	}
	if err := zw.Close(); err != nil {
		return File{}, err
	}
	sum := sha256.Sum256(plain)
	f := File{Hash: hex.EncodeToString(sum[:8]), Size: len(plain), Gzip: buf.Len()}
	if filepath.Base(p) == "index.html" {
		return f, nil
	}
	if err := os.WriteFile(p+".gz", buf.Bytes(), 0o644); err != nil {
		return File{}, err
	}
	return f, os.Remove(p)
}
