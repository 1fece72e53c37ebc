package disk_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"holdfast/chaos/fault/disk"
	"holdfast/chaos/fault/launch/launchtest"
)

func TestMain(m *testing.M) { launchtest.Main(m) }

func newDisk(t *testing.T) *disk.Disk {
	t.Helper()
	d, err := disk.New(t.Context(), filepath.Join(t.TempDir(), "mount"), 32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return d
}

func put(t *testing.T, path, text string, sync bool) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if sync {
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// What was synced is there after a power failure, and what was not is gone.
func TestPowerFailure(t *testing.T) {
	d := newDisk(t)
	kept, lost := filepath.Join(d.Mount, "kept"), filepath.Join(d.Mount, "lost")
	put(t, kept, "synced", true)
	put(t, lost, "not synced", false)
	if d.Dead() {
		t.Error("dead before its power failed")
	}
	if err := d.CutPower(); err != nil {
		t.Fatal(err)
	}
	if !d.Dead() {
		t.Error("alive without power")
	}
	if err := d.Repower(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "synced" {
		t.Errorf("a synced file is %q: %v", b, err)
	}
	if b, err := os.ReadFile(lost); err == nil && len(b) > 0 {
		t.Errorf("a file that was not synced is %q", b)
	}
	if d.Dead() {
		t.Error("still dead")
	}
}

func TestFullAndFree(t *testing.T) {
	d := newDisk(t)
	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	err := os.WriteFile(filepath.Join(d.Mount, "more"), make([]byte, 1<<16), 0o600)
	if room, rerr := d.Room(); !errors.Is(err, syscall.ENOSPC) || rerr != nil || room != 0 {
		t.Errorf("full, with %d bytes free (%v): %v", room, rerr, err)
	}
	if err := d.Free(); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(d.Mount, "again"), "x", true)
}

func TestFrozen(t *testing.T) {
	d := newDisk(t)
	if err := d.Freeze(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(d.Mount, "f"), []byte("x"), 0o600) }()
	select {
	case err := <-written:
		t.Errorf("a write to a frozen disk came back: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := d.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}
