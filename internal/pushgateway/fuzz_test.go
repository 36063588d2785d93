package pushgateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/pushgateway"
)

// sink takes everything and keeps nothing.
type sink struct{}

type sinkAppender struct{ storage.Appender }

func (sink) Appender(context.Context) storage.Appender { return sinkAppender{} }

func (sinkAppender) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 1, nil
}

func (sinkAppender) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 1, nil
}

func (sinkAppender) Commit() error { return nil }

// FuzzPush sends bodies; what is taken must be shown and found in the file.
func FuzzPush(f *testing.F) {
	const protobuf = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	f.Add(false, []byte("# TYPE m gauge\n# HELP m x\nm{a=\"b\"} 1\n"))
	f.Add(false, []byte("# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 6\nh_sum 7\nh_count 6\n"))
	f.Add(false, []byte("m 1 5\n"))
	f.Add(true, []byte("\x0f\n\x01g\x18\x01\"\x0b\x12\t\t\x00\x00\x00\x00\x00\x00\xf0?"))
	path := f.TempDir() + "/groups"
	p := open(f, pushgateway.Config{Path: path}, pushgateway.Deps{Appendable: sink{}})
	f.Fuzz(func(t *testing.T, asProtobuf bool, body []byte) {
		kind := "text/plain"
		if asProtobuf {
			kind = protobuf
		}
		w := do(p, "PUT", "/metrics/job/j", string(body), "Content-Type", kind)
		if w.Code != 200 && w.Code != 400 && w.Code != 422 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		list := do(p, "GET", "/api/v1/metrics", "").Body.String()
		if w.Code == 200 && !strings.Contains(list, `"last_push_successful":true`) {
			t.Fatal(list)
		}
		state, err := p.State()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Merge(state); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzPath sends paths; a group that is made must be found under the path that
// is shown for it.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/a", "/a/b/c", "@base64/YQ==", "/a/b@base64/=", "/%2F/x/%00", "/a//", "/a/x/y/x/z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		p := open(t, pushgateway.Config{}, pushgateway.Deps{Appendable: sink{}})
		u := &url.URL{Path: "/metrics/job" + path}
		if unescaped, err := url.PathUnescape(path); err == nil {
			u = &url.URL{Path: "/metrics/job" + unescaped, RawPath: "/metrics/job" + path}
		}
		r := httptest.NewRequest(http.MethodPut, "/", strings.NewReader("m 1\n"))
		r.URL = u
		w := httptest.NewRecorder()
		p.Handler().ServeHTTP(w, r)
		if w.Code == 200 {
			groups, _, _ := p.Groups(labels.EmptyLabels(), "", "", 2)
			if len(groups) != 1 {
				t.Fatal(groups)
			}
			if code := do(p, "DELETE", groups[0].Path, "").Code; code != 202 {
				t.Fatal(code, groups[0].Path)
			}
			if _, total, _ := p.Groups(labels.EmptyLabels(), "", "", 2); total != 0 {
				t.Fatalf("%q does not lead to %s", groups[0].Path, groups[0].Key)
			}
		}
	})
}
