package scrape

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	commonconfig "github.com/prometheus/common/config"
	"github.com/stretchr/testify/require"
)

// The passage serves who has a secret, through the proxy that a job names, and
// nobody when the job is gone.
func TestPassage(t *testing.T) {
	target := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "found") }))
	t.Cleanup(target.Close)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "plain", r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(plain.Close)
	ctx, cancel := context.WithCancel(context.Background())
	quietly := slog.New(slog.DiscardHandler)
	start := func() (*passage, <-chan struct{}) {
		p, err := newPassage((&net.Dialer{}).DialContext, quietly)
		require.NoError(t, err)
		done := make(chan struct{})
		go func() { defer close(done); p.run(ctx) }()
		return p, done
	}
	p, done := start()
	other, otherDone := start() // stands for a proxy of somebody else
	t.Cleanup(func() { cancel(); <-done; <-otherDone })

	ask := func(u string, proxy commonconfig.ProxyConfig) (string, error) {
		tr := target.Client().Transport.(*http.Transport).Clone()
		tr.Proxy = proxy.Proxy()
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get(u)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(b)), err
	}
	secret, direct := p.open("a", commonconfig.ProxyConfig{})
	_, theirs := other.open("b", commonconfig.ProxyConfig{})
	_, chained := p.open("c", theirs)
	for _, proxy := range []commonconfig.ProxyConfig{direct, chained} {
		got, err := ask(target.URL, proxy)
		require.NoError(t, err)
		require.Equal(t, "200 found", got)
		got, err = ask(plain.URL, proxy)
		require.NoError(t, err)
		require.Equal(t, "200 plain", got, "the secret stays here")
	}
	stranger := direct
	stranger.ProxyURL.URL = &url.URL{Scheme: "http", Host: p.listen.Addr().String(), User: url.UserPassword("panoptes", "guess")}
	for _, proxy := range []commonconfig.ProxyConfig{{ProxyURL: stranger.ProxyURL}, {ProxyURL: commonconfig.URL{URL: &url.URL{Scheme: "http", Host: p.listen.Addr().String()}}}} {
		_, err := ask(target.URL, proxy)
		require.ErrorContains(t, err, "Proxy Authentication Required")
		got, err := ask(plain.URL, proxy)
		require.NoError(t, err)
		require.Contains(t, got, "407 ")
	}
	p.keep(map[string]bool{secret: true})
	got, err := ask(plain.URL, direct)
	require.NoError(t, err)
	require.Equal(t, "200 plain", got)
	got, err = ask(plain.URL, chained)
	require.NoError(t, err)
	require.Contains(t, got, "407 ", "its job is gone")
	got, err = ask("http://127.0.0.1:1/", direct)
	require.NoError(t, err)
	require.Contains(t, got, "502 ")
}
