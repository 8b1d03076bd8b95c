package audit

import "bytes"

// Kept are signed checkpoints in one file, as a witness keeps them: one after the other,
// an empty line behind each.
//
// A piece is what stands between empty lines: a checkpoint's text, and its signatures
// behind it. One that was not written whole is a piece of its own, and spoils no other.
type Kept struct {
	At     int // where it begins, in bytes
	Line   int // the same in lines, from 1
	Signed []byte
}

// sigHead is how signatures begin, behind an empty line.
var sigHead = []byte("\n— ")

// SplitKept takes such a file apart. What a piece is worth, OpenCheckpoint tells.
func SplitKept(text []byte) (list []Kept) {
	for at, line := 0, 1; at < len(text); {
		if text[at] == '\n' {
			at, line = at+1, line+1
			continue
		}
		end := at + block(text[at:])
		if rest := text[end:]; bytes.HasPrefix(rest, sigHead) || len(rest) > 1 && bytes.HasPrefix(sigHead, rest) {
			end += 1 + block(text[end+1:])
		}
		list = append(list, Kept{at, line, text[at:end]})
		line += bytes.Count(text[at:end], []byte{'\n'})
		at = end
	}
	return list
}

// block is how long the lines up to the next empty one are.
func block(text []byte) int {
	if end := bytes.Index(text, []byte("\n\n")); end >= 0 {
		return end + 1
	}
	return len(text)
}
