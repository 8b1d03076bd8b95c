package authz

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/openleash/openleash-go/action"
	"github.com/openleash/openleash-go/internal/keyfile"
)

// A MaskKey makes the text that stands in the log for what a policy masks:
//
//	[masked hmac-sha256:HEX]    HMAC-SHA256 of the value's canonical JSON
//
// Equal values have the same text, wherever they stood. Who has the key and knows a
// value can confirm it; without the key nobody can try values.
type MaskKey struct{ secret []byte }

const (
	maskKeyFile = "mask.key"
	maskKeySize = 32
)

// LoadOrCreateMaskKey reads the key from the folder of keys, making it if there is none.
func LoadOrCreateMaskKey(dir string) (*MaskKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the key folder: %w", err)
	}
	file := filepath.Join(dir, maskKeyFile)
	text, _, err := keyfile.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = keyfile.Create(file, newMaskKey()); err != nil {
			return nil, fmt.Errorf("making the key of what the log masks, %s: %w", file, err)
		}
		text, _, err = keyfile.Read(file)
	}
	var key *MaskKey
	if err == nil {
		key, err = parseMaskKey(string(text))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key of what the log masks, %s: %w", file, err)
	}
	return key, nil
}

func newMaskKey() []byte {
	var secret [maskKeySize]byte
	rand.Read(secret[:])
	return []byte("# With this key OpenLeash hashes what policies mask in the audit log. Keep it secret.\n" + hex.EncodeToString(secret[:]) + "\n")
}

// parseMaskKey reads a key file: one line that is no comment. Nothing of it is quoted
// in an error.
func parseMaskKey(text string) (*MaskKey, error) {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 {
		return nil, fmt.Errorf("want one line that is no comment, found %d", len(lines))
	}
	secret, err := hex.DecodeString(lines[0])
	if err != nil || len(secret) != maskKeySize {
		return nil, fmt.Errorf("want %d bytes in hexadecimal digits; if the file is damaged take it from a backup, or move it away: a new key is made, with which older lines cannot be compared", maskKeySize)
	}
	return &MaskKey{secret}, nil
}

// Text is what stands for a value. Without a key it says no more than that there was one.
func (k *MaskKey) Text(v action.Value) string {
	if k == nil {
		return Mask
	}
	mac := hmac.New(sha256.New, k.secret)
	mac.Write(v.Canonical())
	return "[masked hmac-sha256:" + hex.EncodeToString(mac.Sum(nil)) + "]"
}
