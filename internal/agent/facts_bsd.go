//go:build darwin || freebsd

package agent

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func machineID() string {
	id, err := unix.Sysctl("kern.hostuuid")
	if err != nil {
		id, err = unix.Sysctl("kern.uuid")
	}
	if err != nil {
		return ""
	}
	return id
}

func boot() (string, time.Time) {
	tv, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return "", time.Time{}
	}
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		id = strconv.FormatInt(int64(tv.Sec), 10) //nolint:unconvert // the types differ between systems
	}
	return id, time.Unix(int64(tv.Sec), 0).UTC() //nolint:unconvert // the types differ between systems
}
