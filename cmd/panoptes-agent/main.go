// Command panoptes-agent watches the host that it runs on.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"panoptes/internal/agentcli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := agentcli.Main(ctx, os.Args[1:], agentcli.OS())
	stop()
	os.Exit(code)
}
