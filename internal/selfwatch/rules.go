package selfwatch

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"panoptes/internal/model"
)

// Rule is one thing that is watched.
type Rule struct {
	Name      string         `json:"name"` // the label alertname
	Threshold float64        `json:"threshold,omitempty"`
	Unit      string         `json:"unit,omitempty"` // of Threshold: "%", "s", "h", "count"; empty: it has none
	Min       float64        `json:"min,omitempty"`  // of Threshold
	Max       float64        `json:"max,omitempty"`
	For       model.Duration `json:"for"`
	Severity  string         `json:"severity"`
	Level     string         `json:"level"` // of health that it concerns
	Title     Text           `json:"title"`
	Runbook   Text           `json:"runbook"` // what to do
}

// Text is a sentence in the languages of the pages.
type Text struct {
	EN string `json:"en"`
	ZH string `json:"zh-CN"`
}

// finding is one case of a rule.
type finding struct {
	server string            // whom it concerns, the label server
	labels map[string]string // further labels
	detail Text
}

// check looks for cases of a rule.
type check func(w *Watch, f *Facts, threshold float64) []finding

type ruleAndCheck struct {
	Rule
	check check
}

// caEnds is how early the end of the authority's certificate is told.
const caEnds = 30 * 24 * time.Hour

// rules is the list of all; it is built anew each time, so nobody can change it.
func rules() []ruleAndCheck {
	minutes := func(n int) model.Duration { return model.Duration(time.Duration(n) * time.Minute) }
	return []ruleAndCheck{
		{Rule{Name: "ServerUnavailable", For: minutes(2), Severity: "critical", Level: "L3",
			Title:   Text{"A server does not answer", "服务器无响应"},
			Runbook: Text{"Look whether its process runs and its network works; the others have taken over its work. A machine that is gone for good is removed with `panoptes node remove NAME`.", "请检查该服务器的进程与网络；其工作已由其他服务器接管。如果机器不再使用，请执行 `panoptes node remove NAME`。"}}, missingServers},
		{Rule{Name: "RelayLag", Threshold: 300, Unit: "s", Min: 1, Max: 172800, For: minutes(1), Severity: "warning", Level: "L4",
			Title:   Text{"Samples reach another server late", "样本延迟送达其他服务器"},
			Runbook: Text{"Look at the network to that server and at its disk; nothing is lost until the relay's log is full.", "请检查到该服务器的网络以及它的磁盘；在中继日志写满之前不会丢失数据。"}}, relayLag},
		{Rule{Name: "RelayDropped", Severity: "warning", Level: "L4",
			Title:   Text{"Samples for another server were dropped", "发往其他服务器的样本已被丢弃"},
			Runbook: Text{"The other server copies what it missed by itself when it is back; give the relay more room if it is away for long more often.", "该服务器恢复后会自行补齐缺失数据；若经常长时间离线，请增大中继日志空间。"}}, relayDropped},
		{Rule{Name: "HighCPU", Threshold: 80, Unit: "%", Min: 1, Max: 100, For: minutes(5), Severity: "warning", Level: "L1",
			Title:   Text{"The CPUs are busy", "CPU 使用率过高"},
			Runbook: Text{"Look which process uses them; fewer checks, rules or queries help, or a larger machine.", "请查看占用 CPU 的进程；可减少检查、规则或查询，或更换更大的机器。"}}, highCPU},
		{Rule{Name: "HighMemory", Threshold: 90, Unit: "%", Min: 1, Max: 100, For: minutes(5), Severity: "warning", Level: "L1",
			Title:   Text{"Memory is nearly used up", "内存即将用尽"},
			Runbook: Text{"Look for sources with many series and for large queries; give the machine or container more memory.", "请查找序列过多的数据来源与大型查询；或为机器或容器增加内存。"}}, highMemory},
		{Rule{Name: "DiskFilling", Threshold: 15, Unit: "%", Min: 1, Max: 90, For: minutes(1), Severity: "warning", Level: "L4",
			Title:   Text{"The disk fills up", "磁盘空间不足"},
			Runbook: Text{"Free space on the file system of the data directory, shorten the retention, or enlarge it; before it is full, writes are refused.", "请清理数据目录所在的文件系统、缩短保留时间或扩容；写满之前系统会拒绝写入。"}}, diskFilling},
		{Rule{Name: "ClockSkew", Threshold: 5, Unit: "s", Min: 0.1, Max: 3600, For: model.Duration(30 * time.Second), Severity: "warning", Level: "L4",
			Title:   Text{"A clock is wrong", "时钟不准"},
			Runbook: Text{"Let the machine keep its time by NTP (chrony, systemd-timesyncd); samples from a clock that is ahead are refused.", "请使用 NTP（chrony、systemd-timesyncd）校准时间；时钟超前的样本会被拒绝。"}}, clockSkew},
		{Rule{Name: "CertificateExpiring", Threshold: 8, Unit: "h", Min: 1, Max: 24, For: minutes(10), Severity: "critical", Level: "L2",
			Title:   Text{"A certificate of the cluster ends soon", "集群证书即将过期"},
			Runbook: Text{"Servers renew theirs by themselves: look into the log why not. The authority's is replaced with `panoptes node ca rotate`.", "服务器会自动续期证书：请在日志中查看失败原因。CA 证书请执行 `panoptes node ca rotate` 更换。"}}, certificates},
		{Rule{Name: "StoresDisagree", For: minutes(5), Severity: "warning", Level: "L4",
			Title:   Text{"The servers' stores differ", "各服务器的数据不一致"},
			Runbook: Text{"The comparison could not repair it: look at the disks of the servers and at the status of the copies.", "对比后未能自动修复：请检查各服务器磁盘与副本状态。"}}, storesDisagree},
		{Rule{Name: "StoreIncomplete", For: minutes(10), Severity: "warning", Level: "L4",
			Title:   Text{"A server's data are incomplete", "服务器数据不完整"},
			Runbook: Text{"It copies what it lacks from another server; queries are passed on until then. Look at the log when it does not get on.", "它正从其他服务器复制缺失的数据，期间查询会转发；若无进展请查看日志。"}}, storeIncomplete},
		{Rule{Name: "NotificationsFailing", Threshold: 3, Unit: "count", Min: 1, Max: 1000, Severity: "critical", Level: "L3",
			Title:   Text{"Notifications do not get through", "通知发送失败"},
			Runbook: Text{"Press the receiver's test button and correct its address or credentials; what is open is sent again by itself.", "请使用该通知渠道的测试功能，并修正地址或凭据；未送达的通知会自动重发。"}}, notificationsFailing},
		{Rule{Name: "NoCanary", Severity: "critical", Level: "L3",
			Title:   Text{"The test notification did not get through", "例行测试通知未送达"},
			Runbook: Text{"Warnings to this receiver may not get through either: test it and look at its last error.", "发往该渠道的告警也可能无法送达：请测试并查看最近的错误。"}}, noCanary},
		{Rule{Name: "ControlNoQuorum", For: minutes(1), Severity: "critical", Level: "L3",
			Title:   Text{"Configuration cannot be changed", "无法修改配置"},
			Runbook: Text{"Bring back the missing servers. If most are gone for good, see recovery from one survivor in the operations guide. Watching and warning go on.", "请恢复缺失的服务器；若多数服务器永久丢失，请参阅运维手册中的单节点恢复。监控与告警不受影响。"}}, noQuorum},
		{Rule{Name: "SplitSuspected", For: minutes(1), Severity: "critical", Level: "L3",
			Title:   Text{"The network between servers seems to be cut", "服务器之间的网络可能中断"},
			Runbook: Text{"Look at the network and the ports for gossip (UDP and TCP); both sides go on watching, and merge by themselves afterwards.", "请检查网络及 gossip 端口（UDP 与 TCP）；两侧均会继续监控，恢复后自动合并。"}}, split},
	}
}

// Rules returns all rules with their defaults.
func Rules() []Rule {
	var out []Rule
	for _, r := range rules() {
		out = append(out, r.Rule)
	}
	return out
}

func names() []string {
	var out []string
	for _, r := range rules() {
		out = append(out, r.Name)
	}
	return out
}

func find(name string) *Rule {
	for _, r := range rules() {
		if r.Name == name {
			return &r.Rule
		}
	}
	return nil
}

func text(en, zh string, args ...any) Text {
	return Text{fmt.Sprintf(en, args...), fmt.Sprintf(zh, args...)}
}

// short spells a duration for people.
func short(d time.Duration) string {
	if d.Abs() >= 10*time.Second {
		return d.Round(time.Second).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

func missingServers(w *Watch, f *Facts, _ float64) []finding {
	var out []finding
	for _, s := range f.missing(w.cfg.NodeID) {
		out = append(out, finding{server: s.Name, detail: text("%s does not answer.", "%s 无响应。", s.Name)})
	}
	return out
}

func relayLag(w *Watch, f *Facts, limit float64) []finding {
	var out []finding
	for _, d := range f.Relay {
		if d.Lag.Seconds() > limit {
			out = append(out, finding{server: w.cfg.Name, labels: map[string]string{"destination": d.Server},
				detail: text("%s is %s behind in delivering to %s.", "%[1]s 向 %[3]s 的投递已落后 %[2]s。", w.cfg.Name, short(d.Lag), d.Server)})
		}
	}
	return out
}

func relayDropped(w *Watch, f *Facts, _ float64) []finding {
	var out []finding
	for _, d := range f.Relay {
		if d.Dropped {
			out = append(out, finding{server: w.cfg.Name, labels: map[string]string{"destination": d.Server},
				detail: text("%[1]s had to drop samples for %[2]s, which was away for too long.", "%[2]s 离线过久，%[1]s 不得不丢弃发往它的样本。", w.cfg.Name, d.Server)})
		}
	}
	return out
}

func highCPU(w *Watch, _ *Facts, limit float64) []finding {
	if share, ok := w.cpu.mean(); ok && share*100 > limit {
		return []finding{{server: w.cfg.Name, detail: text("%s uses %.0f %% of its CPUs.", "%s 的 CPU 使用率为 %.0f%%。", w.cfg.Name, share*100)}}
	}
	return nil
}

func highMemory(w *Watch, _ *Facts, limit float64) []finding {
	if m := w.machine; m.hasMemory && m.Memory*100 > limit {
		return []finding{{server: w.cfg.Name, detail: text("%s uses %.0f %% of its memory.", "%s 的内存使用率为 %.0f%%。", w.cfg.Name, m.Memory*100)}}
	}
	return nil
}

func diskFilling(w *Watch, _ *Facts, limit float64) []finding {
	m := w.machine
	if !m.hasDisk {
		return nil
	}
	if m.DiskFree*100 < limit {
		return []finding{{server: w.cfg.Name, detail: text("%.1f %% of the disk of %s are free.", "%[2]s 的磁盘剩余 %.1[1]f%%。", m.DiskFree*100, w.cfg.Name)}}
	}
	if left, ok := w.disk.fullIn(); ok && left < 24*time.Hour {
		return []finding{{server: w.cfg.Name, detail: text("At this rate the disk of %s is full in %s.", "按当前速度，%s 的磁盘将在 %s 后写满。", w.cfg.Name, left.Round(time.Minute))}}
	}
	return nil
}

// clockSkew compares all clocks with the middle one. Of two it cannot tell which
// is wrong and names both.
func clockSkew(w *Watch, f *Facts, limit float64) []finding {
	if len(f.Skew) == 0 {
		return nil
	}
	ahead := maps.Clone(f.Skew)
	ahead[w.cfg.NodeID] = 0
	all := slices.Sorted(maps.Values(ahead))
	middle := (all[(len(all)-1)/2] + all[len(all)/2]) / 2
	var out []finding
	for _, id := range slices.Sorted(maps.Keys(ahead)) {
		off := ahead[id] - middle
		if len(all) == 2 {
			off = all[1] - all[0]
		}
		if off.Abs().Seconds() > limit {
			name := f.nameOf(id)
			if id == w.cfg.NodeID {
				name = w.cfg.Name
			}
			out = append(out, finding{server: name, detail: text("The clock of %s differs by %s from the others.", "%s 的时钟与其他服务器相差 %s。", name, short(off.Abs()))})
		}
	}
	return out
}

func certificates(w *Watch, f *Facts, hours float64) []finding {
	var out []finding
	for _, c := range f.Certificates {
		early := time.Duration(hours * float64(time.Hour))
		if c.Name == "ca" {
			early = caEnds
		}
		if left := time.Until(c.Expires); left < early {
			out = append(out, finding{server: w.cfg.Name, labels: map[string]string{"certificate": c.Name},
				detail: text("The certificate %q of %s ends in %s.", "%[2]s 的证书 %[1]q 将在 %[3]s 后过期。", c.Name, w.cfg.Name, left.Round(time.Minute))})
		}
	}
	return out
}

func storesDisagree(w *Watch, f *Facts, _ float64) []finding {
	if f.Mismatches == 0 {
		return nil
	}
	return []finding{{server: w.cfg.Name, detail: text("%[2]d windows of time in the store of %[1]s differ from other servers and could not be repaired.", "%[1]s 有 %[2]d 个时间段的数据与其他服务器不一致且未能修复。", w.cfg.Name, f.Mismatches)}}
}

func storeIncomplete(w *Watch, f *Facts, _ float64) []finding {
	if f.Incomplete == "" {
		return nil
	}
	return []finding{{server: w.cfg.Name, detail: text("The data of %s are incomplete: %s", "%s 的数据不完整：%s", w.cfg.Name, f.Incomplete)}}
}

func notificationsFailing(w *Watch, _ *Facts, limit float64) []finding {
	var out []finding
	for _, r := range w.deliveries.failing(int(limit)) {
		out = append(out, finding{server: w.cfg.Name, labels: map[string]string{"receiver": r.name},
			detail: text("The last %d notifications through %s failed: %s.", "通过 %[2]s 的最近 %[1]d 次通知均失败：%[3]s。", r.failures, r.name, r.err)})
	}
	return out
}

func noCanary(w *Watch, _ *Facts, _ float64) []finding {
	receiver, since, late, err := w.canary.late(time.Now())
	if !late {
		return nil
	}
	// The owner of the canary may change, the alert stays the same.
	return []finding{{server: "all", labels: map[string]string{"receiver": receiver},
		detail: text("No test notification has got through %s for %s. %s", "已有 %[2]s 没有测试通知成功送达 %[1]s。%[3]s", receiver, since.Round(time.Second), cmp.Or(err, "-"))}}
}

func noQuorum(w *Watch, f *Facts, _ float64) []finding {
	if f.Control == nil {
		return nil
	}
	return []finding{{server: w.cfg.Name, detail: text("%s cannot write configuration: %s", "%s 无法写入配置：%s", w.cfg.Name, f.Control)}}
}

// split is suspected when nobody answers, or when several servers are gone at
// once: machines rarely die in company.
func split(w *Watch, f *Facts, _ float64) []finding {
	gone := len(f.missing(w.cfg.NodeID))
	switch {
	case f.Isolated:
		return []finding{{server: w.cfg.Name, detail: text("%s reaches no other server.", "%s 无法连接任何其他服务器。", w.cfg.Name)}}
	case gone >= 2:
		return []finding{{server: w.cfg.Name, detail: text("%s reaches %d servers no more.", "%s 无法连接 %d 台服务器。", w.cfg.Name, gone)}}
	}
	return nil
}
