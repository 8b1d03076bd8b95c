// Package action is what everything else shares and decides on: the action
// that an agent asks for, its strict reading, its canonical bytes, its hash.
//
// # Words
//
// On our wire principal is the agent (the subject of AuthZEN), subject is the
// owner it acts for, and the resource is relying_party together with payload.
//
// # Reading
//
// [Parse] reads one JSON text by the grammar of RFC 8259 and refuses whatever
// two readers could take for two different things: keys that occur twice, keys
// of one object that differ only in case (encoding/json would take one for the
// other), escapes of half a surrogate pair, bytes that are not UTF-8, a
// byte-order mark, anything after the value, numbers that a double takes for
// infinity or, though they are not zero, for zero, and texts that are larger or
// deeper than [Limits]. Numbers keep their text, objects keep the order of their keys, and
// every [Value] keeps the bytes it was read from, so that what was decided on
// can be passed on to the byte.
//
// [Scan] is for messages that are only passed on. It checks the syntax of the
// whole text and the keys at its top, and lets pass what stands further inside.
//
// # Canonical form
//
// [Value.Canonical] is the canonical form of RFC 8785 (JCS), with one addition.
// No white space; members sorted by the UTF-16 code units of their keys; in
// strings only these are escaped: \" \\ \b \t \n \f \r, and the other
// characters below U+0020 as \u00xx with lower-case digits.
//
// A number is written from the decimal digits it was written with, not from the
// double nearest to it. Let s be its significant digits, without zeros at either
// end, k their number, and n the place of the decimal point, so that the value
// is 0.s × 10^n:
//
//	zero, also -0         0
//	k ≤ n ≤ 21            s, then n-k zeros                1e2 → 100
//	0 < n < k, n ≤ 21     s with a point after n digits    1.10 → 1.1
//	-6 < n ≤ 0            "0.", then -n zeros, then s      1e-6 → 0.000001
//	otherwise             d.ddde±x, with x = n-1           1E21 → 1e+21
//
// a minus sign before it where it is negative. This is the layout of ECMAScript,
// so a number that is the shortest text of its double comes out as RFC 8785
// says. For every other number, which RFC 8785 would round, it is the exact decimal:
//
//	9007199254740993      9007199254740993     (RFC 8785: 9007199254740992)
//	9007199254740993.0    9007199254740993
//	123456789.123456789   123456789.123456789  (RFC 8785: 123456789.12345679)
//
// So two values have the same canonical form if and only if they are equal, and
// the canonical form is never much longer than what was written: an exponent is
// never written out beyond 21 digits. [Value.Exact] tells whether plain RFC 8785
// gives the same bytes.
//
// A Go string that is not UTF-8 can come only from code, never from Parse. Its
// stray bytes are written \udcxx, which no reader accepts: distinct values stay
// distinct, and nothing like it is ever taken for a text that was sent.
//
// # Hashes
//
// All three are SHA-256 over a canonical form, written "sha256:" and 64
// lower-case hexadecimal digits.
//
//	action hash   the request: action_id, action_type, requested_at, principal,
//	              subject, relying_party (if named), payload; nothing else
//	intent hash   {"agent":…,"arguments":…,"server":…,"tool":…}
//	call hash     {"arguments":…,"name":…}
//
// Arguments that are absent count as {} in the last two.
package action
