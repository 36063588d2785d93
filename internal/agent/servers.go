package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"panoptes/internal/wire/uplink"
)

const maxServers = 64

// servers are all that are known, in the order in which this agent tries them:
// by hash, so that agents spread over the servers and, when one dies, over the
// others.
type servers struct {
	path string
	node string

	mu   sync.Mutex // guards list
	list []uplink.Server
}

func openServers(path, node string, given []uplink.Server) *servers {
	s := &servers{path: path, node: node}
	var known []uplink.Server
	if b, err := os.ReadFile(path); err == nil {
		_ = json.Unmarshal(b, &known) // damaged: those that were given
	}
	for _, g := range given {
		if !slices.ContainsFunc(known, func(k uplink.Server) bool { return k.Addr == g.Addr }) {
			known = append(known, g)
		}
	}
	s.list = s.order(known)
	return s
}

// order sorts what is usable.
func (s *servers) order(list []uplink.Server) []uplink.Server {
	var out []uplink.Server
	for _, v := range list {
		if _, _, err := net.SplitHostPort(v.Addr); err == nil && len(v.Addr) <= 512 && len(v.ID) <= 64 && len(out) < maxServers {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b uplink.Server) int { return cmp.Compare(s.score(b), s.score(a)) })
	return out
}

func (s *servers) score(v uplink.Server) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(cmp.Or(v.ID, v.Addr)))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(s.node))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

func (s *servers) all() []uplink.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// addrs are where servers answer.
func (s *servers) addrs() []string {
	var out []string
	for _, v := range s.all() {
		out = append(out, v.Addr)
	}
	return out
}

// set takes the list of a server and remembers it.
func (s *servers) set(list []uplink.Server) error {
	list = s.order(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(list) == 0 || slices.Equal(list, s.list) {
		return nil
	}
	s.list = list
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return writeFile(s.path, b)
}

// writeFile replaces a file whole.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// RememberServers keeps the addresses that were learned when joining, so that
// the agent finds them after a restart.
func RememberServers(dir string, list []uplink.Server) error {
	s := &servers{path: serversFile(dir)}
	return s.set(list)
}

func serversFile(dir string) string { return filepath.Join(dir, "servers.json") }
