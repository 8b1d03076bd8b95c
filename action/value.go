package action

import (
	"bytes"
	"iter"
	"strconv"
)

// Kind is the JSON type of a Value. The zero Kind is Missing: the value of a
// key that is not there, which is never the same as null.
type Kind uint8

const (
	Missing Kind = iota
	Null
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{"missing", "null", "a boolean", "a number", "a string", "an array", "an object"}

// String names the kind as a message wants it: "a number", "an object".
func (k Kind) String() string {
	if int(k) >= len(kindNames) {
		return "unknown"
	}
	return kindNames[k]
}

// A Value is one parsed JSON value, immutable, with the bytes it was read
// from. Numbers keep their text. The zero Value is Missing. A Value is small:
// a text of many values is not to cost many times its size.
type Value struct {
	kind       Kind
	truth      bool    // a Bool's value
	start, end uint32  // where it stands in src
	src        *source // nil for a built value
	text       string  // a string's value, or a number as it was written
	kids       *kids   // nil for anything but arrays and objects, and for empty ones
}

// A source is the document that values were read from.
type source struct{ data []byte }

// kids is what is in an array or an object.
type kids struct {
	list  []Member         // members, or items without keys
	index map[string]int32 // folded key → position; only for large objects without twins
}

// A Member is one key of an object, in the order in which it was written.
type Member struct {
	Key   string
	Value Value
}

// Kind returns the JSON type of v.
func (v Value) Kind() Kind { return v.kind }

// Raw returns the bytes the value was read from (nil for a built value). They
// are part of the document given to Parse, which must not be modified.
func (v Value) Raw() []byte {
	if v.src == nil {
		return nil
	}
	return v.src.data[v.start:v.end:v.end]
}

// Start returns the offset of Raw in the document given to Parse.
func (v Value) Start() int { return int(v.start) }

// Text returns a string's decoded value or a number's text as written.
func (v Value) Text() string { return v.text }

// IsTrue reports whether v is the literal true.
func (v Value) IsTrue() bool { return v.truth }

// Len returns the number of items or members.
func (v Value) Len() int { return len(v.list()) }

// list returns the members of an object, or the items of an array.
func (v Value) list() []Member {
	if v.kids == nil {
		return nil
	}
	return v.kids.list
}

// Index returns the i-th item of an array, Missing when there is none.
func (v Value) Index(i int) Value {
	if v.kind != Array || i < 0 || i >= v.Len() {
		return Value{}
	}
	return v.kids.list[i].Value
}

// Get returns the member of that exact name, Missing when there is none.
func (v Value) Get(key string) Value {
	got, _, _ := v.find(key)
	return got
}

// GetFold returns a member whose name equals key under Unicode case folding
// but is not key itself: encoding/json would have read it as key.
func (v Value) GetFold(key string) (name string, ok bool) {
	_, name, ok = v.find(key)
	return name, ok
}

// find returns the member named key, and the first name that is its twin:
// equal to it but for case.
func (v Value) find(key string) (exact Value, twin string, hasTwin bool) {
	if v.kind != Object || v.kids == nil {
		return Value{}, "", false
	}
	if v.kids.index != nil {
		return v.kids.lookUp(key)
	}
	for i := range v.kids.list {
		m := &v.kids.list[i]
		if m.Key == key {
			exact = m.Value
		} else if !hasTwin && sameFold(m.Key, key) {
			twin, hasTwin = m.Key, true
		}
	}
	return exact, twin, hasTwin
}

// lookUp is find where there is an index, and so at most one of the two.
func (k *kids) lookUp(key string) (exact Value, twin string, hasTwin bool) {
	i, ok := k.index[fold(key)]
	switch {
	case !ok:
		return Value{}, "", false
	case k.list[i].Key == key:
		return k.list[i].Value, "", false
	}
	return Value{}, k.list[i].Key, true
}

// At gives the i-th member of an object in the order written, or item of an array,
// which has no Key.
func (v Value) At(i int) Member { return v.list()[i] }

// Items yields the items of an array.
func (v Value) Items() iter.Seq2[int, Value] {
	return func(yield func(int, Value) bool) {
		if v.kind != Array {
			return
		}
		for i, m := range v.list() {
			if !yield(i, m.Value) {
				return
			}
		}
	}
}

// Members yields the members of an object in the order written.
func (v Value) Members() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		if v.kind != Object {
			return
		}
		for _, m := range v.list() {
			if !yield(m.Key, m.Value) {
				return
			}
		}
	}
}

// Equal reports whether v and w are equal as JSON: the order of keys and the
// way in which strings and numbers are written do not count.
func (v Value) Equal(w Value) bool {
	return v.kind == w.kind && bytes.Equal(v.Canonical(), w.Canonical())
}

// MarshalJSON gives the canonical form, and null for Missing.
func (v Value) MarshalJSON() ([]byte, error) {
	if v.kind == Missing {
		return []byte("null"), nil
	}
	return v.Canonical(), nil
}

// Constructors for values that were not read: built payloads, tool context.

func NullValue() Value           { return Value{kind: Null} }
func BoolValue(b bool) Value     { return Value{kind: Bool, truth: b} }
func StringValue(s string) Value { return Value{kind: String, text: s} }
func IntValue(n int64) Value     { return Value{kind: Number, text: strconv.FormatInt(n, 10)} }

// ArrayValue makes an array. A Missing item becomes null.
func ArrayValue(items ...Value) Value {
	list := make([]Member, len(items))
	for i, item := range items {
		if item.kind == Missing {
			item = NullValue()
		}
		list[i].Value = item
	}
	return Value{kind: Array, kids: &kids{list: list}}
}

// ObjectValue makes an object. A member whose value is Missing is left out; a
// later member replaces an earlier one of the same name, at the earlier place.
func ObjectValue(ms ...Member) Value {
	list := make([]Member, 0, len(ms))
	for _, m := range ms {
		if m.Value.kind != Missing {
			list = append(list, m)
		}
	}
	return Value{kind: Object, kids: &kids{list: withoutRepeats(list)}}
}

// withoutRepeats moves later members of a name to the place of the first.
func withoutRepeats(list []Member) []Member {
	keys := keySet{twins: true}
	kept := list[:0]
	for _, m := range list {
		if i := keys.add(kept, m.Key); i >= 0 {
			kept[i] = m
			continue
		}
		kept = append(kept, m)
	}
	return kept
}
