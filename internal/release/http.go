package release

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/manifest"
)

// downloadTime is how long one download may take.
const downloadTime = 15 * time.Minute

// Handler answers GET and HEAD of /agent/OS/ARCH, /agent/manifest.json, its
// signature and /install.sh. Anyone may ask.
func (r *Release) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /agent/{os}/{arch}", r.serveProgram)
	mux.HandleFunc("GET /agent/"+manifest.Name, r.serveManifest)
	mux.HandleFunc("GET /agent/"+manifest.Signature, r.serveSignature)
	mux.HandleFunc("GET /install.sh", r.serveScript)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, fmt.Errorf("%w: there is /agent/OS/ARCH, /agent/%s and /install.sh", model.ErrNotFound, manifest.Name))
	})
	return mux
}

func (r *Release) serveProgram(w http.ResponseWriter, req *http.Request) {
	p := manifest.Platform{OS: req.PathValue("os"), Arch: req.PathValue("arch")}
	label := "other"
	if manifest.Known(p) {
		label = p.String()
	}
	status := &codeWriter{ResponseWriter: w, code: http.StatusOK}
	defer func() { r.sent.WithLabelValues(label, strconv.Itoa(status.code)).Inc() }()
	done, err := r.take(req.Context())
	if err != nil {
		fail(status, err)
		return
	}
	defer done()
	f, file, err := r.open(p)
	if err != nil {
		fail(status, err)
		return
	}
	defer f.Close() //nolint:errcheck // only read
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTime))
	h := status.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", `attachment; filename="`+p.File()+`"`)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Panoptes-SHA256", file.SHA256)
	h.Add("Vary", "Accept-Encoding")
	if acceptsGzip(req) && req.Header.Get("Range") == "" && r.sendZipped(status, req, f, file) {
		return
	}
	h.Set("ETag", `"`+file.SHA256+`"`)
	http.ServeContent(status, req, "", time.Time{}, f)
}

// sendZipped sends the zipped copy, if there can be one.
func (r *Release) sendZipped(w http.ResponseWriter, req *http.Request, f *os.File, file manifest.File) bool {
	z, err := r.zipped(f, file)
	if err != nil {
		if r.cfg.CacheDir != "" {
			r.log.Debug("no zipped copy", "platform", file.Platform.String(), "err", err)
		}
		return false
	}
	defer z.Close() //nolint:errcheck // only read
	info, err := z.Stat()
	if err != nil {
		return false
	}
	tag := `"` + file.SHA256 + `-gzip"`
	h := w.Header()
	h.Set("ETag", tag)
	if strings.Contains(req.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	h.Set("Content-Encoding", "gzip")
	h.Set("Content-Length", strconv.FormatInt(info.Size(), 10))
	w.WriteHeader(http.StatusOK)
	if req.Method != http.MethodHead {
		_, _ = io.Copy(w, z) // an error here means that nobody listens
	}
	return true
}

// zipped returns the zipped copy of a program and makes it when it is not there.
func (r *Release) zipped(f *os.File, file manifest.File) (*os.File, error) {
	if r.cfg.CacheDir == "" {
		return nil, errors.New("there is no directory for zipped copies")
	}
	path := filepath.Join(r.cfg.CacheDir, file.Platform.File()+"-"+file.SHA256[:16]+".gz")
	r.gzMu.Lock()
	defer r.gzMu.Unlock()
	if z, err := os.Open(path); err == nil {
		return z, nil
	}
	if err := os.MkdirAll(r.cfg.CacheDir, 0o755); err != nil {
		return nil, err
	}
	old, err := filepath.Glob(filepath.Join(r.cfg.CacheDir, file.Platform.File()+"-*"))
	if err != nil {
		return nil, err
	}
	for _, o := range old {
		if err := os.Remove(o); err != nil {
			return nil, err
		}
	}
	tmp, err := os.CreateTemp(r.cfg.CacheDir, file.Platform.File()+"-*.new")
	if err != nil {
		return nil, err
	}
	zw := gzip.NewWriter(tmp)
	_, err = io.Copy(zw, f)
	_, serr := f.Seek(0, io.SeekStart)
	if err = errors.Join(err, serr, zw.Close(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(tmp.Name()))
	}
	return os.Open(path)
}

func (r *Release) serveManifest(w http.ResponseWriter, req *http.Request) {
	text, _, err := r.Manifest()
	if err != nil && !errors.Is(err, errUnsigned) {
		fail(w, err)
		return
	}
	sendText(w, req, "application/json; charset=utf-8", text)
}

func (r *Release) serveSignature(w http.ResponseWriter, req *http.Request) {
	_, sig, err := r.Manifest()
	if err != nil {
		fail(w, err)
		return
	}
	sendText(w, req, "text/plain; charset=utf-8", sig)
}

func (r *Release) serveScript(w http.ResponseWriter, req *http.Request) {
	text, err := r.Script()
	if err != nil {
		fail(w, err)
		return
	}
	sendText(w, req, "text/x-shellscript; charset=utf-8", text)
}

func sendText(w http.ResponseWriter, req *http.Request, kind string, text []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	if req.Method != http.MethodHead {
		_, _ = w.Write(text) // an error here means that nobody listens
	}
}

// fail answers as the rest of the API does.
func fail(w http.ResponseWriter, err error) {
	status, code, text := http.StatusInternalServerError, "internal", "an internal error; the server's log tells more"
	switch {
	case errors.Is(err, model.ErrNotFound):
		status, code, text = http.StatusNotFound, "not_found", err.Error()
	case errors.Is(err, model.ErrUnavailable):
		status, code, text = http.StatusServiceUnavailable, "unavailable", err.Error()
		w.Header().Set("Retry-After", "5")
	}
	b, merr := json.Marshal(map[string]any{"error": map[string]string{"code": code, "message": text}})
	if merr != nil {
		b = []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // an error here means that nobody listens
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(q, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// codeWriter remembers the status.
type codeWriter struct {
	http.ResponseWriter
	code int
}

func (w *codeWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *codeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
