package catalog

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// The shape of a unified diff.
const (
	contextLines = 3
	maxCells     = 4 << 20 // of the comparison; larger changes are shown whole
)

// toYAML writes a spec as people write it.
func toYAML(spec []byte) []byte {
	out, err := yaml.JSONToYAML(spec)
	if err != nil {
		return spec // shown as it is
	}
	return out
}

// unified compares two texts; "" when they are equal.
func unified(name string, before, after []byte) string {
	a, b := lines(before), lines(after)
	edits := compare(a, b)
	var out strings.Builder
	for i := 0; i < len(edits); {
		if edits[i].kind == ' ' {
			i++
			continue
		}
		// A hunk runs until more than twice the context is equal.
		from := max(0, i-contextLines)
		end, equal := i, 0
		for j := i; j < len(edits) && equal <= 2*contextLines; j++ {
			if edits[j].kind == ' ' {
				equal++
			} else {
				equal, end = 0, j+1
			}
		}
		to := min(len(edits), end+contextLines)
		if out.Len() == 0 {
			fmt.Fprintf(&out, "--- %s\n+++ %s\n", orNull(before, name), name)
		}
		writeHunk(&out, edits, from, to)
		i = to
	}
	return out.String()
}

func orNull(text []byte, name string) string {
	if len(text) == 0 {
		return "/dev/null"
	}
	return name
}

func writeHunk(out *strings.Builder, edits []edit, from, to int) {
	aLine, bLine, aN, bN := 1, 1, 0, 0
	for i, e := range edits[:to] {
		n := 0
		if i >= from {
			n = 1
		}
		if e.kind != '+' {
			aLine, aN = aLine+1-n, aN+n
		}
		if e.kind != '-' {
			bLine, bN = bLine+1-n, bN+n
		}
	}
	if aN == 0 {
		aLine--
	}
	if bN == 0 {
		bLine--
	}
	fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", aLine, aN, bLine, bN)
	for _, e := range edits[from:to] {
		out.WriteByte(e.kind)
		out.WriteString(e.line)
		out.WriteByte('\n')
	}
}

type edit struct {
	kind byte // ' ', '-', '+'
	line string
}

func lines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// compare finds the longest common subsequence between what the two have in
// common at both ends.
func compare(a, b []string) []edit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out []edit
	for _, l := range a[:head] {
		out = append(out, edit{' ', l})
	}
	out = append(out, middle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, l := range a[len(a)-tail:] {
		out = append(out, edit{' ', l})
	}
	return out
}

func middle(a, b []string) (out []edit) {
	i, j := 0, 0
	if len(a) > 0 && len(b) > 0 && len(a)*len(b) <= maxCells {
		// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
		w := len(b) + 1
		common := make([]int32, (len(a)+1)*w)
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					common[i*w+j] = common[(i+1)*w+j+1] + 1
				} else {
					common[i*w+j] = max(common[(i+1)*w+j], common[i*w+j+1])
				}
			}
		}
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				out = append(out, edit{' ', a[i]})
				i, j = i+1, j+1
			case common[(i+1)*w+j] >= common[i*w+j+1]:
				out = append(out, edit{'-', a[i]})
				i++
			default:
				out = append(out, edit{'+', b[j]})
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		out = append(out, edit{'-', a[i]})
	}
	for ; j < len(b); j++ {
		out = append(out, edit{'+', b[j]})
	}
	return out
}
