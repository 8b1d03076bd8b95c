package proof

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test binary be a first start of its own.
func TestMain(m *testing.M) {
	dir := os.Getenv("PROOF_TEST_KEYS")
	if dir == "" {
		os.Exit(m.Run())
	}
	k, err := LoadOrCreate(dir, time.Now())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(k.ID)
}

func TestLoadOrCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home", "keys")
	made, err := LoadOrCreate(dir, noon.Add(1234567))
	if err != nil {
		t.Fatal(err)
	}
	if want := noon.Add(time.Millisecond); !made.CreatedAt.Equal(want) {
		t.Errorf("created at %v, want %v", made.CreatedAt, want)
	}
	read, err := LoadOrCreate(dir, noon.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if read.ID != made.ID || !read.CreatedAt.Equal(made.CreatedAt) {
		t.Errorf("read %v of %v, want %v of %v", read, read.CreatedAt, made, made.CreatedAt)
	}
	if _, err := Verify(sign(t, made, someClaims()), during(read.Public())); err != nil {
		t.Error(err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 || names[0].Name() != "proof-1.pem" {
		t.Errorf("in the folder: %v, %v, want proof-1.pem alone", names, err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "proof-1.pem"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

// Of first starts at once one makes the key, and all load it.
func TestFirstStartsAtOnce(t *testing.T) {
	const processes = 6
	dir := filepath.Join(t.TempDir(), "keys")
	ids := make([]string, processes)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "PROOF_TEST_KEYS="+dir)
			out, err := cmd.CombinedOutput()
			if ids[i] = string(out); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	k, err := LoadOrCreate(dir, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id != k.ID {
			t.Errorf("a process loaded %s, the file has %s", id, k.ID)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("in the folder: %v, %v, want one file", names, err)
	}
}

// The rest of the law: who comes second never replaces.
func TestCreateDoesNotReplace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "proof-1.pem")
	if err := create(file, noon); err != nil {
		t.Fatal(err)
	}
	first, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := create(file, noon); err != nil {
		t.Fatal(err)
	}
	if second, err := load(file); err != nil || second.ID != first.ID {
		t.Errorf("%v, %v, want %v", second, err, first)
	}
}

func TestNewestKeySigns(t *testing.T) {
	dir := t.TempDir()
	var last *Key
	for _, name := range []string{"proof-1.pem", "proof-2.pem", "proof-10.pem"} {
		if err := create(filepath.Join(dir, name), noon); err != nil {
			t.Fatal(err)
		}
	}
	last, err := load(filepath.Join(dir, "proof-10.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"proof-11.pem.bak", "proof-x.pem", "99.pem", "proof-.pem", ".draft-1"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if k, err := LoadOrCreate(dir, noon); err != nil || k.ID != last.ID {
		t.Errorf("%v, %v, want %v", k, err, last)
	}
}

func TestLoadRefuses(t *testing.T) {
	k := seeded(t)
	good, err := k.pem()
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		text string
		mode os.FileMode
		want string
	}{
		{"others can read it", string(good), 0o604, "chmod 600 '"},
		{"the group can read it", string(good), 0o640, "mode 0640, want 0600"},
		{"empty", "", 0o600, "found none"},
		{"cut", string(good[:len(good)-40]), 0o600, "found none"},
		{"two keys", string(good) + string(good), 0o600, "one key in a file"},
		{"a public key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 0o600, "found none"},
		{"nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "not a PKCS #8 key"},
		{"another kind", string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})), 0o600, "want an Ed25519 key, got *ecdsa"},
		{"made never", strings.Replace(string(good), "2026-05-05", "2026-99-05", 1), 0o600, "# created"},
	}
	for _, test := range tests {
		if runtime.GOOS == "windows" && test.mode != 0o600 {
			continue // no such modes there
		}
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "proof-1.pem")
			if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, test.mode); err != nil {
				t.Fatal(err)
			}
			got, err := LoadOrCreate(dir, noon)
			if err == nil || got != nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), file) {
				t.Errorf("%v, %v, want an error that says %q and names %s", got, err, test.want, file)
			}
			if after, err := os.ReadFile(file); err != nil || string(after) != test.text {
				t.Errorf("the file was changed: %q, %v", after, err)
			}
		})
	}
	t.Run("a folder", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "proof-1.pem"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadOrCreate(dir, noon); err == nil {
			t.Errorf("%v, want an error", got)
		}
	})
	t.Run("no folder possible", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadOrCreate(filepath.Join(file, "keys"), noon); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%v, %v, want an error that names %s", got, err, file)
		}
	})
}

// A key from another program, and its age from the file.
func TestLoadForeignKey(t *testing.T) {
	good, err := seeded(t).pem()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "proof-1.pem")
	bare := string(good)[strings.Index(string(good), "-----BEGIN"):]
	if err := errors.Join(os.WriteFile(file, []byte(bare), 0o600), os.Chtimes(file, noon, noon)); err != nil {
		t.Fatal(err)
	}
	k, err := LoadOrCreate(dir, time.Now())
	if err != nil || k.ID != seeded(t).ID || !k.CreatedAt.Equal(noon) {
		t.Errorf("%v, %v, want %v of %v", k, err, seeded(t), noon)
	}
}

func FuzzParseKeyFile(f *testing.F) {
	good, err := seeded(f).pem()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("# created: \n-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := parseKeyFile(text, noon)
		if (err == nil) != (k != nil) {
			t.Fatalf("%v, %v", k, err)
		}
		if err != nil {
			return
		}
		again, err := k.pem()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseKeyFile(again, time.Time{}); err != nil || back.ID != k.ID || !back.CreatedAt.Equal(k.CreatedAt) {
			t.Errorf("written and read again: %v, %v, want %v", back, err, k)
		}
	})
}
