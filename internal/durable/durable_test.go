package durable

import (
	"os"
	"path/filepath"
	"testing"
)

func TestData(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("here"); err != nil {
		t.Fatal(err)
	}
	if err := Data(f); err != nil {
		t.Error(err)
	}
	f.Close()
	if Data(f) == nil {
		t.Error("a closed file: want an error, got none")
	}
}

func TestDir(t *testing.T) {
	if err := Dir(t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := Dir(filepath.Join(t.TempDir(), "absent")); !os.IsNotExist(err) {
		t.Errorf("an absent folder: want that it does not exist, got %v", err)
	}
}
