package sample

import (
	"encoding/json"
	"maps"

	"panoptes/internal/model"
)

// Documents lists records that watch the sample targets and the server itself
// at url, and send what they find to the inbox.
func (t *Targets) Documents(url string) []model.Document {
	site, secure := "http://"+t.http.Addr().String(), "https://"+t.https.Addr().String()
	check := func(name, typ, target string, more map[string]any) model.Document {
		spec := map[string]any{"name": name, "type": typ, "target": target, "interval": "10s", "timeout": "3s"}
		maps.Copy(spec, more)
		return document(model.KindCheck, name, spec)
	}
	labels := func(team string) map[string]string { return map[string]string{"team": team} }
	return []model.Document{
		check("Panoptes", "http", url+"/-/ready", map[string]any{"labels": labels("ops"), "description": "This server itself."}),
		check("Sample shop", "http", site+"/", map[string]any{"labels": labels("shop"), "http": map[string]any{"expect_body": "operational"}}),
		check("Sample shop API", "http", site+"/api/status", map[string]any{"labels": labels("shop"), "parent": "Sample shop",
			"http": map[string]any{"expect_json": []map[string]any{{"path": "status", "op": "==", "value": "ok"}, {"path": "queue.length", "op": "<", "value": 100}}}}),
		check("Sample moody", "http", site+"/moody", map[string]any{"labels": labels("shop"), "description": "Fails for 90 seconds every ten minutes."}),
		check("Sample slow", "http", site+"/slow", map[string]any{"labels": labels("shop"), "severity": "warning", "description": "Its answer time rises and falls.", "http": map[string]any{"degraded_after": "600ms"}}),
		check("Sample HTTPS", "http", secure+"/", map[string]any{"labels": labels("web"), "http": map[string]any{"tls": map[string]any{"ca": string(t.ca), "min_days_left": 14}}}),
		check("Sample certificate", "tls", t.https.Addr().String(), map[string]any{"labels": labels("web"), "interval": "1m", "tls": map[string]any{"ca": string(t.ca), "server_name": "localhost", "min_days_left": 14}}),
		check("Sample TCP", "tcp", t.tcp.Addr().String(), map[string]any{"labels": labels("ops")}),
		check("Sample DNS", "dns", "www.sample.test", map[string]any{"labels": labels("ops"), "dns": map[string]any{"resolvers": []string{t.dnsUDP.LocalAddr().String()}, "record_type": "A"}}),
		check("Loopback ping", "icmp", "127.0.0.1", map[string]any{"labels": labels("ops")}),
		document(model.KindReceiver, "sample-webhook", map[string]any{"type": "webhook", "description": "The inbox of the sample site.", "webhook": map[string]any{"url": site + "/hook"}}),
		document(model.KindReceiver, "sample-mail", map[string]any{"type": "email", "description": "The inbox of the sample site, by mail.",
			"email": map[string]any{"to": "ops@sample.test", "from": "panoptes@sample.test", "smarthost": t.smtp.Addr().String(), "require_tls": false}}),
		document(model.KindRoute, "default", map[string]any{"receiver": "sample-webhook", "group_by": []string{"alertname", "check"}, "group_wait": "0s", "group_interval": "5s", "repeat_interval": "4h"}),
		document(model.KindRoute, "mail", map[string]any{"parent": "default", "receiver": "sample-mail", "matchers": []string{`severity="critical"`}, "continue": true, "position": 1}),
		document(model.KindRoute, "webhook", map[string]any{"parent": "default", "receiver": "sample-webhook", "position": 2}),
	}
}

func document(kind, name string, spec map[string]any) model.Document {
	spec["name"] = name
	b, err := json.Marshal(spec)
	if err != nil {
		// Maps of strings and numbers are always encodable.
		panic(err)
	}
	return model.Document{Kind: kind, Name: name, Spec: b}
}
