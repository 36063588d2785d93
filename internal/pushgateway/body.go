package pushgateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"

	"github.com/klauspost/compress/snappy"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	common "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"

	"panoptes/internal/model"
)

// memoryPerByte is about how many bytes of memory a decoded push takes for one
// byte of its body.
const memoryPerByte = 10

// errBusy is answered with 429.
var errBusy = fmt.Errorf("this server decodes as many pushes as it may hold in memory; try again: %w", model.ErrLimit)

// read reads and unpacks the body of a push.
func (p *Pushgateway) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := fmt.Errorf("the body has more than %d bytes; push less at once, under several groups: %w", p.cfg.MaxBody, model.ErrTooLarge)
	if r.ContentLength > int64(p.cfg.MaxBody) {
		return nil, tooLarge
	}
	var src io.Reader = http.MaxBytesReader(w, r.Body, int64(p.cfg.MaxBody))
	switch enc := r.Header.Get("Content-Encoding"); enc {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, badBody("is not gzip: %s", err)
		}
		src = z
	case "snappy":
		src = snappy.NewReader(src)
	default:
		return nil, badBody("Content-Encoding %.50q is not understood; send gzip, snappy or none", enc)
	}
	body, err := io.ReadAll(io.LimitReader(src, int64(p.cfg.MaxBody)+1))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), len(body) > p.cfg.MaxBody:
		return nil, tooLarge
	case err != nil:
		return nil, badBody("cannot be read: %s", err)
	}
	return body, nil
}

func badBody(format string, args ...any) error {
	var inv model.Invalid
	inv.Add("body", format, args...)
	return inv.Err()
}

// decode decodes a body.
func (p *Pushgateway) decode(contentType string, body []byte) ([]*dto.MetricFamily, error) {
	decode := p.parseText
	media, params, err := mime.ParseMediaType(contentType)
	if err == nil && media == "application/vnd.google.protobuf" {
		if params["encoding"] != "delimited" || params["proto"] != "io.prometheus.client.MetricFamily" {
			return nil, badBody("Content-Type %.100q is not understood; protobuf is sent as application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited", contentType)
		}
		decode = p.parseProtobuf
	}
	return decode(body)
}

// families makes those of a group of what was decoded. What a push must not have
// is an error; the two times that a Pushgateway adds itself are left out.
func (p *Pushgateway) families(mfs []*dto.MetricFamily, group labels.Labels) ([]*family, error) {
	var out []*family
	total := 0
	for _, mf := range mfs {
		if name := mf.GetName(); name == pushTime || name == failureTime || len(mf.Metric) == 0 {
			continue
		}
		f, err := p.makeFamily(group, mf)
		if err != nil {
			return nil, err
		}
		if total += len(f.series); total > p.cfg.MaxSeries {
			return nil, p.tooManySeries()
		}
		out = append(out, f)
	}
	return out, nil
}

func (p *Pushgateway) tooManySeries() error {
	return fmt.Errorf("a group may have %d series; push under several groups: %w", p.cfg.MaxSeries, errTooMuch)
}

// parseText decodes the text format.
func (p *Pushgateway) parseText(body []byte) ([]*dto.MetricFamily, error) {
	samples, comments := 0, 0
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, len(body)+1)
	for lines.Scan() { // the decoder makes much of little
		switch line := bytes.TrimLeft(lines.Bytes(), " \t"); {
		case len(line) == 0:
		case line[0] == '#':
			comments++
		default:
			samples++
		}
	}
	if samples > p.cfg.MaxSeries || comments > 4*p.cfg.MaxSeries {
		return nil, p.tooManySeries()
	}
	byName, err := decodeText(io.MultiReader(bytes.NewReader(body), bytes.NewReader([]byte("\n"))))
	if err != nil {
		return nil, badBody("is not Prometheus' text format: %s", err)
	}
	out := make([]*dto.MetricFamily, 0, len(byName))
	for _, mf := range byName {
		out = append(out, mf)
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return bytes.Compare([]byte(a.GetName()), []byte(b.GetName())) })
	return out, nil
}

// decodeText calls the library's parser, which panics on some texts, such as
// braces without a name.
func decodeText(r io.Reader) (byName map[string]*dto.MetricFamily, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a line is not understood (%v)", p)
		}
	}()
	parser := expfmt.NewTextParser(common.UTF8Validation)
	return parser.TextToMetricFamilies(r)
}

// parseProtobuf decodes families with their lengths in front.
func (p *Pushgateway) parseProtobuf(body []byte) ([]*dto.MetricFamily, error) {
	for rest := body; len(rest) > 0; {
		data, n := protowire.ConsumeBytes(rest)
		if n < 0 {
			return nil, badBody("is not protobuf families with their lengths in front: %s", protowire.ParseError(n))
		}
		if err := p.checkItems(data); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	var out []*dto.MetricFamily
	seen := map[string]bool{}
	r := bytes.NewReader(body)
	for {
		mf := &dto.MetricFamily{}
		err := protodelim.UnmarshalOptions{MaxSize: int64(p.cfg.MaxBody)}.UnmarshalFrom(r, mf)
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, badBody("is not protobuf families with their lengths in front: %s", err)
		}
		if len(mf.Metric) > 0 && seen[mf.GetName()] {
			return nil, badBody("has the metric %.200q twice", mf.GetName())
		}
		seen[mf.GetName()] = true
		if len(seen) > p.cfg.MaxSeries {
			return nil, p.tooManySeries()
		}
		out = append(out, mf)
	}
}

// checkItems bounds the fields of a family, each of which takes much more
// memory decoded than sent.
func (p *Pushgateway) checkItems(data []byte) error {
	left := 40 * p.cfg.MaxSeries
	var walk func(b []byte, depth int) bool
	walk = func(b []byte, depth int) bool {
		for len(b) > 0 {
			_, kind, n := protowire.ConsumeTag(b)
			if n < 0 {
				return true // the decoder says what is wrong
			}
			b = b[n:]
			if n = protowire.ConsumeFieldValue(1, kind, b); n < 0 {
				return true
			}
			if left--; left < 0 {
				return false
			}
			if kind == protowire.BytesType && depth < 4 {
				inner, _ := protowire.ConsumeBytes(b)
				if !walk(inner, depth+1) {
					return false
				}
			}
			b = b[n:]
		}
		return true
	}
	if !walk(data, 0) {
		return p.tooManySeries()
	}
	return nil
}
