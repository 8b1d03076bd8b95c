package diff

import (
	"fmt"
	"strings"
)

// Lines tells how one text becomes another, line by line. As with Words, the pieces
// that were not inserted are the old text, those that were not deleted the new one.
func Lines(old, new string) []Piece {
	cells := maxCells
	return compared(old, new, lines, &cells)
}

// Fold leaves out what stays, but for so many lines beside each change. Skip stands for
// the others, and its Text says how many they are.
func Fold(pieces []Piece, beside int) (list []Piece) {
	for i, p := range pieces {
		all := lines(strings.TrimSuffix(p.Text, "\n"))
		head, tail := beside, beside
		if i == 0 {
			head = 0
		}
		if i == len(pieces)-1 {
			tail = 0
		}
		if p.Op != Keep || len(all) <= head+tail+1 {
			list = append(list, p)
			continue
		}
		for _, part := range []Piece{
			{Keep, strings.Join(all[:head], "")},
			{Skip, fmt.Sprintf("%d lines that stay", len(all)-head-tail)},
			{Keep, strings.Join(all[len(all)-tail:], "")},
		} {
			if part.Text != "" {
				list = append(list, part)
			}
		}
	}
	return list
}

// Marked is a piece with "+ ", "- " or "  " before each of its lines.
func (p Piece) Marked() string {
	mark := map[Op]string{Keep: "  ", Delete: "- ", Insert: "+ ", Skip: "… "}[p.Op]
	var b strings.Builder
	for line := range strings.Lines(p.Text) {
		b.WriteString(mark + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}
