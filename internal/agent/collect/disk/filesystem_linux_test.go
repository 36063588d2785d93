package disk

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A network file system whose server is gone costs one wait, is reported, and
// is asked again only when it has answered.
func TestStuckMountHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(dir+"/1", 0o755))
		require.NoError(t, os.WriteFile(dir+"/1/mountinfo", []byte(strings.Join([]string{
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw",
			"2 1 0:9 / /mnt/n\\040fs rw - nfs server:/x ro",
			"3 1 8:2 / /home rw - ext4 /dev/sda2 rw",
			"4 1 8:2 / /home rw - ext4 /dev/sda2 rw",
		}, "\n")), 0o644))
		release, asked := make(chan struct{}), atomic.Int32{}
		c := NewFilesystems(source.Tree{Root: dir}, source.Tree{Root: "/"}, nil, nil)
		c.wait = 20 * time.Millisecond
		c.statfs = func(path string, st *unix.Statfs_t) error {
			if path == "/mnt/n fs" {
				asked.Add(1)
				<-release
			}
			st.Bsize, st.Blocks = 4096, 10
			return nil
		}
		b := metric.NewBatch(100)
		sum := func() map[string]float64 {
			b.Reset(1)
			require.NoError(t, c.Collect(context.Background(), b))
			out := map[string]float64{}
			for _, s := range b.Samples() {
				out[s.Labels.Get("__name__")+" "+s.Labels.Get("mountpoint")+" "+s.Labels.Get("device_error")] = s.V
			}
			return out
		}
		for range 3 {
			got := sum()
			require.Equal(t, 40960., got["node_filesystem_size_bytes / "])
			require.Equal(t, 40960., got["node_filesystem_size_bytes /home "])
			require.Equal(t, 1., got["node_filesystem_device_error /mnt/n fs mountpoint timeout"])
			require.Equal(t, 1., got["node_filesystem_readonly /mnt/n fs mountpoint timeout"])
		}
		require.EqualValues(t, 1, asked.Load(), "a mount that hangs is not asked again")
		close(release)
		require.Eventually(t, func() bool { return sum()["node_filesystem_size_bytes /mnt/n fs "] == 40960 }, 30*time.Second, 5*time.Millisecond)
	})
}

// Many that hang take the file systems of the host itself from nobody.
func TestManyStuckMountsHideNoDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(dir+"/1", 0o755))
		mounts := []string{"1 0 8:1 / / rw - ext4 /dev/sda1 rw"}
		for i := range 40 {
			mounts = append(mounts, fmt.Sprintf("%d 1 0:9 / /mnt/%d rw - nfs4 server:/x ro", i+2, i))
		}
		mounts = append(mounts, "90 1 8:2 / /home rw - ext4 /dev/sda2 rw")
		write := func() {
			require.NoError(t, os.WriteFile(dir+"/1/mountinfo", []byte(strings.Join(mounts, "\n")), 0o644))
		}
		write()
		release, asked := make(chan struct{}), atomic.Int32{}
		defer close(release)
		c := NewFilesystems(source.Tree{Root: dir}, source.Tree{Root: "/"}, nil, nil)
		c.wait = 50 * time.Millisecond
		c.statfs = func(path string, st *unix.Statfs_t) error {
			if strings.HasPrefix(path, "/mnt") {
				asked.Add(1)
				<-release
			}
			st.Bsize, st.Blocks = 4096, 10
			return nil
		}
		for round := range 4 {
			if round == 2 {
				mounts = append(mounts, "91 1 0:9 / /mnt/new rw - cifs //server/x ro")
				write()
			}
			b := metric.NewBatch(1000)
			b.Reset(1)
			require.NoError(t, c.Collect(context.Background(), b))
			sizes, faults := map[string]float64{}, 0.
			for _, s := range b.Samples() {
				switch s.Labels.Get("__name__") {
				case "node_filesystem_size_bytes":
					sizes[s.Labels.Get("mountpoint")] = s.V
				case "node_filesystem_device_error":
					faults += s.V
				}
			}
			require.Equal(t, map[string]float64{"/": 40960, "/home": 40960}, sizes, "round %d", round)
			require.Equal(t, float64(40+round/2), faults, "those that hang are reported, all of them")
		}
		require.EqualValues(t, maxStuck, asked.Load(), "and no more are asked")
	})
}

// Whether a file system can be written to is said by the mounts of the host, not
// by those of the agent, which sees all of them read-only where it is confined.
func TestReadonlyIsTheHosts(t *testing.T) {
	look := func(t *testing.T, of string) map[string]float64 {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(dir+"/"+of, 0o755))
		require.NoError(t, os.WriteFile(dir+"/"+of+"/mountinfo", []byte(strings.Join([]string{
			"1 0 8:1 / / rw - ext4 /dev/sda1 rw",
			"2 1 8:2 / /view ro - ext4 /dev/sda2 rw",
			"3 1 8:3 / /disk rw - ext4 /dev/sda3 ro",
			"4 1 8:4 / /broken rw - ext4 /dev/sda4 rw,emergency_ro",
		}, "\n")), 0o644))
		c := NewFilesystems(source.Tree{Root: dir}, source.Tree{Root: "/"}, nil, nil)
		c.statfs = func(_ string, st *unix.Statfs_t) error {
			st.Bsize, st.Blocks, st.Flags = 4096, 10, unix.ST_RDONLY
			return nil
		}
		b := metric.NewBatch(100)
		b.Reset(1)
		require.NoError(t, c.Collect(context.Background(), b))
		out := map[string]float64{}
		for _, s := range b.Samples() {
			if s.Labels.Get("__name__") == "node_filesystem_readonly" {
				out[s.Labels.Get("mountpoint")] = s.V
			}
		}
		return out
	}
	require.Equal(t, map[string]float64{"/": 0, "/view": 1, "/disk": 1, "/broken": 1}, look(t, "1"))
	// The agent's own list: what "ro" of a mount means there says nothing of the host.
	require.Equal(t, map[string]float64{"/": 0, "/view": 0, "/disk": 1, "/broken": 1}, look(t, "self"))
}

// A file system that takes longer than a round waits has a size all the same: the
// one that it had a round ago, and it costs no wait. One that stops answering is
// reported as such soon.
func TestSlowMountHasItsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(dir+"/1", 0o755))
		require.NoError(t, os.WriteFile(dir+"/1/mountinfo", []byte("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:9 / /slow rw - nfs4 server:/x rw\n"), 0o644))
		var takes, blocks atomic.Int64
		c := NewFilesystems(source.Tree{Root: dir}, source.Tree{Root: "/"}, nil, nil)
		c.statfs = func(path string, st *unix.Statfs_t) error {
			st.Bsize, st.Blocks = 4096, 10
			if path == "/slow" {
				st.Blocks = uint64(blocks.Load())
				time.Sleep(time.Duration(takes.Load()))
			}
			return nil
		}
		round := func(every time.Duration) (size float64, fault string) {
			b := metric.NewBatch(100)
			b.Reset(1)
			began := time.Now()
			require.NoError(t, c.Collect(context.Background(), b))
			require.LessOrEqual(t, time.Since(began), c.wait)
			size = -1
			for _, s := range b.Samples() {
				if s.Labels.Get("mountpoint") == "/slow" {
					fault += s.Labels.Get("device_error")
					if s.Labels.Get("__name__") == "node_filesystem_size_bytes" {
						size = s.V
					}
				}
			}
			time.Sleep(every - time.Since(began))
			return size, fault
		}
		takes.Store(int64(600 * time.Millisecond))
		blocks.Store(1)
		_, fault := round(15 * time.Second)
		require.NotEmpty(t, fault)
		for i := range 5 {
			blocks.Store(int64(i + 2))
			began := time.Now()
			size, fault := round(15 * time.Second)
			require.Empty(t, fault, "round %d", i)
			require.Equal(t, float64(4096*(i+1)), size, "round %d", i)
			require.Equal(t, 15*time.Second, time.Since(began))
		}
		// Rounds may be far from each other, or nearer than the answer takes.
		for _, every := range []time.Duration{5 * time.Minute, time.Second} {
			takes.Store(int64(1500 * time.Millisecond))
			for i := range 5 {
				_, fault = round(every)
				require.Empty(t, fault, "round %d, every %s", i, every)
			}
		}
		// It is quick again: the size is today's.
		takes.Store(0)
		for range 3 {
			round(15 * time.Second)
		}
		blocks.Store(100)
		size, fault := round(15 * time.Second)
		require.Empty(t, fault)
		require.Equal(t, 409600., size)
		// It hangs.
		takes.Store(int64(600 * time.Millisecond))
		round(15 * time.Second)
		takes.Store(int64(time.Hour))
		round(15 * time.Second)
		for range 6 {
			round(15 * time.Second)
		}
		began := time.Now()
		for range 10 {
			size, fault = round(15 * time.Second)
			require.NotEmpty(t, fault)
			require.Negative(t, size)
		}
		require.Equal(t, 150*time.Second, time.Since(began))
		time.Sleep(time.Hour)
	})
}

func TestUnescape(t *testing.T) {
	require.Equal(t, "a b\\c\\", unescape([]byte(`a\040b\134c\`)))
	require.Equal(t, `\99`, unescape([]byte(`\99`)))
}

func TestSmart(t *testing.T) {
	var calls [][]string
	run := func(_ context.Context, name string, args ...string) ([]byte, error) {
		calls = append(calls, args)
		if args[1] == "--scan" {
			return []byte(`{"devices":[{"name":"/dev/sda","type":"sat"},{"name":"/dev/nvme0","type":"nvme"},{"name":"/dev/sda; rm","type":"sat"},{"name":"--help","type":"sat"}]}`), nil
		}
		if args[len(args)-1] == "/dev/sda" {
			// A failing disk: the exit code is not zero, the answer counts.
			return []byte(`{"model_name":"M","device":{"type":"sat","protocol":"ATA"},"smart_status":{"passed":false},"temperature":{"current":40},
				"ata_smart_attributes":{"table":[{"id":5,"name":"Reallocated_Sector_Ct","value":99,"worst":98,"thresh":10,"raw":{"value":7},"flags":{"string":"PO--CK "}}]}}`),
				&source.ErrExit{Name: name, Code: 8}
		}
		return []byte(`{"model_name":"N","smart_status":{"passed":true},"nvme_smart_health_information_log":{"percentage_used":3,"media_errors":1,"data_units_read":2,"temperature_sensors":[1]}}`), nil
	}
	b := metric.NewBatch(100)
	b.Reset(1)
	require.NoError(t, NewSmart(run).Collect(t.Context(), b))
	require.Len(t, calls, 3, "names that are no devices are not passed on")
	got := map[string]float64{}
	for _, s := range b.Samples() {
		got[s.Labels.Get("__name__")+" "+s.Labels.Get("device")+" "+s.Labels.Get("attribute_value_type")] = s.V
	}
	require.Equal(t, 0., got["smartctl_device_smart_status sda "])
	require.Equal(t, 7., got["smartctl_device_attribute sda raw"])
	require.Equal(t, 3., got["smartctl_device_percentage_used nvme0 "])
	require.Equal(t, 1024000., got["smartctl_device_bytes_read nvme0 "])

	garbage := func(context.Context, string, ...string) ([]byte, error) { return []byte(`{{{`), nil }
	require.Error(t, NewSmart(garbage).Collect(t.Context(), b))
}

func FuzzParseMD(f *testing.F) {
	f.Add("md0 : active raid1 sdb1[1] sda1[0](F)\n      1048576 blocks [2/1] [U_]\n      [>...]  resync = 5.0% (10/20) finish=1min\n")
	f.Add("md0 : \nmd1 : x\n  9 blocks [99999999999999999999/1]")
	f.Fuzz(func(t *testing.T, s string) {
		for _, a := range parseMD(s) {
			require.True(t, strings.HasPrefix(a.name, "md"))
		}
	})
}
