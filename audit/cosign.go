package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// A cosignature is a witness's word, as c2sp.org/tlog-cosignature has it: that at a time
// the largest log of this name that it knew was this one, and that it had become so by
// growing alone. It is one more signature line of the checkpoint, by a key of type 0x04:
// eight bytes of the time in seconds, and an Ed25519 signature over
//
//	cosignature/v1
//	time SECONDS
//
// and the three lines of the checkpoint.

const (
	cosignatureKey  = 4 // the type of its keys; 1 is Ed25519 as logs sign, 6 is ML-DSA-44
	cosignatureSize = 8 + ed25519.SignatureSize
)

// A Cosigner verifies the cosignatures of one witness.
type Cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

// ParseCosigner reads the public key of a witness: NAME+HASH+BASE64, of type 0x04.
func ParseCosigner(key string) (Cosigner, error) {
	key = strings.TrimSpace(key)
	parts := strings.SplitN(key, "+", 3) // base64 has a + of its own
	if len(parts) < 3 {
		return Cosigner{}, fmt.Errorf("want a witness's public key, NAME+HASH+BASE64, got %.200q", key)
	}
	data, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	switch {
	case err != nil || len(data) == 0:
		return Cosigner{}, fmt.Errorf("want a witness's public key, NAME+HASH+BASE64, got %.200q", key)
	case data[0] != cosignatureKey || len(data) != 1+ed25519.PublicKeySize:
		return Cosigner{}, fmt.Errorf("want a key that makes cosignatures by Ed25519 (type 4), got one of type %d", data[0])
	}
	c := Cosigner{parts[0], keyHash(parts[0], data), data[1:]}
	if fmt.Sprintf("%08x", c.hash) != parts[1] || c.name == "" || !utf8.ValidString(c.name) || strings.ContainsFunc(c.name, unicode.IsSpace) {
		return Cosigner{}, fmt.Errorf("the public key %.200q is damaged: its hash is not that of its name and bytes", key)
	}
	return c, nil
}

// keyHash is how note names a key: SHA-256(name, newline, type and key), its first bytes.
func keyHash(name string, data []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"), data...))
	return binary.BigEndian.Uint32(sum[:])
}

// Name, KeyHash and Verify are note.Verifier.
func (c Cosigner) Name() string    { return c.name }
func (c Cosigner) KeyHash() uint32 { return c.hash }
func (c Cosigner) Verify(text, signature []byte) bool {
	if len(signature) != cosignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(signature)
	message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", seconds, text)
	return seconds <= math.MaxInt64 && ed25519.Verify(c.key, message, signature[8:])
}

// At is when the witness has cosigned a checkpoint; false: it has not. An error says that
// a signature in its name is false.
func (c Cosigner) At(signed []byte) (at time.Time, ok bool, err error) {
	opened, err := note.Open(signed, note.VerifierList(c))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return at, false, nil
	case err != nil:
		return at, false, fmt.Errorf("its cosignature by %s: %w", named(c.name, c.hash), err)
	}
	data, err := base64.StdEncoding.DecodeString(opened.Sigs[0].Base64)
	if err != nil || len(data) != 4+cosignatureSize {
		return at, false, fmt.Errorf("its cosignature by %s has another form", named(c.name, c.hash))
	}
	return time.Unix(int64(binary.BigEndian.Uint64(data[4:])), 0).UTC(), true, nil
}

// CosignedFile stands beside a log: its checkpoints as witnesses have cosigned them, the
// last of each witness.
func CosignedFile(log string) string { return beside(log, ".cosigned") }

// Cosigned adds what a witness has answered, signature lines, to the checkpoints that
// were cosigned before, and takes away what it had cosigned then. Lines of other keys are
// ignored; there has to be one of its own, on this very checkpoint.
func (t Tip) Cosigned(before, answer []byte, by Cosigner) ([]byte, error) {
	lines, err := t.cosignature(answer, by)
	if err != nil {
		return nil, err
	}
	now := &note.Note{Text: t.Text(), UnverifiedSigs: lines}
	var kept []*note.Note
	for _, piece := range SplitKept(before) {
		old, err := t.opened(piece.Signed)
		if err != nil {
			continue // damaged: each witness will cosign again
		}
		rest := without(old.UnverifiedSigs, by)
		switch {
		case old.Text == now.Text:
			now.UnverifiedSigs = append(now.UnverifiedSigs, rest...)
		case len(rest) > 0:
			kept = append(kept, &note.Note{Text: old.Text, Sigs: old.Sigs, UnverifiedSigs: rest})
		}
	}
	own, err := t.opened(t.Signed)
	if err != nil {
		return nil, err
	}
	now.Sigs = own.Sigs
	return signAll(append(kept, now))
}

func signAll(list []*note.Note) (text []byte, err error) {
	for _, n := range list {
		signed, err := note.Sign(n)
		if err != nil {
			return nil, err
		}
		text = append(append(text, signed...), '\n')
	}
	return text, nil
}

// opened reads a checkpoint of the log with all its signatures.
func (t Tip) opened(signed []byte) (*note.Note, error) {
	if _, err := t.Open(signed); err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(t.key)
	if err != nil {
		return nil, err
	}
	return note.Open(signed, note.VerifierList(verifier))
}

func without(list []note.Signature, by Cosigner) (rest []note.Signature) {
	for _, s := range list {
		if s.Name != by.name || s.Hash != by.hash {
			rest = append(rest, s)
		}
	}
	return rest
}

// cosignature finds the witness's own in its answer.
func (t Tip) cosignature(answer []byte, by Cosigner) ([]note.Signature, error) {
	for line := range bytes.Lines(answer) {
		if !bytes.HasPrefix(line, sigHead[1:]) || !bytes.HasSuffix(line, []byte("\n")) {
			return nil, fmt.Errorf("want lines that begin with %q, each ended by a newline, got %.100q", sigHead[1:], line)
		}
	}
	opened, err := note.Open(append(bytes.Clone(t.Signed), answer...), note.VerifierList(by))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return nil, fmt.Errorf("none of its signatures is by %s", named(by.name, by.hash))
	case err != nil:
		return nil, fmt.Errorf("its signatures: %w", err)
	case opened.Text != t.Text():
		return nil, errors.New("its signatures are of another checkpoint")
	}
	return opened.Sigs, nil
}
