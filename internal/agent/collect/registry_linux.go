package collect

import (
	"panoptes/internal/agent/collect/disk"
	"panoptes/internal/agent/collect/kernel"
	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/network"
	"panoptes/internal/agent/collect/source"
)

func (c Config) proc() source.Tree { return source.Tree{Root: c.ProcFS} }
func (c Config) sys() source.Tree  { return source.Tree{Root: c.SysFS} }
func (c Config) root() source.Tree { return source.Tree{Root: c.RootFS} }
func (c Config) net() source.Tree  { return network.Tree(c.proc()) }

// registry lists the collectors of Linux, one a line.
func registry() []entry {
	return []entry{
		{Info{Name: "cpu", Default: true, EN: "processor time per core and mode, interrupts, context switches, boot time", ZH: "每核各模式的 CPU 时间、中断、上下文切换、启动时间"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewStat(c.proc()) }},
		{Info{Name: "loadavg", Default: true, EN: "load", ZH: "系统负载"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewLoad(c.proc()) }},
		{Info{Name: "meminfo", Default: true, EN: "memory and swap", ZH: "内存与交换空间"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewMeminfo(c.proc()) }},
		{Info{Name: "vmstat", Default: true, EN: "paging and out-of-memory kills", ZH: "换页与内存不足终止次数"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewVmstat(c.proc()) }},
		{Info{Name: "pressure", Default: true, EN: "time in which work waited for processor, memory or disk", ZH: "CPU、内存、磁盘压力(PSI)"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewPressure(c.proc()) }},
		{Info{Name: "filesystem", Default: true, EN: "size, free space and inodes of file systems", ZH: "文件系统容量、可用空间与 inode"},
			func(c Config, p patterns) metric.Collector {
				return disk.NewFilesystems(c.proc(), c.root(), p.mounts, p.fsTypes)
			}},
		{Info{Name: "diskstats", Default: true, EN: "disk input, output and latency", ZH: "磁盘读写与延迟"},
			func(c Config, p patterns) metric.Collector {
				return disk.NewStats(c.proc(), c.sys(), c.root(), p.disks)
			}},
		{Info{Name: "netdev", Default: true, EN: "traffic, errors and drops of network interfaces", ZH: "网络接口流量、错误与丢包"},
			func(c Config, p patterns) metric.Collector {
				return network.NewDevices(c.net(), c.sys(), p.interfaces)
			}},
		{Info{Name: "filefd", Default: true, EN: "open files", ZH: "打开的文件数"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewFiles(c.proc()) }},
		{Info{Name: "entropy", Default: true, EN: "randomness the kernel has", ZH: "内核熵"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewEntropy(c.proc()) }},
		{Info{Name: "kernel_hung", Default: true, EN: "tasks that hung", ZH: "挂起的任务数"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewHung(c.proc()) }},
		{Info{Name: "uname", Default: true, EN: "kernel and host name", ZH: "内核与主机名"},
			func(Config, patterns) metric.Collector { return kernel.NewUname() }},
		{Info{Name: "os", Default: true, EN: "distribution and version", ZH: "发行版与版本"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewOS(c.root()) }},
		{Info{Name: "time", Default: true, EN: "clock, zone and clock source", ZH: "系统时间、时区与时钟源"},
			func(c Config, _ patterns) metric.Collector { return kernel.NewTime(c.sys()) }},
		{Info{Name: "timex", Default: true, EN: "synchronisation of the clock", ZH: "时间同步状态"},
			func(Config, patterns) metric.Collector { return kernel.NewTimex() }},
	}
}
