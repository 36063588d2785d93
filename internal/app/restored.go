package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"panoptes/internal/backup"
	"panoptes/internal/model"
)

// besidePatience is how long a server on record has to answer one that was restored.
const besidePatience = 3 * time.Second

// besideOthers is an error when this directory was restored from a backup, was
// not started since, and servers of its cluster run. They would go on with their
// configuration and this one with another, under the same names and keys.
func (a *App) besideOthers(ctx context.Context) error {
	if _, err := os.Stat(a.cfg.Path(backup.QuietName)); err != nil {
		return nil // not restored, or it has run before
	}
	ctx, cancel := context.WithTimeout(ctx, besidePatience)
	defer cancel()
	nodes := a.fellowNodes()
	running := make([]bool, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { running[i] = a.runs(ctx, n) })
	}
	wg.Wait()
	var names []string
	for i, n := range nodes {
		if running[i] {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%w: this directory was restored from a backup, but servers of its cluster run (%s), and have a configuration of their own: to bring this server back, remove it at one of them with `panoptes node remove %s`, and join again with a new token and an empty data directory; to go back to the backup, stop them for good and start this one again",
		model.ErrConflict, strings.Join(names, ", "), a.cfg.Node)
}

// runs reports whether a server of this cluster answers where the node was last.
func (a *App) runs(ctx context.Context, n model.Node) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.Addresses.Cluster)
	if err != nil {
		return false
	}
	defer conn.Close() //nolint:errcheck // nothing was written
	return tls.Client(conn, a.pki.ClientTLS("")).HandshakeContext(ctx) == nil
}
