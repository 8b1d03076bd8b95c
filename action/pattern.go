package action

// A Pattern is a path in which [*] may stand for every item of a list, to be followed
// step by step from the top of a value. Unlike a Path it leads to a key however its
// case is written: who hides a value must not be got round by "Body".
type Pattern struct {
	text  string
	steps []step
}

// ParsePattern compiles a pattern. The error is a *PathError, as of ParsePath.
func ParsePattern(text string) (Pattern, error) {
	p := pathParser{text: text, every: true}
	steps, fault := p.path()
	if fault != nil {
		return Pattern{}, fault
	}
	return Pattern{text, steps}, nil
}

// String is the pattern as it was written; what is left of one has no text.
func (p Pattern) String() string { return p.text }

// Ends reports whether the pattern means the value at which it has arrived.
func (p Pattern) Ends() bool { return len(p.steps) == 0 }

// Fits reports whether the pattern can be followed in v: into an object by a key, into
// a list by an index or [*].
func (p Pattern) Fits(v Value) bool {
	switch {
	case p.Ends():
		return true
	case p.steps[0].isIndex || p.steps[0].isEvery:
		return v.kind == Array
	}
	return v.kind == Object
}

// Into reports whether the pattern leads into the i-th member or item of v, and what
// is left of it there.
func (p Pattern) Into(v Value, i int) (rest Pattern, leads bool) {
	if p.Ends() || !p.Fits(v) {
		return Pattern{}, false
	}
	s := &p.steps[0]
	return Pattern{steps: p.steps[1:]}, s.isEvery || s.isIndex && s.index == i || !s.isIndex && sameFold(s.key, v.At(i).Key)
}

// Touches reports whether the pattern leads to, or past, the place of a path, or the
// path past what the pattern means.
func (p Pattern) Touches(q Path) bool {
	for i := range min(len(p.steps), len(q.steps)) {
		if !p.steps[i].covers(q.steps[i]) {
			return false
		}
	}
	return true
}

// covers reports whether a step of a pattern may be that of a path. Where one is an
// index and the other a key there is nothing at both.
func (s step) covers(t step) bool {
	if s.isEvery || s.isIndex || t.isIndex {
		return t.isIndex && (s.isEvery || s.isIndex && s.index == t.index)
	}
	return sameFold(s.key, t.key)
}
