package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// cutPrefix removes every key under our prefix from every _meta in a message;
// all else stays as it was written. Messages without any, nearly all, are
// returned as they are. The error says that the message is no JSON.
func cutPrefix(raw []byte) ([]byte, error) {
	cuts, err := prefixCuts(raw)
	if err != nil || len(cuts) == 0 {
		return raw, err
	}
	return applyEdits(raw, cuts...), nil
}

// prefixCuts finds what cutPrefix removes. It looks at all that any reader
// could see: both of two members of one name, and names in other letters, which
// some readers fold. So it cannot be Parse, which refuses such messages, as
// well as others that are only passed on.
func prefixCuts(raw []byte) ([]edit, error) {
	if !mayHoldOurs(raw) {
		return nil, nil
	}
	c := cutter{raw: raw, in: json.NewDecoder(bytes.NewReader(raw))}
	c.in.UseNumber() // a number that no double holds is passed on, too
	if err := c.value(false); err != nil {
		return nil, err
	}
	if _, err := c.in.Token(); err != io.EOF {
		return nil, errors.New("something follows the message")
	}
	return c.cuts, nil
}

// A cutter reads a message from left to right and notes what is to go.
type cutter struct {
	raw   []byte
	in    *json.Decoder
	depth int
	cuts  []edit
}

// value reads a value; meta says that it stands under the name _meta.
func (c *cutter) value(meta bool) error {
	token, err := c.in.Token()
	open, ok := token.(json.Delim)
	if err != nil || !ok {
		return err
	}
	if c.depth++; c.depth > maxDepth {
		return fmt.Errorf("it nests more than %d deep", maxDepth)
	}
	defer func() { c.depth-- }()
	if open == '{' {
		err = c.members(meta)
	} else {
		for c.in.More() && err == nil {
			err = c.value(false)
		}
	}
	if err == nil {
		_, err = c.in.Token() // what closes it
	}
	return err
}

// members reads those of one object. What goes takes the comma before it
// along; where nothing before it stays, the comma behind it.
func (c *cutter) members(meta bool) error {
	at := c.offset()
	first, kept := at, false
	for c.in.More() {
		token, err := c.in.Token()
		if err != nil {
			return err
		}
		key, _ := token.(string)
		goes := meta && isOurs(key)
		if !goes && !kept && at > first {
			comma := at + bytes.IndexByte(c.raw[at:], ',')
			c.cuts = append(c.cuts, edit{span: span{at, comma + 1}})
		}
		kept = kept || !goes
		before := len(c.cuts)
		if err := c.value(!goes && strings.EqualFold(key, "_meta")); err != nil {
			return err
		}
		if goes {
			c.cuts = append(c.cuts[:before], edit{span: span{at, c.offset()}})
		}
		at = c.offset()
	}
	return nil
}

func (c *cutter) offset() int { return int(c.in.InputOffset()) }

// isOurs reports whether a key of _meta stands under our prefix, in any
// letters that a reader might fold.
func isOurs(key string) bool {
	rest := Prefix
	for _, r := range key {
		if rest == "" {
			return true
		}
		if !strings.EqualFold(string(r), rest[:1]) { // the prefix is ASCII
			return false
		}
		rest = rest[1:]
	}
	return rest == ""
}

// mayHoldOurs is a quick look: the part of our name that has no look-alikes
// but capitals, or an escape that could hide a letter of it (no writer escapes
// letters without a reason).
func mayHoldOurs(raw []byte) bool {
	return hidesLetters(raw) || containsFold(raw, "openlea")
}

func hidesLetters(raw []byte) bool {
	for rest := raw; ; {
		i := bytes.IndexByte(rest, '\\')
		if i < 0 || i+6 > len(rest) {
			return false
		}
		if rest[i+1] == 'u' && rest[i+2] == '0' && rest[i+3] == '0' && rest[i+4] >= '4' && rest[i+4] <= '7' {
			return true
		}
		rest = rest[i+2:]
	}
}

func containsFold(raw []byte, word string) bool {
	for i := 0; ; i++ {
		j := bytes.IndexAny(raw[i:], "oO")
		if j < 0 || i+j+len(word) > len(raw) {
			return false
		}
		i += j
		if utf8.RuneStart(raw[i]) && strings.EqualFold(string(raw[i:i+len(word)]), word) {
			return true
		}
	}
}
