//go:build !linux

package collect

import (
	"runtime"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/portable"
)

// registry lists the collectors of systems that gopsutil reads for us.
func registry() []entry {
	const goos = runtime.GOOS
	list := []entry{
		{Info{Name: "cpu", Default: true, EN: "processor time per core and mode", ZH: "每核各模式的 CPU 时间"},
			func(Config, patterns) metric.Collector { return portable.CPU(goos) }},
		{Info{Name: "meminfo", Default: true, EN: "memory and swap", ZH: "内存与交换空间"},
			func(Config, patterns) metric.Collector { return portable.Memory(goos) }},
		{Info{Name: "filesystem", Default: true, EN: "size and free space of file systems", ZH: "文件系统容量与可用空间"},
			func(_ Config, p patterns) metric.Collector { return portable.Filesystems(goos, p.mounts, p.fsTypes) }},
		{Info{Name: "diskstats", Default: true, EN: "disk input and output", ZH: "磁盘读写"},
			func(_ Config, p patterns) metric.Collector { return portable.Disks(goos, p.disks) }},
		{Info{Name: "netdev", Default: true, EN: "traffic, errors and drops of network interfaces", ZH: "网络接口流量、错误与丢包"},
			func(_ Config, p patterns) metric.Collector { return portable.Network(goos, p.interfaces) }},
		{Info{Name: "uname", Default: true, EN: "system, host name, boot time, number of processes", ZH: "系统、主机名、启动时间、进程数"},
			func(Config, patterns) metric.Collector { return portable.Uname(goos) }},
		{Info{Name: "time", Default: true, EN: "clock and zone", ZH: "系统时间与时区"},
			func(Config, patterns) metric.Collector { return portable.Time() }},
	}
	if goos != "windows" {
		list = append(list, entry{Info{Name: "loadavg", Default: true, EN: "load", ZH: "系统负载"},
			func(Config, patterns) metric.Collector { return portable.Load() }})
	}
	return list
}
