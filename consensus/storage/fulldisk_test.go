package storage

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// smallDisk mounts a file system of a few MiB and unmounts it at the end.
func smallDisk(t *testing.T) string {
	t.Helper()
	lack := func(what string, err error) {
		if os.Geteuid() != 0 && os.Getenv("CI") != "true" {
			t.Skipf("needs root and loop devices: %s: %v", what, err)
		}
		t.Fatalf("%s: %v", what, err)
	}
	base := t.TempDir()
	img, mnt := filepath.Join(base, "img"), filepath.Join(base, "mnt")
	must(t, os.Mkdir(mnt, 0o700))
	must(t, os.WriteFile(img, nil, 0o600))
	must(t, os.Truncate(img, 40<<20))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", img).CombinedOutput(); err != nil {
		lack("mkfs.ext4: "+string(out), err)
	}
	if out, err := exec.Command("mount", "-o", "loop", img, mnt).CombinedOutput(); err != nil {
		lack("mount: "+string(out), err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mnt).CombinedOutput(); err != nil {
			t.Errorf("umount: %s: %v", out, err)
		}
	})
	return mnt
}

// guards P12: a full disk shuts the store with a clear error; with room again
// and a restart everything acknowledged is there.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(smallDisk(t), "data")
	must(t, os.Mkdir(dir, 0o700))
	o := options(dir)
	var failed []error
	o.OnFailed = func(err error) { failed = append(failed, err) }
	s, err := Create(o)
	must(t, err)
	ballast := filepath.Join(dir, "ballast")
	must(t, os.WriteFile(ballast, make([]byte, 10<<20), 0o600)) // what the journal holds must find room after it
	var acked uint64
	noise := randomBytes(t, 20_000)
	for i := uint64(1); ; i++ {
		if err = s.Logs().StoreLog(&raft.Log{Index: i, Term: 1, Data: noise}); err != nil {
			break
		}
		if acked = i; i > 2000 {
			t.Fatal("the disk does not fill")
		}
	}
	wantErr(t, err, syscall.ENOSPC)
	if len(failed) != 1 || !errors.Is(failed[0], syscall.ENOSPC) || NeedsRejoin(failed[0]) {
		t.Fatalf("OnFailed: %v", failed)
	}
	wantErr(t, s.Stable().SetUint64([]byte("CurrentTerm"), 2), syscall.ENOSPC)
	k, err := s.Snapshots().Create(1, acked, 1, testConf, 1, nil)
	if err == nil { // a snapshot that does not fit leaves nothing
		_, werr := k.Write(randomBytes(t, 4<<20))
		err = errors.Join(werr, k.Close())
	}
	wantErr(t, err, syscall.ENOSPC)
	if l, err := s.Snapshots().List(); err != nil || len(l) != 0 {
		t.Fatalf("%v %v", l, err)
	}
	must(t, s.Close())
	must(t, os.Remove(ballast))
	s, err = Open(o)
	must(t, err)
	defer s.Close()
	wantRange(t, s.Logs(), 1, acked)
	for i := uint64(1); i <= acked; i++ {
		wantEntry(t, s.Logs(), &raft.Log{Index: i, Term: 1, Data: noise})
	}
	must(t, s.Logs().StoreLog(entry(acked+1, 1)))
}
