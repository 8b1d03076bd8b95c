// Package witnesstest is a witness as c2sp.org/tlog-witness has it, for tests: strict, of
// any log whose key it is given, with its own code for all that it verifies and signs, and
// hostile where a test asks for it.
package witnesstest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Witness is an http.Handler at the submission prefix /.
type Witness struct {
	name    string
	private ed25519.PrivateKey

	mu     sync.Mutex
	keys   map[string]note.Verifier // of logs, by origin
	latest map[string]tree
	asked  int
	odd    http.HandlerFunc // answers instead; nil: it behaves
}

type tree struct {
	size int64
	root tlog.Hash
}

// New is a witness of that name, with a key of its own.
func New(name string) *Witness {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	return &Witness{name: name, private: private, keys: map[string]note.Verifier{}, latest: map[string]tree{}}
}

// Key is its public key, NAME+HASH+BASE64.
func (w *Witness) Key() string {
	return fmt.Sprintf("%s+%08x+%s", w.name, w.hash(), base64.StdEncoding.EncodeToString(w.public()))
}

func (w *Witness) public() []byte {
	return append([]byte{4}, w.private.Public().(ed25519.PublicKey)...)
}

func (w *Witness) hash() uint32 {
	sum := sha256.Sum256(append([]byte(w.name+"\n"), w.public()...))
	return binary.BigEndian.Uint32(sum[:4])
}

// Know makes a log known to it by its public key.
func (w *Witness) Know(key string) error {
	v, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys[v.Name()] = v
	return nil
}

// Misbehave has something else answer, until it is called with nil.
func (w *Witness) Misbehave(odd http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.odd = odd
}

// Size is what it has cosigned of a log.
func (w *Witness) Size(origin string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest[origin].size
}

// Asked is how often it was asked.
func (w *Witness) Asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func (w *Witness) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.odd != nil {
		w.odd(out, r)
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/add-checkpoint" {
		http.Error(out, "want POST /add-checkpoint", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(out, r.Body, 64<<10))
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	if status, text := w.add(string(body)); status != http.StatusOK {
		if status == http.StatusConflict {
			out.Header().Set("Content-Type", "text/x.tlog.size")
		}
		out.WriteHeader(status)
		io.WriteString(out, text)
	} else {
		io.WriteString(out, text)
	}
}

// add is add-checkpoint.
func (w *Witness) add(body string) (status int, text string) {
	old, proof, signed, err := parse(body)
	if err != nil {
		return http.StatusBadRequest, err.Error()
	}
	origin, _, _ := strings.Cut(signed, "\n")
	key := w.keys[origin]
	if key == nil {
		return http.StatusNotFound, "unknown log"
	}
	n, err := note.Open([]byte(signed), note.VerifierList(key))
	if err != nil {
		return http.StatusForbidden, err.Error()
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 {
		return http.StatusBadRequest, "want three lines"
	}
	size, err1 := strconv.ParseInt(lines[1], 10, 64)
	root, err2 := tlog.ParseHash(lines[2])
	known := w.latest[origin]
	switch {
	case err1 != nil || err2 != nil || old > size:
		return http.StatusBadRequest, "size or root"
	case old != known.size, old == size && known.root != root && size > 0:
		return http.StatusConflict, fmt.Sprintf("%d\n", known.size)
	case old == 0 || old == size:
		if len(proof) > 0 {
			return http.StatusUnprocessableEntity, "want no proof"
		}
	default:
		if err := tlog.CheckTree(proof, size, root, old, known.root); err != nil {
			return http.StatusUnprocessableEntity, err.Error()
		}
	}
	w.latest[origin] = tree{size, root}
	return http.StatusOK, w.Cosign(n.Text, time.Now())
}

// parse reads "old N", the proof, an empty line and a checkpoint, strictly.
func parse(body string) (old int64, proof tlog.TreeProof, signed string, err error) {
	head, signed, found := strings.Cut(body, "\n\n")
	lines := strings.Split(head, "\n")
	number, isOld := strings.CutPrefix(lines[0], "old ")
	old, err = strconv.ParseInt(number, 10, 64)
	if err != nil || !found || !isOld || strconv.FormatInt(old, 10) != number || len(lines) > 64 {
		return 0, nil, "", fmt.Errorf("want old N, at most 63 hashes and an empty line, got %q", head)
	}
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil || h.String() != line {
			return 0, nil, "", fmt.Errorf("want a hash, got %q", line)
		}
		proof = append(proof, h)
	}
	return old, proof, signed, nil
}

// Cosign is the line by which it cosigns a checkpoint's text.
func (w *Witness) Cosign(text string, at time.Time) string {
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", at.Unix(), text)
	var line bytes.Buffer
	binary.Write(&line, binary.BigEndian, w.hash())
	binary.Write(&line, binary.BigEndian, uint64(at.Unix()))
	line.Write(ed25519.Sign(w.private, []byte(message)))
	return fmt.Sprintf("— %s %s\n", w.name, base64.StdEncoding.EncodeToString(line.Bytes()))
}
