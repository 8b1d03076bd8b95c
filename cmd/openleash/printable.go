package main

import (
	"fmt"
	"strings"
	"unicode"
)

// printable makes what an agent or a server wrote safe to show on a terminal:
// characters that move the cursor, hide, or reorder are shown by their number.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "<U+%04X>", r)
		}
	}
	return b.String()
}
