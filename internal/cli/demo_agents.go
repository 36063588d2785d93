package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"panoptes/internal/run"
)

// startAgents brings up an agent in the region of each server, under names of
// hosts that do not exist.
func (d *demo) startAgents(ctx context.Context, wg *sync.WaitGroup) error {
	var token struct {
		Token string `json:"token"`
	}
	if err := d.post(ctx, "/v1/tokens", map[string]any{"role": "agent", "uses": d.count}, &token); err != nil {
		return fmt.Errorf("make a token for agents: %w", err)
	}
	for i := range d.count {
		wg.Go(func() { d.keepAgent(ctx, i, token.Token) })
	}
	return nil
}

// keepAgent runs one agent and starts it again when it was killed.
func (d *demo) keepAgent(ctx context.Context, i int, token string) {
	name := "host-" + demoRegions[i]
	for ctx.Err() == nil {
		log := &tail{}
		cmd := d.agent(ctx, i, name, token, log)
		if err := cmd.Start(); err != nil {
			d.say("agent %s not started: %v", name, err)
			return
		}
		d.say("  %s is process %d", name, cmd.Process.Pid)
		err := cmd.Wait()
		if ctx.Err() != nil {
			return
		}
		d.say("%s ended (%v); it is started again in %s\n%s", name, err, demoRestart, log)
		select {
		case <-ctx.Done():
		case <-time.After(demoRestart):
		}
	}
}

func (d *demo) agent(ctx context.Context, i int, name, token string, log io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.bin, "agent", "--join", "127.0.0.1:"+strconv.Itoa(9701+d.offset), "--token", token,
		"--node", name, "--region", demoRegions[i], "--labels", "demo=yes", "--interval", "5s", "--data-dir", filepath.Join(d.dir, name), "--log", "warn")
	cmd.Env = append([]string{}, d.env...)
	cmd.Env = append(cmd.Env, "PANOPTES_CONFIG=")
	cmd.Stdout, cmd.Stderr = io.Discard, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 15 * time.Second
	run.EndWithParent(cmd)
	return cmd
}
