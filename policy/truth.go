package policy

// truth is what a condition says. Three of its values are about values that are
// there; missing is about one that is not.
type truth uint8

const (
	no      truth = iota
	yes           // holds
	unknown       // the value is of the wrong type or form: it could be read either way
	missing       // the field that it is about is not there
)

func (t truth) String() string {
	return [...]string{"false", "true", "unknown", "missing"}[t]
}

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// not turns true and false round. Nothing is learnt by negating what is not known.
func (t truth) not() truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	}
	return t
}

// and is the rule of `all`, whose neutral element is yes: one false decides;
// else unknown wins over missing, because a deny rule has to match on it.
func (t truth) and(u truth) truth {
	switch {
	case t == no || u == no:
		return no
	case t == unknown || u == unknown:
		return unknown
	case t == missing || u == missing:
		return missing
	}
	return yes
}

// or is the rule of `any`, whose neutral element is no. It mirrors and, so that
// a condition and its rewriting by De Morgan always say the same.
func (t truth) or(u truth) truth { return t.not().and(u.not()).not() }

// agreed is what n all say; unknown where one says this, another that: an allow
// rule must not pass the bad one because of the good one, nor a deny rule be
// dodged the other way round.
func agreed(n int, none truth, say func(int) truth) truth {
	if n == 0 {
		return none
	}
	all := say(0)
	for i := 1; i < n && all != unknown; i++ {
		if say(i) != all {
			return unknown
		}
	}
	return all
}

// matches reports whether a rule with this effect applies: an allow rule only
// when it is certain, a deny rule also when nobody can tell.
func (t truth) matches(allow bool) bool {
	return t == yes || t == unknown && !allow
}
