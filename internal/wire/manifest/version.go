package manifest

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Number is a version that can be compared.
type Number struct {
	parts [3]uint64
	pre   string // of a release that is not yet one: "rc.1"
	after uint64 // commits after the release, as git describe counts them
}

var (
	versionForm  = regexp.MustCompile(`^v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:-([0-9A-Za-z.-]{1,40}))?$`)
	describeForm = regexp.MustCompile(`^(?:(.*)-)?(\d{1,9})-g[0-9a-f]{4,40}$`)
)

// ParseVersion reads 1.2.3, v1.2.3, 1.2.3-rc.1 and what git describe makes of
// them (v1.2.3-5-gabcdef).
func ParseVersion(s string) (n Number, err error) {
	s = strings.TrimSuffix(s, "-dirty")
	m := versionForm.FindStringSubmatch(s)
	if m == nil {
		return n, fmt.Errorf("%.64q is no version like 1.2.3", s)
	}
	for i := range n.parts {
		if m[i+1] != "" {
			if n.parts[i], err = strconv.ParseUint(m[i+1], 10, 64); err != nil {
				return n, err
			}
		}
	}
	n.pre = m[4]
	if d := describeForm.FindStringSubmatch(n.pre); d != nil {
		n.pre = d[1]
		if n.after, err = strconv.ParseUint(d[2], 10, 64); err != nil {
			return n, err
		}
	}
	return n, nil
}

// Compare is -1, 0 or 1.
func (n Number) Compare(o Number) int {
	for i := range n.parts {
		if c := cmp.Compare(n.parts[i], o.parts[i]); c != 0 {
			return c
		}
	}
	switch {
	case n.pre == o.pre:
	case n.pre == "":
		return 1
	case o.pre == "":
		return -1
	default:
		if c := comparePre(n.pre, o.pre); c != 0 {
			return c
		}
	}
	return cmp.Compare(n.after, o.after)
}

// comparePre compares field by field, numbers as numbers.
func comparePre(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, xerr := strconv.ParseUint(as[i], 10, 64)
		y, yerr := strconv.ParseUint(bs[i], 10, 64)
		c := cmp.Compare(as[i], bs[i])
		switch {
		case xerr == nil && yerr == nil:
			c = cmp.Compare(x, y)
		case xerr == nil:
			c = -1
		case yerr == nil:
			c = 1
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// May reports whether an agent of version have may take the programs of m: they
// are newer, or m says that this very version may go back. A version that is no
// number, such as that of a build by hand, is older than all that are.
func (m *Manifest) May(have string) error {
	if have == m.Version {
		return fmt.Errorf("version %s is the one that runs", m.Version)
	}
	for _, v := range m.DowngradeFrom {
		if v == have {
			return nil
		}
	}
	want, err := ParseVersion(m.Version)
	if err != nil {
		return err
	}
	old, err := ParseVersion(have)
	if err == nil && want.Compare(old) <= 0 {
		return fmt.Errorf("version %s is not newer than %s, and its manifest does not name %s in downgrade_from", m.Version, have, have)
	}
	return nil
}
