package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolatedEnv marks the process that Isolated started.
const isolatedEnv = "PANOPTES_TEST_ISOLATED"

// Isolated runs the tests of a package in namespaces of their own – network,
// mounts, processes – by starting the test binary a second time as their first
// process. Whatever the tests leave behind (interfaces, loop devices, servers)
// is gone with that process, however it ends; the machine's own network is
// never touched. Where that is not possible it prints why and skips all tests.
func Isolated(run func() int) int {
	if os.Getenv(isolatedEnv) != "" {
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "fault tests: prepare the namespaces:", err)
			return 1
		}
		return run()
	}
	if why := missing(); why != "" {
		fmt.Println("skipped:", why)
		return 0
	}
	// The child dies with the thread that started it, so that thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), isolatedEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		fmt.Println("skipped: namespaces of network, mounts and processes cannot be made:", err)
		return 0
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			// It may have ended just now.
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault tests:", err)
		return 1
	}
	return 0
}

// missing says what this machine lacks, nothing when it lacks nothing.
func missing() string {
	if os.Getuid() != 0 {
		return "namespaces, loop devices and packet filters need root"
	}
	for tool, pkg := range map[string]string{"ip": "iproute2", "nft": "nftables", "mkfs.ext4": "e2fsprogs", "mount": "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("%s is not installed (package %s)", tool, pkg)
		}
	}
	return ""
}

// settle makes the new namespaces usable: mounts that stay inside, a /proc that
// shows these processes only, a network that forwards.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for file, value := range map[string]string{"ip_forward": "1", "conf/all/rp_filter": "0", "conf/default/rp_filter": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/"+file, []byte(value), 0o644); err != nil {
			return err
		}
	}
	return Command("ip", "link", "set", "lo", "up")
}

// Command runs a program and returns what it said when it fails.
func Command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}
