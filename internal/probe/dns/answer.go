package dns

import (
	"encoding/json"
	"strings"

	mdns "github.com/miekg/dns"

	"panoptes/internal/probe"
	"panoptes/internal/probe/tlsinfo"
)

func (e expectation) match(answer string) bool {
	if e.re != nil {
		return e.re.Match([]byte(answer))
	}
	return strings.EqualFold(strings.TrimSuffix(e.text, "."), strings.TrimSuffix(answer, "."))
}

// shorten lists answers in one line.
func shorten(answers []string) string {
	if len(answers) == 0 {
		return "no answers"
	}
	return probe.Line(strings.Join(answers[:min(len(answers), 10)], ", "))
}

func jsonList(answers []string) []byte {
	if answers == nil {
		answers = []string{}
	}
	b, err := json.Marshal(answers)
	if err != nil {
		return []byte("[]")
	}
	return b
}

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{Label: probe.T("DNS lookup", "DNS 查询"), Target: probe.T("Name to look up", "要查询的域名"), Placeholder: "www.example.com"}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	t := probe.T
	return append([]probe.Field{
		{Name: "record_type", Type: "enum", Enum: types, Default: "A", Label: t("Record type", "记录类型")},
		{Name: "resolvers", Type: "list", Label: t("Resolvers", "DNS 服务器"), Help: t("host or host:port, asked in turn; empty uses the system's.", "主机或 主机:端口，依次询问；留空则使用系统设置。")},
		{Name: "protocol", Type: "enum", Enum: protocols, Default: "udp", Label: t("Protocol", "协议")},
		{Name: "expect_answer", Type: "list", Label: t("Expected answers", "期望应答"), Help: t("Exact values, or re: followed by a regular expression.", "精确值，或以 re: 开头的正则表达式。")},
		{Name: "expect_answer_by", Type: "enum", Enum: []string{"any", "all"}, Default: "any", Advanced: true, Label: t("How answers are compared", "应答比较方式"), Help: t("any: each expected value is among the answers. all: each answer is among the expected values.", "any：每个期望值都在应答中；all：每个应答都在期望值中。")},
		{Name: "expect_rcode", Type: "string", Default: "NOERROR", Advanced: true, Label: t("Expected response code", "期望响应码")},
		{Name: "min_answers", Type: "int", Default: "1", Advanced: true, Label: t("Least number of answers", "最少应答数")},
		{Name: "conditions", Type: "list", Advanced: true, Label: t("Conditions", "条件"), Help: t("[BODY] is the list of answers: len([BODY]) >= 2, [BODY][0] == 192.0.2.1, [DNS_RCODE] == NOERROR.", "[BODY] 为应答列表：len([BODY]) >= 2、[BODY][0] == 192.0.2.1、[DNS_RCODE] == NOERROR。")},
		{Name: "no_recursion", Type: "bool", Default: "false", Advanced: true, Label: t("Do not ask for recursion", "不请求递归")},
		{Name: "degraded_after", Type: "duration", Label: t("Degraded when slower than", "慢于此值视为降级")},
	}, tlsinfo.Fields()...)
}

// additional counts the additional records without OPT, which answers our own:
// blackbox_exporter sends none, and gets none.
func additional(m *mdns.Msg) int {
	n := 0
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != mdns.TypeOPT {
			n++
		}
	}
	return n
}
