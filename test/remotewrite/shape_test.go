//go:build e2e

package remotewrite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// conformance skips what needs programs that are built first.
func conformance(t testing.TB) {
	t.Helper()
	if os.Getenv("PANOPTES_CONFORMANCE") == "" {
		t.Skip("compares with another program, which is built first; make conformance runs it")
	}
}

// call is one request that both programs get.
type call struct {
	method, path string
	form         url.Values
	varies       string // expression for the places whose values differ and whose types do not
	differs      string // why the answers are not the same; empty when they are
	unordered    bool   // the list in the answer has no order
}

func (c call) String() string { return c.method + " " + c.path + "?" + c.form.Encode() }

// answer is what came back, the body as lines in the order of the document.
type answer struct {
	code        int
	contentType string
	lines       []string
	body        string
}

func (c call) send(base string) (answer, error) {
	target, body := base+c.path, io.Reader(nil)
	if c.method == http.MethodGet || c.method == http.MethodDelete || c.method == http.MethodPut {
		target += "?" + c.form.Encode()
	} else {
		body = strings.NewReader(c.form.Encode())
	}
	req, err := http.NewRequest(c.method, target, body)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", "Bearer "+harness.APIKey) // Prometheus does not mind
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: res.StatusCode, contentType: res.Header.Get("Content-Type"), body: string(text)}
	if c.unordered {
		var list struct{ Data []json.RawMessage }
		if err := json.Unmarshal(text, &list); err != nil {
			return answer{}, fmt.Errorf("%s answers %.300q: %w", c, text, err)
		}
		for _, x := range list.Data {
			a.lines = append(a.lines, string(x))
		}
		slices.Sort(a.lines)
	} else if strings.HasPrefix(a.contentType, "application/json") {
		if a.lines, err = flatten(text, c.varies); err != nil {
			return answer{}, fmt.Errorf("%s answers %.300q: %w", c, text, err)
		}
	}
	return a, nil
}

// flatten writes a JSON document as lines of a place and a value. Of a place
// that varies only the type of the value is told.
func flatten(text []byte, varies string) ([]string, error) {
	var skip *regexp.Regexp
	if varies != "" {
		skip = regexp.MustCompile(varies)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out []string
	var value func(place string) error
	value = func(place string) error {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		switch v := tok.(type) {
		case json.Delim:
			out = append(out, place+" "+v.String())
			for i := 0; dec.More(); i++ {
				next := place + "/" + strconv.Itoa(i)
				if v == '{' {
					key, err := dec.Token()
					if err != nil {
						return err
					}
					next = place + "/" + key.(string)
				}
				if err := value(next); err != nil {
					return err
				}
			}
			_, err = dec.Token()
			return err
		case nil:
			out = append(out, place+" null")
		default:
			if skip != nil && skip.MatchString(place) {
				out = append(out, fmt.Sprintf("%s %T", place, v))
			} else {
				out = append(out, fmt.Sprintf("%s %T %v", place, v, v))
			}
		}
		return nil
	}
	return out, value("")
}

// differences compares two answers; the first lines that differ are told.
func differences(want, got answer) string {
	var out []string
	if want.code != got.code {
		out = append(out, fmt.Sprintf("code: %d, want %d", got.code, want.code))
	}
	if want.contentType != got.contentType {
		out = append(out, fmt.Sprintf("content type: %q, want %q", got.contentType, want.contentType))
	}
	if !slices.Equal(want.lines, got.lines) {
		for i := range max(len(want.lines), len(got.lines)) {
			w, g := "nothing", "nothing"
			if i < len(want.lines) {
				w = want.lines[i]
			}
			if i < len(got.lines) {
				g = got.lines[i]
			}
			if w != g {
				out = append(out, fmt.Sprintf("place %d: %s, want %s", i, g, w))
			}
			if len(out) > 4 {
				break
			}
		}
	}
	return strings.Join(out, "\n  ")
}

// compareCalls sends each call to both and fails where answers differ that
// should not, and where they agree although a reason says that they do not.
func compareCalls(t *testing.T, calls []call, theirs, ours string) {
	t.Helper()
	alike, apart := 0, 0
	for _, c := range calls {
		want, err := c.send(theirs)
		require.NoError(t, err)
		got, err := c.send(ours)
		require.NoError(t, err)
		diff := differences(want, got)
		switch {
		case diff == "" && c.differs == "":
			alike++
		case diff != "" && c.differs != "":
			apart++
		case c.differs != "":
			t.Errorf("%s: the answers are the same, but the test says: %s", c, c.differs)
		default:
			t.Errorf("%s:\n  %s\n  ours: %.600s\n  theirs: %.600s", c, diff, got.body, want.body)
		}
	}
	t.Logf("%d answers are the same, %d differ for a reason", alike, apart)
}
