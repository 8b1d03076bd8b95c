package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// testKey signs the logs of tests.
var testKey = newTestKey("openleash/test")

func newTestKey(name string) *Key {
	secret, _, err := note.GenerateKey(nil, name)
	if err != nil {
		panic(err)
	}
	key, err := parseKey(secret + "\n")
	if err != nil {
		panic(err)
	}
	return key
}

// The note's and the checkpoint's format are those of others: what we sign, byte for
// byte, as c2sp.org/tlog-checkpoint has it.
func TestCheckpointFormat(t *testing.T) {
	signed, err := testKey.Sign(3, sha256.Sum256([]byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	want := "openleash/test\n3\nLXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=\n\n— openleash/test "
	if !strings.HasPrefix(string(signed), want) || strings.Count(string(signed), "\n") != 5 {
		t.Errorf("%q", signed)
	}
	c, err := OpenCheckpoint(signed, testKey.Public()+"\n")
	if err != nil || c.Size != 3 || c.Origin != "openleash/test" {
		t.Errorf("%+v, %v", c, err)
	}
}

// A witness signs it as well, and it stays ours.
func TestCheckpointWithAWitness(t *testing.T) {
	signed, err := testKey.Sign(3, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	both, err := note.Sign(&note.Note{Text: Checkpoint{"openleash/test", 3, [32]byte{1}}.Text()}, testKey.signer, newTestKey("witness.example/w").signer)
	if err != nil || string(both) == string(signed) {
		t.Fatal(err)
	}
	if c, err := OpenCheckpoint(both, testKey.Public()); err != nil || c.Size != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	signText := func(text string) string {
		signed, err := note.Sign(&note.Note{Text: text}, testKey.signer)
		if err != nil {
			t.Fatal(err)
		}
		return string(signed)
	}
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	good := signText("openleash/test\n3\n" + root + "\n")
	for name, c := range map[string]struct{ signed, key, want string }{
		"nothing":             {"", testKey.Public(), "it is not a signed checkpoint of openleash/test"},
		"no key":              {good, "", "want the log's public key"},
		"a private key":       {good, "PRIVATE+KEY+a+b+c", "want the log's public key"},
		"another key":         {good, newTestKey("openleash/test").Public(), "it is not signed with the key openleash/test+"},
		"another log":         {signText("openleash/other\n3\n" + root + "\n"), testKey.Public(), `it is a checkpoint of the log "openleash/other"`},
		"an edited size":      {strings.Replace(good, "\n3\n", "\n4\n", 1), testKey.Public(), "invalid signature"},
		"a leading zero":      {signText("openleash/test\n03\n" + root + "\n"), testKey.Public(), "want a name, a size and a root"},
		"a negative size":     {signText("openleash/test\n-3\n" + root + "\n"), testKey.Public(), "want the log's size"},
		"a size beyond int64": {signText("openleash/test\n9223372036854775808\n" + root + "\n"), testKey.Public(), "want the log's size"},
		"a short root":        {signText("openleash/test\n3\nAAAA\n"), testKey.Public(), "want a name, a size and a root"},
		"a long root":         {signText("openleash/test\n3\n" + base64.StdEncoding.EncodeToString(make([]byte, 33)) + "\n"), testKey.Public(), "want a name, a size and a root"},
		"two lines":           {signText("openleash/test\n3\n"), testKey.Public(), "a checkpoint has three lines"},
		"a fourth line":       {signText("openleash/test\n3\n" + root + "\nmore\n"), testKey.Public(), "want a name, a size and a root"},
		"too long":            {good + strings.Repeat("x", maxNote), testKey.Public(), "at most 65536 bytes"},
	} {
		if _, err := OpenCheckpoint([]byte(c.signed), c.key); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestKeyFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, err := LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(dir)
	if err != nil || again.Public() != first.Public() {
		t.Fatalf("%v, then %v, %v", first, again, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(text[strings.LastIndex(string(text), "PRIVATE+KEY"):]))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if shown := fmt.Sprintf(verb, *first) + fmt.Sprintf(verb, first); strings.Contains(shown, secret[len(secret)-20:]) {
			t.Errorf("%s shows the secret", verb)
		}
	}
	for _, bad := range []string{"", "# a comment\n", "PRIVATE+KEY+x", secret + "\n" + secret + "\n", strings.TrimPrefix(secret, "PRIVATE+")} {
		if _, err := parseKey(bad); err == nil || strings.Contains(err.Error(), secret[len(secret)-20:]) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	if err := os.Chmod(filepath.Join(dir, keyFile), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(dir); err == nil || !strings.Contains(err.Error(), "other users can read it") {
		t.Errorf("a key that others can read: %v", err)
	}
}

func TestOpenReceiptRefuses(t *testing.T) {
	m, path := newLog(t, 9)
	if err := once(t, m, path); err != nil {
		t.Fatal(err)
	}
	text, err := Prove(path, m.lines[4], testKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	lines := strings.SplitAfter(good, "\n")
	replaced := func(i int, line string) string {
		other := slices.Clone(lines)
		other[i] = line
		return strings.Join(other, "")
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":           {"", "want a receipt"},
		"another version":   {replaced(0, "c2sp.org/tlog-proof@v2\n"), "want a receipt"},
		"another line":      {replaced(1, "extra "+base64.StdEncoding.EncodeToString(m.lines[5].Line)+"\n"), "its line is not in the log"},
		"another index":     {replaced(2, "index 5\n"), "its line is not in the log"},
		"an index outside":  {replaced(2, "index 9\n"), "it is for line 10, and its checkpoint is of 9"},
		"a signed index":    {replaced(2, "index +4\n"), "want index and a number"},
		"another hash":      {replaced(3, lines[4]), "its line is not in the log"},
		"a hash less":       {replaced(3, ""), "its line is not in the log"},
		"no extra":          {replaced(1, ""), "want the entry as extra"},
		"another root":      {strings.Replace(good, "\n9\n", "\n8\n", 1), "its checkpoint"},
		"no checkpoint":     {strings.Join(lines[:6], ""), "want a receipt"},
		"too long":          {good + strings.Repeat("x", maxReceipt), "a receipt has at most"},
		"more than 63 hash": {replaced(3, strings.Repeat(lines[3], 64)), "at most 63 hashes"},
	} {
		if _, err := OpenReceipt([]byte(c.text), testKey.Public()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := OpenReceipt(text, newTestKey("openleash/test").Public()); err == nil || !strings.Contains(err.Error(), "its checkpoint: it is not signed with the key") {
		t.Errorf("another key: %v", err)
	}
	moved := slices.Clone(m.lines)
	moved[4] = m.lines[5] // a line in another's place, in a tree and a checkpoint of its own
	proof, signed := foreign(t, moved, 4)
	if _, err := OpenReceipt(receipt(Sequenced{Seq: 5, Line: m.lines[5].Line}, proof, signed), testKey.Public()); err == nil || !strings.Contains(err.Error(), "its line says that it is entry 6") {
		t.Errorf("a line in another's place: %v", err)
	}
}

// foreign is the proof of a line in a tree of any lines, and a checkpoint of it.
func foreign(t *testing.T, lines []Sequenced, index int64) (tlog.RecordProof, []byte) {
	t.Helper()
	tree, err := openTree(filepath.Join(t.TempDir(), "tree"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.f.Close()
	for _, l := range lines {
		if err := tree.add(l.Line); err != nil {
			t.Fatal(err)
		}
	}
	proof, err := tlog.ProveRecord(int64(len(lines)), index, tree)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := testKey.Sign(uint64(len(lines)), rootOf(lines))
	if err != nil {
		t.Fatal(err)
	}
	return proof, signed
}

func FuzzOpenReceipt(f *testing.F) {
	lines := make([]Sequenced, 0, 3)
	var tree rangeTree
	for _, l := range chain(f, 3) {
		lines = append(lines, l)
		tree.add(l.Line)
	}
	signed, err := testKey.Sign(3, tree.root())
	if err != nil {
		f.Fatal(err)
	}
	left := tlog.RecordHash(lines[0].Line)
	right := tlog.RecordHash(lines[2].Line)
	f.Add(receipt(lines[1], tlog.RecordProof{left, right}, signed))
	f.Add([]byte(ReceiptHead + "extra \nindex 0\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := OpenReceipt(text, testKey.Public())
		if err == nil && (r.Seq != uint64(2) || string(r.Line) != string(lines[1].Line)) {
			t.Errorf("%q is taken as the receipt of %d, %s", text, r.Seq, r.Line)
		}
	})
}
