package collect

import (
	"time"

	"golang.org/x/sys/unix"

	"panoptes/internal/agent/collect/container"
	"panoptes/internal/agent/collect/disk"
	"panoptes/internal/agent/collect/host"
	"panoptes/internal/agent/collect/kernel"
	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/network"
	"panoptes/internal/agent/collect/process"
	"panoptes/internal/agent/collect/sensor"
	"panoptes/internal/agent/collect/source"
	"panoptes/internal/agent/collect/systemd"
	"panoptes/internal/agent/collect/textfile"
)

func (c Config) proc() source.Tree { return source.Tree{Root: c.ProcFS} }
func (c Config) sys() source.Tree  { return source.Tree{Root: c.SysFS} }
func (c Config) root() source.Tree { return source.Tree{Root: c.RootFS} }
func (c Config) net() source.Tree  { return network.Tree(c.proc()) }

// registry lists the collectors of Linux. The text files come last: they may
// not speak for another.
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
		{Info{Name: "netclass", Default: true, EN: "properties and state of network interfaces", ZH: "网络接口属性与状态"},
			func(c Config, p patterns) metric.Collector { return network.NewClass(c.sys(), p.interfaces) }},
		{Info{Name: "bonding", Default: true, EN: "bonded interfaces", ZH: "网卡绑定"},
			func(c Config, _ patterns) metric.Collector { return network.NewBonding(c.sys()) }},
		{Info{Name: "netstat", Default: true, EN: "counters of IP, TCP, UDP and ICMP", ZH: "IP、TCP、UDP、ICMP 协议计数"},
			func(c Config, _ patterns) metric.Collector { return network.NewProtocols(c.net()) }},
		{Info{Name: "sockstat", Default: true, EN: "sockets in use", ZH: "套接字使用情况"},
			func(c Config, _ patterns) metric.Collector { return network.NewSockets(c.net()) }},
		{Info{Name: "softnet", Default: true, EN: "how processors handle incoming packets", ZH: "各 CPU 收包处理情况"},
			func(c Config, _ patterns) metric.Collector { return network.NewSoftnet(c.net()) }},
		{Info{Name: "conntrack", Default: true, EN: "tracked connections", ZH: "连接跟踪"},
			func(c Config, _ patterns) metric.Collector { return network.NewConntrack(c.proc(), c.net()) }},
		{Info{Name: "arp", Default: true, EN: "entries of the ARP table", ZH: "ARP 表项数"},
			func(c Config, p patterns) metric.Collector { return network.NewNeighbours(c.net(), p.interfaces) }},
		{Info{Name: "udp_queues", Default: true, EN: "bytes that wait in UDP sockets", ZH: "UDP 队列积压"},
			func(c Config, _ patterns) metric.Collector { return network.NewQueues(c.net()) }},
		{Info{Name: "tcpstat", Default: true, EN: "TCP connections by state", ZH: "各状态 TCP 连接数"},
			func(Config, patterns) metric.Collector { return network.NewTCP() }},
		{Info{Name: "processes", Default: true, EN: "processes and threads by state, the names that use the most, watched processes", ZH: "进程与线程状态、资源占用最多的进程、关注的进程"},
			newProcesses},
		{Info{Name: "container", Default: true, EN: "processor, memory, disk and network of containers", ZH: "容器的 CPU、内存、磁盘与网络"},
			newContainers},
		{Info{Name: "hwmon", Default: true, EN: "temperatures, fans, voltages and power", ZH: "温度、风扇、电压与功率"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewHwmon(c.sys()) }},
		{Info{Name: "thermal_zone", Default: true, EN: "thermal zones and cooling", ZH: "温区与散热"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewThermal(c.sys()) }},
		{Info{Name: "powersupplyclass", Default: true, EN: "batteries and mains", ZH: "电池与电源"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewPower(c.sys()) }},
		{Info{Name: "cpufreq", Default: true, EN: "frequencies and throttling of processors", ZH: "CPU 频率与降频"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewFrequency(c.sys()) }},
		{Info{Name: "rapl", Default: true, EN: "energy used by processors", ZH: "CPU 能耗"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewEnergy(c.sys()) }},
		{Info{Name: "edac", Default: true, EN: "errors of memory modules", ZH: "内存纠错(EDAC)"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewMemoryErrors(c.sys()) }},
		{Info{Name: "nvme", Default: true, EN: "NVMe disks", ZH: "NVMe 磁盘信息"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewNVMe(c.sys()) }},
		{Info{Name: "drm", Default: true, EN: "graphics cards by /sys", ZH: "显卡(sysfs)"},
			func(c Config, _ patterns) metric.Collector { return sensor.NewGraphics(c.sys()) }},
		{Info{Name: "mdadm", Default: true, EN: "software RAID", ZH: "软件 RAID"},
			func(c Config, _ patterns) metric.Collector { return disk.NewMD(c.proc(), c.sys()) }},
		{Info{Name: "zfs", Default: true, EN: "ZFS caches and pools", ZH: "ZFS 缓存与存储池"},
			func(c Config, _ patterns) metric.Collector { return disk.NewZFS(c.proc()) }},
		{Info{Name: "dmi", Default: true, EN: "maker and model of the host", ZH: "主机厂商与型号"},
			func(c Config, _ patterns) metric.Collector { return host.NewDMI(c.sys()) }},
		{Info{Name: "selinux", Default: true, EN: "whether SELinux is on", ZH: "SELinux 状态"},
			func(c Config, _ patterns) metric.Collector { return host.NewSELinux(c.sys(), c.root()) }},
		{Info{Name: "logind", Default: true, EN: "users who are logged in", ZH: "登录用户"},
			func(c Config, _ patterns) metric.Collector { return host.NewUsers(c.root()) }},
		{Info{Name: "systemd", Default: true, Every: 15 * time.Second, EN: "state and restarts of systemd units", ZH: "systemd 单元状态与重启次数"},
			func(c Config, p patterns) metric.Collector { return systemd.New(c.RootFS, p.unitsIn, p.unitsEx) }},
		{Info{Name: "nvidia", Default: true, Every: time.Minute, EN: "NVIDIA graphics cards by nvidia-smi", ZH: "NVIDIA 显卡(nvidia-smi)"},
			func(Config, patterns) metric.Collector { return sensor.NewNvidia(source.Run) }},
		{Info{Name: "smart", Default: true, Every: 30 * time.Minute, EN: "health of disks by smartctl", ZH: "磁盘健康(smartctl)"},
			func(Config, patterns) metric.Collector { return disk.NewSmart(source.Run) }},
		{Info{Name: "updates", Default: true, Every: time.Hour, EN: "pending updates, reboot required", ZH: "待安装更新、是否需要重启"},
			newUpdates},
		{Info{Name: "paths", Default: true, Every: time.Minute, EN: "size of chosen files and directories", ZH: "指定文件与目录的大小"},
			newPaths},
		{Info{Name: "textfile", Default: true, EN: "metrics that scripts leave in files", ZH: "脚本写入的指标文件"},
			func(c Config, _ patterns) metric.Collector { return textfile.New(c.TextfileDir) }},
	}
}

func newProcesses(c Config, p patterns) metric.Collector {
	groups := make([]process.Group, len(c.Watch))
	for i, w := range c.Watch {
		groups[i] = process.Group{Name: w.Name, Match: p.watch[i]}
	}
	return process.New(c.proc(), groups, c.TopN)
}

func newContainers(c Config, _ patterns) metric.Collector {
	var names *container.Names
	if len(c.ContainerSockets) > 0 {
		names = container.NewNames(c.ContainerSockets)
	}
	return container.New(c.proc(), c.sys(), names)
}

func newUpdates(c Config, _ patterns) metric.Collector {
	if c.RootFS != "/" {
		return nil // the package manager in reach is not the host's
	}
	var u unix.Utsname
	_ = unix.Uname(&u)
	return host.NewUpdates(c.root(), source.Run, unix.ByteSliceToString(u.Release[:]))
}

func newPaths(c Config, _ patterns) metric.Collector {
	if len(c.Paths) == 0 {
		return nil
	}
	return host.NewPaths(c.root(), c.Paths)
}
