//go:build fault && linux

package fault

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// What the rows rely on does what its name says: a test that breaks nothing
// proves nothing.

func TestMechanismNetwork(t *testing.T) {
	n := harness.NewNetwork(t)
	a, b := n.Host("a"), n.Host("b")
	listen := func(h *harness.Host) net.Listener {
		var l net.Listener
		require.NoError(t, h.Do(func() (err error) {
			l, err = net.Listen("tcp4", h.IP+":80")
			return err
		}))
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(c, c)
			}
		}()
		t.Cleanup(func() { l.Close() })
		return l
	}
	listen(a)
	listen(b)
	world, err := net.Listen("tcp4", "0.0.0.0:80")
	require.NoError(t, err)
	defer world.Close()
	// What must arrive has time; nobody waits for long for what must not.
	wait := map[bool]time.Duration{true: 20 * time.Second, false: 300 * time.Millisecond}
	dial := func(from *harness.Host, to string, want bool) (c net.Conn, err error) {
		err = from.Do(func() error {
			c, err = net.DialTimeout("tcp4", to+":80", wait[want])
			return err
		})
		if c != nil {
			t.Cleanup(func() { c.Close() })
		}
		return c, err
	}
	reaches := func(from *harness.Host, to string, want bool) {
		t.Helper()
		_, err := dial(from, to, want)
		require.Equal(t, want, err == nil, "%s to %s: %v", from.Name, to, err)
	}
	echoes := func(c net.Conn, want bool) bool {
		if _, err := c.Write([]byte("x")); err != nil {
			return false
		}
		require.NoError(t, c.SetReadDeadline(time.Now().Add(wait[want])))
		_, err := c.Read(make([]byte, 1))
		return err == nil
	}
	udp := func(h *harness.Host) net.PacketConn {
		var pc net.PacketConn
		require.NoError(t, h.Do(func() (err error) {
			pc, err = net.ListenPacket("udp4", h.IP+":90")
			return err
		}))
		t.Cleanup(func() { pc.Close() })
		return pc
	}
	ua, ub := udp(a), udp(b)
	heard := func(from, to net.PacketConn, want bool) bool {
		_, err := from.WriteTo([]byte("x"), to.LocalAddr())
		if err != nil {
			return false
		}
		require.NoError(t, to.SetReadDeadline(time.Now().Add(wait[want])))
		_, _, err = to.ReadFrom(make([]byte, 8))
		return err == nil
	}

	reaches(a, b.IP, true)
	reaches(b, a.IP, true)
	reaches(a, harness.WorldAddr(1), true)
	reaches(b, harness.WorldAddr(600), true)
	old, err := dial(a, b.IP, true)
	require.NoError(t, err)
	require.True(t, echoes(old, true))

	n.Cut([]string{a.IP}, []string{b.IP})
	reaches(a, b.IP, false)
	reaches(b, a.IP, false)
	require.False(t, echoes(old, false), "a connection that was open before the cut")
	reaches(a, harness.WorldAddr(1), true)
	c, err := net.DialTimeout("tcp4", a.IP+":80", 20*time.Second)
	require.NoError(t, err, "the test itself is never cut off")
	c.Close()
	n.Heal([]string{a.IP}, []string{b.IP})
	reaches(a, b.IP, true)
	require.Eventually(t, func() bool { return echoes(old, true) }, time.Minute, 100*time.Millisecond, "TCP repeats what was lost")

	require.True(t, heard(ua, ub, true))
	n.CutOneWay([]string{a.IP}, []string{b.IP})
	require.False(t, heard(ua, ub, false))
	require.True(t, heard(ub, ua, true))
	n.HealOneWay([]string{a.IP}, []string{b.IP})
	require.True(t, heard(ua, ub, true))

	n.Cut([]string{a.IP}, []string{harness.World})
	reaches(a, harness.WorldAddr(1), false)
	reaches(b, harness.WorldAddr(1), true)
	n.Cut([]string{b.IP}, []string{harness.WorldAddr(2)})
	reaches(b, harness.WorldAddr(2), false)
	reaches(b, harness.WorldAddr(1), true)
	n.HealAll()
	reaches(a, harness.WorldAddr(1), true)
	reaches(b, harness.WorldAddr(2), true)
}

func TestMechanismDisk(t *testing.T) {
	d := harness.NewDisk(t, t.TempDir(), "disk", "256M")
	write := func(name string, sync bool) {
		f, err := os.Create(filepath.Join(d.Dir, name))
		require.NoError(t, err)
		_, err = f.Write(make([]byte, 1<<16))
		require.NoError(t, err)
		if sync {
			require.NoError(t, f.Sync())
			dir, err := os.Open(d.Dir)
			require.NoError(t, err)
			require.NoError(t, dir.Sync())
			require.NoError(t, dir.Close())
		}
		require.NoError(t, f.Close())
	}
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join(d.Dir, name))
		if err != nil {
			return -1
		}
		return info.Size()
	}
	write("synced", true)
	write("unsynced", false)
	d.Cut()
	require.Error(t, os.WriteFile(filepath.Join(d.Dir, "later"), nil, 0o600))
	d.Remount()
	require.EqualValues(t, 1<<16, size("synced"))
	require.Less(t, size("unsynced"), int64(1<<16), "what was not synced is lost, or this is no power cut")

	d.Fill(1 << 20)
	require.LessOrEqual(t, d.Free(), int64(1<<20))
	d.Fill(0)
	require.ErrorIs(t, os.WriteFile(filepath.Join(d.Dir, "more"), make([]byte, 1<<20), 0o600), syscall.ENOSPC)
	d.Unfill()
	require.NoError(t, os.WriteFile(filepath.Join(d.Dir, "more"), make([]byte, 1<<20), 0o600))
}

func TestMechanismPause(t *testing.T) {
	cmd := exec.Command("sh", "-c", "while :; do echo; done")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	p := &process{cmd: cmd}
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)
	p.pause()
	require.Eventually(t, func() bool { return p.state(t) == 'T' }, 30*time.Second, 5*time.Millisecond)
	p.resume()
	require.Eventually(t, func() bool { return p.state(t) != 'T' }, 30*time.Second, 5*time.Millisecond)
}

func TestMechanismSlowLink(t *testing.T) {
	n := harness.NewNetwork(t)
	a, b := n.Host("a"), n.Host("b")
	var l net.Listener
	require.NoError(t, b.Do(func() (err error) {
		l, err = net.Listen("tcp4", b.IP+":80")
		return err
	}))
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	var c net.Conn
	require.NoError(t, a.Do(func() (err error) {
		c, err = net.DialTimeout("tcp4", b.IP+":80", 20*time.Second)
		return err
	}))
	defer c.Close()
	trip := func() time.Duration {
		began := time.Now()
		_, err := c.Write([]byte("x"))
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.NoError(t, err)
		return time.Since(began)
	}
	quickest := func() time.Duration { // of some, on a busy machine
		best := trip()
		for i := 0; i < 20 && best >= 50*time.Millisecond; i++ {
			best = min(best, trip())
		}
		return best
	}
	require.Less(t, quickest(), 50*time.Millisecond)
	end := n.Slow(a, b, 75*time.Millisecond, 0, 1)
	require.GreaterOrEqual(t, trip(), 150*time.Millisecond)
	end()
	require.Less(t, quickest(), 50*time.Millisecond)
	end = n.Slow(a, b, 0, 0.3, 1)
	slowest := time.Duration(0)
	for range 15 {
		slowest = max(slowest, trip())
	}
	require.Greater(t, slowest, 150*time.Millisecond, "of 30 packets some were lost and sent again")
	end()
}
