package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"panoptes/internal/model"
)

// noManager says that there is nothing that restarts services of a kind.
func noManager(kind string) error {
	return fmt.Errorf("%w: a %s has no manager that could restart it", errors.ErrUnsupported, kind)
}

// dialedPorts finds out by connecting whether somebody listens.
type dialedPorts struct{}

// Status implements Manager.
func (dialedPorts) Status(caller context.Context, s model.HostService) (Status, error) {
	ctx, cancel := context.WithTimeout(caller, 2*time.Second)
	defer cancel()
	var last error
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, s.Name))
		if err == nil {
			_ = c.Close()
			return Status{Up: true}, nil
		}
		last = err
	}
	// Our own time is up: that says nothing of the port.
	if end, ok := caller.Deadline(); caller.Err() != nil || ok && !time.Now().Before(end) {
		return Status{}, fmt.Errorf("connect to port %s: %w", s.Name, last)
	}
	const wsaRefused = syscall.Errno(10061) // as Windows says it
	if errors.Is(last, syscall.ECONNREFUSED) || errors.Is(last, wsaRefused) || errors.Is(last, context.DeadlineExceeded) {
		return Status{Failed: true, Text: "nobody listens"}, nil
	}
	return Status{Failed: true, Text: last.Error()}, nil
}

// Restart implements Manager.
func (dialedPorts) Restart(context.Context, string) error { return noManager(model.ServicePort) }
