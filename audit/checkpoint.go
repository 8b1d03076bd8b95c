package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/openleash/openleash-go/internal/keyfile"
)

// A Checkpoint says what the first Size lines of a log are: the root of their Merkle
// tree (RFC 6962, 2.1), each line without its newline being one leaf.
//
// Signed, it is a note as c2sp.org/tlog-checkpoint has it, of three lines: the log's
// name, the size in decimal, the root in base64. The key has the log's name, and
// witnesses may have added their signatures.
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   [32]byte
}

// Text is the three lines that are signed; of the empty Checkpoint it is "".
func (c Checkpoint) Text() string {
	if c.Origin == "" {
		return ""
	}
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// maxNote bounds a signed checkpoint: this one has three lines, and a signature each of
// some witnesses.
const maxNote = 64 << 10

// OpenCheckpoint reads a signed checkpoint and verifies that it is signed with the key,
// which is written as golang.org/x/mod/sumdb/note does: NAME+HASH+BASE64.
func OpenCheckpoint(signed []byte, key string) (Checkpoint, error) {
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("want the log's public key, NAME+HASH+BASE64 (openleash audit key prints it), got %.80q", key)
	}
	if len(signed) > maxNote {
		return Checkpoint{}, fmt.Errorf("a checkpoint has at most %d bytes, this has %d", maxNote, len(signed))
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return Checkpoint{}, fmt.Errorf("it is not signed with the key %s but with %s", named(verifier.Name(), verifier.KeyHash()), signers(unverified.Note))
	case err != nil:
		return Checkpoint{}, fmt.Errorf("it is not a signed checkpoint of %s: %w", verifier.Name(), err)
	}
	c, err := ParseCheckpoint(opened.Text)
	if err == nil && c.Origin != verifier.Name() {
		err = fmt.Errorf("it is a checkpoint of the log %q, and the key is that of %q", c.Origin, verifier.Name())
	}
	return c, err
}

func named(name string, hash uint32) string { return fmt.Sprintf("%s+%08x", name, hash) }

func signers(n *note.Note) string {
	var list []string
	for _, s := range n.UnverifiedSigs {
		list = append(list, named(s.Name, s.Hash))
	}
	return strings.Join(list, ", ")
}

// ParseCheckpoint reads the three lines, written in the one way in which they can be.
func ParseCheckpoint(text string) (c Checkpoint, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) < 4 {
		return c, fmt.Errorf("a checkpoint has three lines, got %.200q", text)
	}
	c.Origin = lines[0]
	c.Size, err = strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return c, fmt.Errorf("want the log's size in the second line, got %.80q", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || copy(c.Root[:], root) != len(c.Root) || c.Text() != text {
		return c, fmt.Errorf("want a name, a size and a root of 32 bytes in base64, got %.200q", text)
	}
	return c, nil
}

// A Key signs the checkpoints of one log. Its name is the log's.
type Key struct {
	signer note.Signer
	public string
}

// Format keeps the secret out of logs, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, "audit.Key("+k.public+")") }

// Public is the half that may be known: NAME+HASH+BASE64.
func (k *Key) Public() string { return k.public }

// Origin is the log's name.
func (k *Key) Origin() string { return k.signer.Name() }

// Sign signs a checkpoint of the log.
func (k *Key) Sign(size uint64, root [32]byte) ([]byte, error) {
	return note.Sign(&note.Note{Text: Checkpoint{k.Origin(), size, root}.Text()}, k.signer)
}

const keyFile = "audit.key"

// LoadOrCreateKey reads the log's key from the folder of keys, making it, and with it
// the log's name, if there is none.
func LoadOrCreateKey(dir string) (*Key, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the key folder: %w", err)
	}
	file := filepath.Join(dir, keyFile)
	text, _, err := keyfile.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createKey(file); err != nil {
			return nil, fmt.Errorf("making the audit log's key %s: %w", file, err)
		}
		text, _, err = keyfile.Read(file)
	}
	var key *Key
	if err == nil {
		key, err = parseKey(string(text))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the audit log's key %s: %w", file, err)
	}
	return key, nil
}

func createKey(file string) error {
	secret, public, err := note.GenerateKey(nil, "openleash/"+newName())
	if err != nil {
		return err
	}
	text := "# OpenLeash signs the checkpoints of its audit log with this key. Keep it secret.\n" +
		"# public key: " + public + "\n" + secret + "\n"
	return keyfile.Create(file, []byte(text))
}

func newName() string {
	var name [8]byte
	rand.Read(name[:])
	return hex.EncodeToString(name[:])
}

// parseKey reads a key file: one line that is no comment. Nothing of it is quoted in an
// error.
func parseKey(text string) (*Key, error) {
	var secret string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if secret != "" {
			return nil, errors.New("want one key, found two lines that are no comments")
		}
		secret = line
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, errors.New("want a line PRIVATE+KEY+NAME+HASH+BASE64, found none")
	}
	pieces := strings.SplitN(secret, "+", 5) // base64 has a + of its own
	seed, err := base64.StdEncoding.DecodeString(pieces[len(pieces)-1])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, errors.New("want an Ed25519 key, found another")
	}
	private := ed25519.NewKeyFromSeed(seed[1:])
	public, err := note.NewEd25519VerifierKey(signer.Name(), private.Public().(ed25519.PublicKey))
	return &Key{signer, public}, err
}
