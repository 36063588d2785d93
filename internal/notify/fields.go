package notify

import "slices"

// Field describes one setting of a receiver for editors and documentation.
type Field struct {
	Name     string            `json:"name"` // dotted for nested ones: "http_config.basic_auth.password"
	Type     string            `json:"type"` // string, text, int, float, bool, duration, enum, list, map, secret, object
	Default  string            `json:"default,omitempty"`
	Enum     []string          `json:"enum,omitempty"`
	Advanced bool              `json:"advanced,omitempty"`
	Label    map[string]string `json:"label"` // en, zh-CN
	Help     map[string]string `json:"help,omitempty"`
}

// Type describes a receiver type.
type Type struct {
	Name   string            `json:"name"`
	Label  map[string]string `json:"label"`
	Fields []Field           `json:"fields"`
}

// ReceiverTypes lists the receiver types with their main settings. Whatever
// else Alertmanager's configuration of a type knows is accepted as well.
func ReceiverTypes() []Type {
	own := ownFields()
	out := make([]Type, 0, len(Types))
	for _, name := range Types {
		t := Type{Name: name, Label: typeLabels()[name], Fields: own[name]}
		if name != "email" {
			for _, h := range httpFields() {
				if !slices.ContainsFunc(t.Fields, func(x Field) bool { return x.Name == h.Name }) {
					t.Fields = append(t.Fields, h)
				}
			}
		}
		t.Fields = append(t.Fields, f("send_resolved", "bool", "Tell about recoveries too", "恢复时也通知").def("true"))
		out = append(out, t)
	}
	return out
}

func typeLabels() map[string]map[string]string {
	return map[string]map[string]string{
		"webhook":    l("Webhook", "Webhook"),
		"email":      l("E-mail", "电子邮件"),
		"slack":      l("Slack", "Slack"),
		"telegram":   l("Telegram", "Telegram"),
		"wechat":     l("WeCom (application)", "企业微信应用"),
		"discord":    l("Discord", "Discord"),
		"msteamsv2":  l("Microsoft Teams (workflow)", "Microsoft Teams（工作流）"),
		"msteams":    l("Microsoft Teams (connector)", "Microsoft Teams（连接器）"),
		"pagerduty":  l("PagerDuty", "PagerDuty"),
		"opsgenie":   l("Opsgenie", "Opsgenie"),
		"pushover":   l("Pushover", "Pushover"),
		"victorops":  l("Splunk On-Call (VictorOps)", "Splunk On-Call（VictorOps）"),
		"sns":        l("Amazon SNS", "Amazon SNS"),
		"webex":      l("Webex", "Webex"),
		"jira":       l("Jira", "Jira"),
		"incidentio": l("incident.io", "incident.io"),
		"rocketchat": l("Rocket.Chat", "Rocket.Chat"),
		"mattermost": l("Mattermost", "Mattermost"),
	}
}

func l(en, zh string) map[string]string { return map[string]string{"en": en, "zh-CN": zh} }

func f(name, typ, en, zh string) Field { return Field{Name: name, Type: typ, Label: l(en, zh)} }

func (x Field) help(en, zh string) Field { x.Help = l(en, zh); return x }
func (x Field) def(v string) Field       { x.Default = v; return x }
func (x Field) adv() Field               { x.Advanced = true; return x }
func (x Field) enum(v ...string) Field   { x.Enum = v; return x }

func ownFields() map[string][]Field {
	title := f("title", "text", "Title (template)", "标题（模板）").adv()
	text := f("text", "text", "Text (template)", "正文（模板）").adv()
	message := f("message", "text", "Message (template)", "消息（模板）").adv()
	hook := func() Field {
		return f("webhook_url", "secret", "Webhook address", "Webhook 地址").help("As the channel's settings show it", "从频道设置中复制")
	}
	return map[string][]Field{
		"webhook": {
			f("url", "string", "Address", "地址").help("Gets a POST with JSON in Alertmanager's form", "以 Alertmanager 的 JSON 格式接收 POST"),
			f("timeout", "duration", "Time limit", "超时").def("15s").adv(),
			f("max_alerts", "int", "At most so many alerts a message", "每条消息的告警上限").def("0").adv(),
			f("payload", "object", "Own JSON (templates in texts)", "自定义 JSON（文本可用模板）").adv(),
		},
		"email": {
			f("to", "string", "To", "收件人").help("Addresses with commas between", "多个地址用逗号分隔"),
			f("from", "string", "From", "发件人"),
			f("smarthost", "string", "Mail server", "邮件服务器").help("host:port, for example smtp.example.com:587", "主机:端口，例如 smtp.example.com:587"),
			f("auth_username", "string", "User", "用户名"),
			f("auth_password", "secret", "Password", "密码"),
			f("require_tls", "bool", "Encryption is a must (STARTTLS)", "必须加密（STARTTLS）").def("true"),
			f("force_implicit_tls", "bool", "Encrypted from the first byte", "从连接开始即加密").help("By itself on port 465", "端口 465 自动启用").adv(),
			f("tls_config.insecure_skip_verify", "bool", "Accept any certificate", "接受任何证书").def("false").adv(),
			f("tls_config.ca", "text", "CA certificate (PEM)", "CA 证书（PEM）").adv(),
			f("auth_identity", "string", "Identity (PLAIN)", "身份（PLAIN）").adv(),
			f("auth_secret", "secret", "Secret (CRAM-MD5)", "密钥（CRAM-MD5）").adv(),
			f("hello", "string", "Name in the greeting", "问候主机名").def("localhost").adv(),
			f("headers", "map", "Headers, such as Subject and Cc", "邮件头，如 Subject、Cc").adv(),
			f("html", "text", "HTML (template)", "HTML（模板）").adv(), text,
		},
		"slack": {
			f("api_url", "secret", "Webhook address", "Webhook 地址"),
			f("channel", "string", "Channel", "频道").help("#channel or @person; needed with a token", "#频道 或 @用户；使用令牌时必填"),
			f("app_token", "secret", "App token, in place of the address", "应用令牌（代替地址）").adv(),
			f("username", "string", "Shown as", "显示名称").adv(), title, text,
			f("color", "string", "Colour", "颜色").adv(),
			f("icon_emoji", "string", "Icon", "图标").adv(),
		},
		"telegram": {
			f("bot_token", "secret", "Bot token", "机器人令牌"),
			f("chat_id", "int", "Chat id", "聊天 ID"),
			f("message_thread_id", "int", "Topic id", "话题 ID").adv(),
			f("api_url", "string", "Address of the API", "API 地址").def("https://api.telegram.org").adv(),
			f("parse_mode", "enum", "Format", "格式").enum("HTML", "Markdown", "MarkdownV2").def("HTML").adv(),
			f("disable_notifications", "bool", "Without sound", "静默发送").def("false").adv(), message,
		},
		"wechat": {
			f("corp_id", "string", "Corporation id", "企业 ID"),
			f("agent_id", "string", "Application id", "应用 AgentId"),
			f("api_secret", "secret", "Application secret", "应用 Secret"),
			f("to_user", "string", "To users", "成员").help("Ids with | between; @all for everybody", "多个用 | 分隔，@all 表示全部"),
			f("to_party", "string", "To departments", "部门").adv(),
			f("to_tag", "string", "To tags", "标签").adv(),
			f("message_type", "enum", "Format", "格式").enum("text", "markdown").def("text").adv(),
			f("api_url", "string", "Address of the API", "API 地址").def("https://qyapi.weixin.qq.com/cgi-bin/").adv(), message,
		},
		"discord": {
			hook(), f("username", "string", "Shown as", "显示名称").adv(), f("content", "text", "Line above (template)", "附加内容（模板）").adv(), title, message,
		},
		"msteamsv2": {hook(), title, text},
		"msteams":   {hook(), title, text, f("summary", "text", "Summary (template)", "摘要（模板）").adv()},
		"pagerduty": {
			f("routing_key", "secret", "Integration key (Events v2)", "集成密钥（Events v2）"),
			f("severity", "string", "Severity (template)", "级别（模板）").def("error").adv(),
			f("description", "text", "Description (template)", "描述（模板）").adv(),
			f("service_key", "secret", "Integration key (Prometheus)", "集成密钥（Prometheus）").adv(),
			f("url", "string", "Address of the API", "API 地址").def("https://events.pagerduty.com/v2/enqueue").adv(),
			f("class", "string", "Class", "类别").adv(), f("component", "string", "Component", "组件").adv(), f("group", "string", "Group", "分组").adv(),
			f("details", "map", "Details", "详情").adv(),
		},
		"opsgenie": {
			f("api_key", "secret", "API key", "API 密钥"),
			f("api_url", "string", "Address of the API", "API 地址").def("https://api.opsgenie.com/").help("https://api.eu.opsgenie.com/ in the EU", "欧盟为 https://api.eu.opsgenie.com/"),
			f("priority", "enum", "Priority", "优先级").enum("P1", "P2", "P3", "P4", "P5").adv(),
			f("tags", "string", "Tags", "标签").adv(), message, f("description", "text", "Description (template)", "描述（模板）").adv(),
			f("responders", "list", "Responders", "响应者").adv(),
		},
		"pushover": {
			f("user_key", "secret", "User key", "用户密钥"), f("token", "secret", "Application token", "应用令牌"),
			f("priority", "string", "Priority (template)", "优先级（模板）").adv(), f("device", "string", "Device", "设备").adv(), f("sound", "string", "Sound", "声音").adv(),
			f("retry", "duration", "Ring again after", "重复提醒间隔").def("1m").adv(), f("expire", "duration", "Ring for", "重复提醒时长").def("1h").adv(), title, message,
		},
		"victorops": {
			f("api_key", "secret", "API key", "API 密钥"), f("routing_key", "string", "Routing key", "路由键"),
			f("message_type", "string", "Type of firing alerts", "告警类型").def("CRITICAL").adv(),
			f("api_url", "string", "Address of the API", "API 地址").def("https://alert.victorops.com/integrations/generic/20131114/alert/").adv(),
		},
		"sns": {
			f("sigv4.region", "string", "Region", "区域"), f("sigv4.access_key", "string", "Access key", "访问密钥"), f("sigv4.secret_key", "secret", "Secret key", "私有密钥"),
			f("topic_arn", "string", "Topic ARN", "主题 ARN").help("Or a target ARN, or a phone number", "或目标 ARN、电话号码"),
			f("target_arn", "string", "Target ARN", "目标 ARN").adv(), f("phone_number", "string", "Phone number", "电话号码").adv(),
			f("sigv4.role_arn", "string", "Role ARN", "角色 ARN").adv(), f("api_url", "string", "Address of the API", "API 地址").adv(),
			f("subject", "text", "Subject (template)", "主题（模板）").adv(), message,
		},
		"webex": {
			f("room_id", "string", "Room id", "房间 ID"),
			f("http_config.authorization.credentials", "secret", "Bot token", "机器人令牌"),
			f("api_url", "string", "Address of the API", "API 地址").def("https://webexapis.com/v1/messages").adv(), message,
		},
		"jira": {
			f("api_url", "string", "Address of the API", "API 地址").help("https://example.atlassian.net/rest/api/3", "https://example.atlassian.net/rest/api/3"),
			f("project", "string", "Project", "项目"), f("issue_type", "string", "Issue type", "问题类型"),
			f("http_config.basic_auth.username", "string", "User", "用户名"), f("http_config.basic_auth.password", "secret", "API token", "API 令牌"),
			f("resolve_transition", "string", "Transition that resolves", "解决时的流转").adv(), f("reopen_transition", "string", "Transition that reopens", "重新打开时的流转").adv(),
			f("reopen_duration", "duration", "Reopen within", "重新打开期限").adv(), f("priority", "text", "Priority (template)", "优先级（模板）").adv(),
			f("labels", "list", "Labels", "标签").adv(), f("fields", "map", "Other fields", "其他字段").adv(),
		},
		"incidentio": {
			f("url", "string", "Address of the alert source", "告警源地址"), f("alert_source_token", "secret", "Token of the alert source", "告警源令牌"),
			f("timeout", "duration", "Time limit", "超时").adv(), f("max_alerts", "int", "At most so many alerts a message", "每条消息的告警上限").def("0").adv(),
		},
		"rocketchat": {
			f("api_url", "string", "Server", "服务器").def("https://open.rocket.chat/"), f("token_id", "secret", "User id", "用户 ID"), f("token", "secret", "Token", "令牌"),
			f("channel", "string", "Channel", "频道"), title, text, f("emoji", "string", "Icon", "图标").adv(),
		},
		"mattermost": {
			hook(), f("channel", "string", "Channel", "频道").adv(), f("username", "string", "Shown as", "显示名称").adv(), title, text,
		},
	}
}

// httpFields are the settings that all receivers over HTTP share.
func httpFields() []Field {
	return []Field{
		f("http_config.basic_auth.username", "string", "User (basic login)", "用户名（Basic）").adv(),
		f("http_config.basic_auth.password", "secret", "Password (basic login)", "密码（Basic）").adv(),
		f("http_config.authorization.credentials", "secret", "Bearer token", "Bearer 令牌").adv(),
		f("http_config.proxy_url", "string", "Proxy", "代理").adv(),
		f("http_config.tls_config.insecure_skip_verify", "bool", "Accept any certificate", "接受任何证书").def("false").adv(),
		f("http_config.tls_config.ca", "text", "CA certificate (PEM)", "CA 证书（PEM）").adv(),
	}
}
