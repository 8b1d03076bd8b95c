package proof

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/openleash/openleash-go/internal/keyfile"
)

// The key files of a folder are proof-1.pem, proof-2.pem, … in the order in
// which the keys were made; the last one signs. A file is PKCS #8 in PEM, as
// other programs write it, below lines of comment.
const (
	keyPrefix   = "proof-"
	keySuffix   = ".pem"
	pemType     = "PRIVATE KEY"
	createdLine = "# created: "
)

// LoadOrCreate reads the installation's signing key from dir (mode 0700; files
// 0600, one a key), making the first one. A file others can read is an error.
// Of several processes that make the first one, all load the one that won.
func LoadOrCreate(dir string, now time.Time) (*Key, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the key folder: %w", err)
	}
	file, err := newest(dir)
	if err != nil {
		return nil, fmt.Errorf("looking for the signing key: %w", err)
	}
	if file == "" {
		file = filepath.Join(dir, keyPrefix+"1"+keySuffix)
		if err := create(file, now); err != nil {
			return nil, fmt.Errorf("making the signing key %s: %w", file, err)
		}
	}
	key, err := load(file)
	if err != nil {
		return nil, fmt.Errorf("reading the signing key %s: %w", file, err)
	}
	return key, nil
}

// newest returns the key file with the largest number, or "".
func newest(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	last, file := uint64(0), ""
	for _, e := range entries {
		name, isKey := strings.CutPrefix(e.Name(), keyPrefix)
		name, isPEM := strings.CutSuffix(name, keySuffix)
		n, err := strconv.ParseUint(name, 10, 32)
		if isKey && isPEM && err == nil && n > last {
			last, file = n, filepath.Join(dir, e.Name())
		}
	}
	return file, nil
}

// create makes a key and puts it at file, unless there is one by now.
func create(file string, now time.Time) error {
	key, err := NewKey(now)
	if err != nil {
		return err
	}
	text, err := key.pem()
	if err != nil {
		return err
	}
	return keyfile.Create(file, text)
}

// pem writes a key file.
func (k *Key) pem() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, err
	}
	comment := "# OpenLeash signs proofs with this key. Keep it secret.\n" +
		"# key id: " + k.ID + "\n" + createdLine + formatTime(k.CreatedAt) + "\n"
	return append([]byte(comment), pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})...), nil
}

// load reads a key file, if nobody else can.
func load(file string) (*Key, error) {
	text, written, err := keyfile.Read(file)
	if err != nil {
		return nil, err
	}
	return parseKeyFile(text, written)
}

// parseKeyFile reads a key file. Nothing of the file is quoted in an error. A
// file of another program does not say when its key was made; then modified does.
func parseKeyFile(text []byte, modified time.Time) (*Key, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil || block.Type != pemType:
		return nil, fmt.Errorf("want one PEM block %q (PKCS #8), found none", pemType)
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("something stands after the PEM block, want one key in a file")
	}
	created := modified
	comment, _, _ := strings.Cut(string(text), "-----BEGIN")
	for line := range strings.Lines(comment) {
		if at, ok := strings.CutPrefix(line, createdLine); ok {
			var err error
			if created, err = parseTime(strings.TrimSpace(at)); err != nil {
				return nil, fmt.Errorf("%q: %w", createdLine, err)
			}
		}
	}
	return parsePKCS8(block.Bytes, created)
}

// parsePKCS8 reads a private key in DER.
func parsePKCS8(der []byte, created time.Time) (*Key, error) {
	any, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the PEM block is not a PKCS #8 key")
	}
	private, ok := any.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("want an Ed25519 key, got %T", any)
	}
	return newKey(private, created)
}
