// Command panoptes is the whole system: server, demo and client commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"panoptes/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Main(ctx, os.Args[1:], cli.OS())
	stop()
	os.Exit(code)
}
