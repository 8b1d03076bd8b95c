package action

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// sameFold reports whether encoding/json would take one key for the other.
func sameFold(a, b string) bool {
	if len(a) > 0 && len(b) > 0 && a[0] < utf8.RuneSelf && b[0] < utf8.RuneSelf && foldASCII(a[0]) != foldASCII(b[0]) {
		return false
	}
	return strings.EqualFold(a, b)
}

func foldASCII(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// fold maps all keys that are equal under simple case folding to one text. A
// key in lower-case ASCII is its own fold, so the usual key costs nothing.
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf || foldASCII(s[i]) != s[i] {
			return strings.Map(foldRune, s)
		}
	}
	return s
}

// foldRune returns one rune for all that fold together: the lower-case ASCII
// letter if there is one (also for U+017F and U+212A), else the smallest.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}

// smallObject is up to how many members comparing each with each is cheaper
// than an index.
const smallObject = 12

// A keySet finds keys of one object that would be taken for each other.
type keySet struct {
	twins bool             // keys that differ in case are allowed
	index map[string]int32 // made when the object is no longer small
}

// add notes that key follows members. It returns the position of an earlier
// key that clashes with it, or -1.
func (s *keySet) add(members []Member, key string) int {
	if s.index == nil && len(members) < smallObject {
		for i := range members {
			if s.same(members[i].Key, key) {
				return i
			}
		}
		return -1
	}
	if s.index == nil {
		s.index = make(map[string]int32, 4*smallObject)
		for i := range members {
			s.index[s.id(members[i].Key)] = int32(i)
		}
	}
	id := s.id(key)
	if i, ok := s.index[id]; ok {
		return int(i)
	}
	s.index[id] = int32(len(members))
	return -1
}

func (s *keySet) same(a, b string) bool {
	if s.twins {
		return a == b
	}
	return sameFold(a, b)
}

func (s *keySet) id(key string) string {
	if s.twins {
		return key
	}
	return fold(key)
}

// found returns the index for find, which must know of twins.
func (s *keySet) found() map[string]int32 {
	if s.twins {
		return nil
	}
	return s.index
}
