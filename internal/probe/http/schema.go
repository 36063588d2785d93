package http

import (
	"panoptes/internal/probe"
	"panoptes/internal/probe/tlsinfo"
)

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{
		Label:       probe.T("Web address (HTTP)", "网址（HTTP）"),
		Target:      probe.T("URL", "网址"),
		Placeholder: "https://www.example.com/",
	}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	t := probe.T
	fields := []probe.Field{
		{Name: "method", Type: "enum", Enum: methods, Default: "GET", Label: t("Method", "请求方法")},
		{Name: "expect_status", Type: "list", Default: "200-299", Label: t("Expected status", "期望状态码"), Help: t("Codes or ranges: 200-299, 404.", "状态码或范围：200-299、404。")},
		{Name: "expect_body", Type: "string", Label: t("Body contains", "正文包含"), Help: t("A keyword, or re: followed by a regular expression.", "关键字，或以 re: 开头的正则表达式。")},
		{Name: "reject_body", Type: "string", Label: t("Body does not contain", "正文不包含"), Help: t("A keyword, or re: followed by a regular expression.", "关键字，或以 re: 开头的正则表达式。")},
		{Name: "conditions", Type: "list", Label: t("Conditions", "条件"), Help: t("One per line: [STATUS] == 200, [RESPONSE_TIME] < 300, [BODY].a.b == x, len([BODY].list) > 0, [CERTIFICATE_EXPIRATION] > 48h. With degraded: in front, a miss does not count as down.", "每行一条：[STATUS] == 200、[RESPONSE_TIME] < 300、[BODY].a.b == x、len([BODY].list) > 0、[CERTIFICATE_EXPIRATION] > 48h。以 degraded: 开头时，不满足只算降级。")},
		{Name: "degraded_after", Type: "duration", Label: t("Degraded when slower than", "慢于此值视为降级")},
		{Name: "headers", Type: "map", Label: t("Headers", "请求头")},
		{Name: "secret_headers", Type: "map", Advanced: true, Label: t("Secret headers", "机密请求头"), Help: t("Never shown again, and not sent to other hosts.", "保存后不再显示，且不会发送到其他主机。")},
		{Name: "secret_headers.*", Type: "secret", Advanced: true, Label: t("Secret header", "机密请求头")},
		{Name: "body", Type: "text", Label: t("Body", "请求正文")},
		{Name: "expect_headers", Type: "map", Advanced: true, Label: t("Expected headers", "期望响应头")},
		{Name: "expect_json", Type: "object", Advanced: true, Label: t("Expected JSON", "期望 JSON"), Help: t("A list of {path, op, value}; op is one of == != < <= > >= contains exists.", "{path, op, value} 列表；op 为 == != < <= > >= contains exists 之一。")},
		{Name: "max_redirects", Type: "int", Default: "10", Advanced: true, Label: t("Redirects to follow", "最大重定向次数")},
		{Name: "basic_auth.username", Type: "string", Advanced: true, Label: t("User name", "用户名")},
		{Name: "basic_auth.password", Type: "secret", Advanced: true, Label: t("Password", "密码")},
		{Name: "bearer_token", Type: "secret", Advanced: true, Label: t("Bearer token", "Bearer 令牌")},
		{Name: "oauth2.token_url", Type: "string", Advanced: true, Label: t("OAuth 2 token URL", "OAuth 2 令牌地址")},
		{Name: "oauth2.client_id", Type: "string", Advanced: true, Label: t("OAuth 2 client id", "OAuth 2 客户端 ID")},
		{Name: "oauth2.client_secret", Type: "secret", Advanced: true, Label: t("OAuth 2 client secret", "OAuth 2 客户端密钥")},
		{Name: "oauth2.scopes", Type: "list", Advanced: true, Label: t("OAuth 2 scopes", "OAuth 2 范围")},
		{Name: "oauth2.audience", Type: "string", Advanced: true, Label: t("OAuth 2 audience", "OAuth 2 受众")},
		{Name: "proxy.url", Type: "string", Advanced: true, Label: t("Proxy (http, https, socks5)", "代理（http、https、socks5）")},
		{Name: "proxy.username", Type: "string", Advanced: true, Label: t("Proxy user", "代理用户名")},
		{Name: "proxy.password", Type: "secret", Advanced: true, Label: t("Proxy password", "代理密码")},
		{Name: "ip_family", Type: "enum", Enum: probe.Families, Default: probe.FamilyAuto, Advanced: true, Label: t("IP family", "IP 协议族")},
		{Name: "max_body_bytes", Type: "int", Default: "1048576", Advanced: true, Label: t("Bytes of the body to read", "读取正文的最大字节数")},
	}
	return append(fields, tlsinfo.Fields()...)
}
