package main

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	p := filepath.Join(dir, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(t, os.WriteFile(p, b, 0o644))
}

func noise(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return b
}

func TestPackZipsAllButThePage(t *testing.T) {
	dir := t.TempDir()
	code := bytes.Repeat([]byte("export const a = 1;\n"), 100)
	write(t, dir, "index.html", []byte(`<script src="./assets/index-1.js"></script>`))
	write(t, dir, "assets/index-1.js", code)
	write(t, dir, ".gitkeep", nil)

	m, err := Pack(dir)
	require.NoError(t, err)
	require.Len(t, m, 2)
	require.Equal(t, len(code), m["assets/index-1.js"].Size)
	require.FileExists(t, filepath.Join(dir, "index.html"))
	require.FileExists(t, filepath.Join(dir, ".gitkeep"))
	require.FileExists(t, filepath.Join(dir, "manifest.json"))
	require.NoFileExists(t, filepath.Join(dir, "assets/index-1.js"))

	f, err := os.Open(filepath.Join(dir, "assets/index-1.js.gz"))
	require.NoError(t, err)
	defer f.Close()
	zr, err := gzip.NewReader(f)
	require.NoError(t, err)
	got, err := io.ReadAll(zr)
	require.NoError(t, err)
	require.Equal(t, code, got)

	_, err = Pack(dir)
	require.ErrorContains(t, err, "zipped already")
}

func TestPackRefusesAnEmptyDirectory(t *testing.T) {
	_, err := Pack(t.TempDir())
	require.ErrorContains(t, err, "build them first")
}

func TestBudgets(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "index.html", []byte(`<script src="./assets/index-1.js"></script>`))
	write(t, dir, "assets/index-1.js", noise(t, 170_000))
	write(t, dir, "assets/en-1.js", noise(t, 5_000))
	write(t, dir, "assets/Page-1.js", noise(t, 10_000))
	m, err := Pack(dir)
	require.NoError(t, err)
	report, err := Budgets(dir, m)
	require.NoError(t, err)
	require.Len(t, report, 3)

	m["assets/zh-CN-1.js"] = File{Gzip: 12_000}
	_, err = Budgets(dir, m)
	require.ErrorContains(t, err, "first load")

	m["assets/zh-CN-1.js"] = File{Gzip: 5_000}
	m["assets/Page-1.js"] = File{Gzip: 61_000}
	_, err = Budgets(dir, m)
	require.ErrorContains(t, err, "largest later part assets/Page-1.js")
}

func TestBudgetsNameAMissingFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "index.html", []byte(`<script src="./assets/gone-1.js"></script>`))
	_, err := Budgets(dir, Manifest{"index.html": {Gzip: 1}})
	require.ErrorContains(t, err, "gone-1.js")
}
