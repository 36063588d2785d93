package sample_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/smtp"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/sample"
)

// What the documents point at answers, and what is delivered shows in the inbox.
func TestTargetsServeWhatTheDocumentsName(t *testing.T) {
	dir := t.TempDir()
	s, err := sample.New(0, dir, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	var hook, smarthost string
	for _, d := range s.Documents("http://127.0.0.1:9700") {
		var spec struct {
			Name, Type, Target string
			Webhook            struct{ URL string }
			Email              struct{ Smarthost string }
		}
		require.NoError(t, json.Unmarshal(d.Spec, &spec))
		require.Equal(t, d.Name, spec.Name)
		require.NoError(t, model.CheckName(d.Name))
		if spec.Webhook.URL != "" {
			hook = spec.Webhook.URL
		}
		if spec.Email.Smarthost != "" {
			smarthost = spec.Email.Smarthost
		}
		if spec.Name == "Sample moody" {
			for _, down := range []bool{true, false} {
				s.Hold(down)
				resp, err := http.Get(spec.Target)
				require.NoError(t, err)
				resp.Body.Close()
				require.Equal(t, down, resp.StatusCode == http.StatusServiceUnavailable)
			}
		}
	}
	resp, err := http.Post(hook, "application/json", io.NopCloser(io.LimitReader(zeros{}, 2<<20)))
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
	require.NoError(t, smtp.SendMail(smarthost, nil, "a@sample.test", []string{"b@sample.test"}, []byte("Subject: hello\r\n\r\n<script>\r\n")))
	resp, err = http.Get(s.InboxURL())
	require.NoError(t, err)
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	require.Contains(t, string(page), "Subject: hello")
	require.NotContains(t, string(page), "<script>", "what strangers sent is escaped")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
