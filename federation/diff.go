package federation

import (
	"fmt"
	"strings"
)

// diffContext is how many unchanged lines stand around a change.
const diffContext = 3

// edit is a line of a diff: ' ' unchanged, '-' only before, '+' only after.
type edit struct {
	kind byte
	line string
}

// unifiedDiff is the difference of two texts in the unified format of diff(1); ""
// where there is none.
func unifiedDiff(nameBefore, nameAfter, before, after string) string {
	edits := diffLines(splitLines(before), splitLines(after))
	var b strings.Builder
	lineBefore, lineAfter := 1, 1
	for start := 0; start < len(edits); {
		end := hunkEnd(edits, start)
		if end < 0 {
			break
		}
		first := max(start, firstChange(edits, start)-diffContext)
		lineBefore, lineAfter = lineBefore+first-start, lineAfter+first-start
		if b.Len() == 0 {
			fmt.Fprintf(&b, "--- %s\n+++ %s\n", nameBefore, nameAfter)
		}
		hunk := edits[first:end]
		inBefore, inAfter := 0, 0
		for _, e := range hunk {
			if e.kind != '+' {
				inBefore++
			}
			if e.kind != '-' {
				inAfter++
			}
		}
		fmt.Fprintf(&b, "@@ -%s +%s @@\n", hunkRange(lineBefore, inBefore), hunkRange(lineAfter, inAfter))
		for _, e := range hunk {
			fmt.Fprintf(&b, "%c%s\n", e.kind, e.line)
		}
		lineBefore, lineAfter, start = lineBefore+inBefore, lineAfter+inAfter, end
	}
	return b.String()
}

// hunkRange is where a hunk lies in one of the texts: a hunk without lines there
// stands after the line it names.
func hunkRange(line, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", line-1)
	case 1:
		return fmt.Sprint(line)
	}
	return fmt.Sprintf("%d,%d", line, n)
}

// firstChange is the index of the first change from start on, or -1.
func firstChange(edits []edit, start int) int {
	for i := start; i < len(edits); i++ {
		if edits[i].kind != ' ' {
			return i
		}
	}
	return -1
}

// hunkEnd is the end of the hunk with the first change from start on, or -1:
// changes whose context would touch are one hunk.
func hunkEnd(edits []edit, start int) int {
	last := firstChange(edits, start)
	if last < 0 {
		return -1
	}
	for {
		next := firstChange(edits, last+1)
		if next < 0 || next-last > 2*diffContext+1 {
			return min(last+1+diffContext, len(edits))
		}
		last = next
	}
}

func splitLines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// diffLines goes along a longest common subsequence. The table has the product of
// the lengths, which policies keep small: AWS takes at most 20 KB of them.
func diffLines(a, b []string) []edit {
	common := make([][]int, len(a)+1) // common[i][j]: of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var edits []edit
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			edits = append(edits, edit{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			edits = append(edits, edit{'-', a[i]})
			i++
		default:
			edits = append(edits, edit{'+', b[j]})
			j++
		}
	}
	return edits
}
