// Package agentcli is the program of an agent: it reads the agent's own file
// and joins the parts. It is small on purpose: no part of a server is in it.
package agentcli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"panoptes/internal/model"
)

// version is set when the program is built.
var version = "dev"

// Streams are what the program reads and writes beside its data.
type Streams struct {
	Out, Err io.Writer
	Getenv   func(string) string
	Version  string // of the program that carries this one; empty: its own
}

// OS returns those of the process.
func OS() Streams { return Streams{Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv} }

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `Watches this host and sends what it finds to the servers.

  panoptes-agent --join HOST:9701 --token pnp1.…   the first time
  panoptes-agent                                   from then on
  panoptes-agent version

监控本机，并把结果发送给服务器。第一次启动需要 --join 和 --token，之后不再需要。

Options (also in the file of --config and as PANOPTES_<NAME>):
`

// Main runs the agent until ctx ends and returns the exit code.
func Main(ctx context.Context, args []string, s Streams) int {
	if s.Version == "" {
		s.Version = version
	}
	if len(args) > 0 && (args[0] == "version" || args[0] == "--version") {
		fmt.Fprintf(s.Out, "panoptes-agent %s %s/%s %s\n", s.Version, runtime.GOOS, runtime.GOARCH, runtime.Version())
		return exitOK
	}
	cfg, err := read(args, s)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(s.Err, "panoptes-agent:", err)
		return exitUsage
	}
	l, err := level(cfg.Log)
	if err != nil {
		fmt.Fprintln(s.Err, "panoptes-agent: log:", err)
		return exitUsage
	}
	log := slog.New(slog.NewTextHandler(s.Err, &slog.HandlerOptions{Level: l}))
	// A host has better uses for its memory and its processors.
	debug.SetGCPercent(30)
	debug.SetMemoryLimit(64 << 20)
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), 2))
	if err := launch(ctx, args, cfg, s, log); err != nil {
		fmt.Fprintln(s.Err, "panoptes-agent:", err)
		var inv model.Invalid
		if errors.As(err, &inv) {
			return exitUsage
		}
		return exitFailed
	}
	return exitOK
}

// read unites defaults, file, environment and flags; the later ones win.
func read(args []string, s Streams) (Config, error) {
	cfg := defaults()
	var given Config
	var labels, allow string
	var checks bool
	fs := flag.NewFlagSet("panoptes-agent", flag.ContinueOnError)
	fs.SetOutput(s.Err)
	fs.Usage = func() { fmt.Fprint(s.Err, usage); fs.PrintDefaults() }
	file := fs.String("config", s.Getenv("PANOPTES_CONFIG"), "`file` to read (default /etc/panoptes/agent.yml if it exists) / 配置文件")
	fs.StringVar(&given.Node, "node", "", "`name` of this host (default its host name) / 主机名称")
	fs.StringVar(&given.Region, "region", "", "`region` of this host / 所在区域")
	fs.StringVar(&given.DataDir, "data-dir", "", "`directory` of identity and buffer / 数据目录")
	fs.StringVar(&given.Join, "join", "", "`host:9701` of a server, the first time / 首次加入的服务器")
	token := fs.String("token", "", "`token` to join with / 加入令牌")
	fs.StringVar(&given.Proxy, "proxy", "", "`URL` of an HTTP proxy (default HTTPS_PROXY) / HTTP 代理")
	fs.StringVar(&given.Log, "log", "", "`level`: debug, info, warn, error / 日志级别")
	fs.TextVar(&given.Interval, "interval", model.Duration(0), "`time` between two rounds until a server says otherwise (default 15s) / 采集间隔")
	fs.StringVar(&labels, "labels", "", "`a=b,c=d` of this host / 主机标签")
	fs.BoolVar(&checks, "checks", false, "run checks from this place / 允许从本机执行检查")
	fs.StringVar(&allow, "allow", "", "`networks` that checks may reach, with commas (default all but private ones) / 检查可访问的网络")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("%q is not an option; see --help", fs.Arg(0))
	}
	if *file == "" {
		*file = findConfig()
	}
	if *file != "" {
		if err := cfg.fromFile(*file); err != nil {
			return cfg, err
		}
	}
	if err := cfg.fromEnvironment(s.Getenv); err != nil {
		return cfg, err
	}
	fs.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "node":
			cfg.Node = given.Node
		case "region":
			cfg.Region = given.Region
		case "data-dir":
			cfg.DataDir = given.DataDir
		case "join":
			cfg.Join = given.Join
		case "token":
			cfg.Token = model.Secret(*token)
		case "proxy":
			cfg.Proxy = given.Proxy
		case "log":
			cfg.Log = given.Log
		case "interval":
			cfg.Interval = given.Interval
		case "checks":
			cfg.Checks.Enabled = checks
		case "allow":
			cfg.Checks.Allow = joinList(allow)
		}
	})
	for _, p := range joinList(labels) {
		k, v, ok := cut(p)
		if !ok {
			return cfg, model.Invalid{{Field: "labels", Msg: fmt.Sprintf("%q is not name=value", p)}}
		}
		if cfg.Labels == nil {
			cfg.Labels = map[string]string{}
		}
		cfg.Labels[k] = v
	}
	return cfg, cfg.validate()
}
