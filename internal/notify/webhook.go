package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	amalert "github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"
	amwebhook "github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/alertmanager/template"
	commoncfg "github.com/prometheus/common/config"
)

// webhook posts Alertmanager's JSON, version 4. Unlike the borrowed one it sends
// the header Idempotency-Key and reports what the other side answered.
type webhook struct {
	conf   *amwebhook.WebhookConfig
	tmpl   *template.Template
	log    *slog.Logger
	client *http.Client
}

func newWebhook(c *amwebhook.WebhookConfig, tmpl *template.Template, log *slog.Logger, opts ...commoncfg.HTTPClientOption) (*webhook, error) {
	client, err := commoncfg.NewClientFromConfig(*c.HTTPConfig, "webhook", opts...)
	if err != nil {
		return nil, err
	}
	if client.CheckRedirect == nil { // redirections are followed
		client.CheckRedirect = keepMethod
	}
	return &webhook{conf: c, tmpl: tmpl, log: log, client: client}, nil
}

// keepMethod follows a redirection only if the message goes along. A 301 or 302
// makes a GET without a body of it, and whatever page answers that would count
// as delivered.
func keepMethod(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("redirected ten times")
	}
	if req.Method != via[0].Method {
		return http.ErrUseLastResponse
	}
	return nil
}

// elsewhere says where a redirection leads. What stands in the address that was
// asked may be secret, and so may a query.
func elsewhere(resp *http.Response) string {
	u, err := resp.Location()
	if err != nil {
		return ""
	}
	asked := strings.FieldsFunc(resp.Request.URL.EscapedPath(), func(r rune) bool { return r == '/' })
	parts := strings.Split(u.EscapedPath(), "/")
	for i, p := range parts {
		if p != "" && slices.Contains(asked, p) {
			parts[i] = "…"
		}
	}
	to := u.Scheme + "://" + u.Host + strings.Join(parts, "/")
	if u.RawQuery != "" {
		to += "?…"
	}
	return to
}

// Notify implements Alertmanager's Notifier.
func (w *webhook) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	var truncated uint64
	if n := uint64(len(alerts)); w.conf.MaxAlerts > 0 && n > w.conf.MaxAlerts {
		truncated, alerts = n-w.conf.MaxAlerts, alerts[:w.conf.MaxAlerts]
	}
	data := amnotify.GetTemplateData(ctx, w.tmpl, alerts, w.log)
	key, _ := amnotify.GroupKey(ctx)
	var body any = &amwebhook.Message{Data: data, Version: "4", GroupKey: key, TruncatedAlerts: truncated}
	var err error
	if w.conf.Payload != nil {
		body, err = template.DeepCopyWithTemplate(w.conf.Payload, func(s string) (string, error) {
			return w.tmpl.ExecuteTextString(s, data)
		})
		if err != nil {
			return false, fmt.Errorf("render payload: %w", err)
		}
	}
	buf, err := json.Marshal(body)
	if err != nil {
		return false, fmt.Errorf("encode payload: %w", err)
	}
	target, err := w.tmpl.ExecuteTextString(string(w.conf.URL), data)
	if err != nil {
		return false, fmt.Errorf("render url: %w", err)
	}
	if target == "" {
		return false, errors.New("the url is empty after its template was applied")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(buf))
	if err != nil {
		return false, amnotify.RedactURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Panoptes")
	if id := idempotency(ctx); id != "" {
		req.Header.Set("Idempotency-Key", id)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return true, amnotify.RedactURL(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
	// A little more is read so that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 == 2 {
		return false, nil
	}
	err = fmt.Errorf("answered %s", resp.Status)
	if to := elsewhere(resp); resp.StatusCode/100 == 3 && to != "" {
		err = fmt.Errorf("answered %s: the message is not sent on to %s; configure the address that takes it as url", resp.Status, to)
	} else if s := strings.TrimSpace(string(bytes.ToValidUTF8(answer, []byte("?")))); s != "" {
		err = fmt.Errorf("answered %s: %s", resp.Status, s)
	}
	retry := resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout
	return retry, amnotify.NewErrorWithReason(amnotify.GetFailureReasonFromStatusCode(resp.StatusCode), err)
}
