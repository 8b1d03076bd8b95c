package action

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Hash is a SHA-256 sum, written "sha256:" + lower-case hex.
type Hash [32]byte

const hashPrefix = "sha256:"

func (h Hash) String() string { return hashPrefix + hex.EncodeToString(h[:]) }

// IsZero reports whether h was never set.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText writes h as String does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what ParseHash reads.
func (h *Hash) UnmarshalText(text []byte) error {
	read, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = read
	return nil
}

// ParseHash reads "sha256:HEX" or a bare HEX.
func ParseHash(s string) (Hash, error) {
	var h Hash
	digits := strings.TrimPrefix(s, hashPrefix)
	if len(digits) != hex.EncodedLen(len(h)) {
		return Hash{}, fmt.Errorf("hash %s: want sha256: and 64 hexadecimal digits, got %d digits", shortQuote(s), len(digits))
	}
	if _, err := hex.Decode(h[:], []byte(digits)); err != nil {
		return Hash{}, fmt.Errorf("hash %s: want sha256: and 64 hexadecimal digits: %w", shortQuote(s), err)
	}
	return h, nil
}

// IntentHash names what a call of a tool means, without ids and times: sha256
// of the canonical {"agent","arguments","server","tool"}. Arguments that are
// Missing count as {}.
func IntentHash(agent, server, tool string, arguments Value) Hash {
	return hashOf(ObjectValue(
		Member{"agent", StringValue(agent)},
		Member{"arguments", orEmpty(arguments)},
		Member{"server", StringValue(server)},
		Member{"tool", StringValue(tool)},
	))
}

// CallHash is sha256 of the canonical {"arguments","name"}: what the server
// that receives the call can compute for itself. Arguments that are Missing
// count as {}.
func CallHash(tool string, arguments Value) Hash {
	return hashOf(ObjectValue(
		Member{"arguments", orEmpty(arguments)},
		Member{"name", StringValue(tool)},
	))
}

func orEmpty(v Value) Value {
	if v.kind == Missing {
		return ObjectValue()
	}
	return v
}

func hashOf(v Value) Hash { return sha256.Sum256(v.Canonical()) }
