package alert

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

const maxBody = 8 << 20

// guardBody bounds what a request may send, and refuses null where an object
// belongs: the generated handlers take it for one.
func guardBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			h.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var tooBig *http.MaxBytesError
		switch {
		case errors.As(err, &tooBig):
			refuse(w, http.StatusRequestEntityTooLarge, "the body is larger than 8 MiB; send smaller requests")
		case err != nil:
			refuse(w, http.StatusBadRequest, "the body could not be read to its end")
		case holdsNull(r.URL.Path, body):
			refuse(w, http.StatusBadRequest, "the body has null where an object belongs")
		default:
			r.Body = io.NopCloser(bytes.NewReader(body))
			h.ServeHTTP(w, r)
		}
	})
}

// holdsNull reports whether a list of alerts, or the matchers of a silence,
// holds null. What is no JSON is left to the handler to refuse.
func holdsNull(path string, body []byte) bool {
	var list []json.RawMessage
	if strings.HasSuffix(path, "/silences") {
		var silence struct {
			Matchers []json.RawMessage `json:"matchers"`
		}
		if json.Unmarshal(body, &silence) != nil {
			return false
		}
		list = silence.Matchers
	} else if json.Unmarshal(body, &list) != nil {
		return false
	}
	for _, v := range list {
		if string(v) == "null" {
			return true
		}
	}
	return false
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(message) // an error here means that nobody listens
}
