package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

var testConf = raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: "node-a", Address: canary}}}

func writeSnapshot(t testing.TB, ss raft.SnapshotStore, index, term uint64, data []byte) string {
	t.Helper()
	k, err := ss.Create(1, index, term, testConf, 3, nil)
	must(t, err)
	for c := range slices.Chunk(data, 10_000) {
		_, err := k.Write(c)
		must(t, err)
	}
	must(t, k.Close())
	must(t, k.Close())
	must(t, k.Cancel()) // after Close: nothing
	return k.ID()
}

func readSnapshot(ss raft.SnapshotStore, id string) (*raft.SnapshotMeta, []byte, error) {
	m, rc, err := ss.Open(id)
	if err != nil {
		return nil, nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	return m, b, err
}

func testState(n int) []byte { return bytes.Repeat([]byte(canary), n/len(canary)+1)[:n] }

func TestSnapshotRoundTrip(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	for i, n := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3*ChunkSize + 77} {
		data := testState(n)
		id := writeSnapshot(t, s.Snapshots(), uint64(10+i), 2, data)
		m, got, err := readSnapshot(s.Snapshots(), id)
		must(t, err)
		if m.Size != int64(n) || !bytes.Equal(got, data) || m.Index != uint64(10+i) || m.Term != 2 || m.ConfigurationIndex != 3 ||
			len(m.Configuration.Servers) != 1 || m.Configuration.Servers[0] != testConf.Servers[0] || m.Version != 1 {
			t.Fatalf("%d bytes: %+v", n, m)
		}
	}
	list, err := s.Snapshots().List()
	must(t, err)
	if len(list) != 2 || list[0].Index != 15 || list[1].Index != 14 {
		t.Fatalf("%v", list)
	}
	names, err := os.ReadDir(filepath.Join(o.Dir, snapshotsDir))
	must(t, err)
	if len(names) != 2 {
		t.Fatalf("kept %v", names)
	}
	noCanary(t, o.Dir)
	_, _, err = s.Snapshots().Open("../../etc")
	if err == nil {
		t.Fatal("a path was taken for an ID")
	}
	_, _, err = s.Snapshots().Open("1-2-3")
	wantErr(t, err, os.ErrNotExist)
	_, err = s.Snapshots().Create(0, 1, 1, testConf, 1, nil)
	if err == nil {
		t.Fatal("version 0 was taken")
	}
}

func TestSnapshotsOfOneMillisecond(t *testing.T) {
	o := options(privateDir(t))
	o.Now = func() time.Time { return standing }
	s := create(t, o)
	a, b := writeSnapshot(t, s.Snapshots(), 5, 1, []byte("a")), writeSnapshot(t, s.Snapshots(), 5, 1, []byte("b"))
	if a == b {
		t.Fatal("one ID for two")
	}
	list, err := s.Snapshots().List()
	must(t, err)
	if len(list) != 2 || list[0].ID != b {
		t.Fatalf("newest is not first: %v", list[0].ID)
	}
}

func TestUnfinishedSnapshots(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	k, err := s.Snapshots().Create(1, 5, 1, testConf, 1, nil)
	must(t, err)
	_, err = k.Write([]byte("half"))
	must(t, err)
	if l, err := s.Snapshots().List(); err != nil || len(l) != 0 {
		t.Fatalf("listed before Close: %v %v", l, err)
	}
	must(t, k.Cancel())
	if _, err := k.Write(nil); err == nil {
		t.Fatal("written after Cancel")
	}
	dir := filepath.Join(o.Dir, snapshotsDir)
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Fatalf("left after Cancel: %v", names)
	}
	_, err = s.Snapshots().Create(1, 6, 1, testConf, 1, nil) // killed before Close
	must(t, err)
	s = reopen(t, s, o)
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Fatalf("left after a restart: %v", names)
	}
	_ = s
}

// guards "a corrupted snapshot is named, skipped, and kept": every byte flip and
// every cut of either file is noticed.
func TestDamagedSnapshots(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	older := writeSnapshot(t, s.Snapshots(), 4, 1, []byte("older"))
	id := writeSnapshot(t, s.Snapshots(), 5, 1, testState(300))
	for _, name := range []string{stateFile, metaFile} {
		path := filepath.Join(o.Dir, snapshotsDir, id, name)
		good, err := os.ReadFile(path)
		must(t, err)
		check := func(what string, at int, b []byte) {
			must(t, os.WriteFile(path, b, 0o600))
			_, got, err := readSnapshot(s.Snapshots(), id)
			var d *DamageError
			if !errors.Is(err, ErrDamaged) || !errors.As(err, &d) || !strings.HasPrefix(d.File, filepath.Dir(path)) {
				t.Fatalf("%s %s at %d: %v", name, what, at, err)
			}
			if len(got) != 0 {
				t.Fatalf("%s %s at %d: %d bytes served", name, what, at, len(got))
			}
		}
		for i := range good {
			b := bytes.Clone(good)
			b[i] ^= 1 << (i % 8)
			check("flip", i, b)
			if i%5 == 0 {
				check("cut", i, good[:i])
			}
		}
		check("longer by one", len(good), append(bytes.Clone(good), 0))
		must(t, os.WriteFile(path, good, 0o600))
		if _, _, err := readSnapshot(s.Snapshots(), id); err != nil {
			t.Fatal(err)
		}
	}
	must(t, os.Truncate(filepath.Join(o.Dir, snapshotsDir, id, stateFile), 100))
	list, err := s.Snapshots().List()
	must(t, err)
	if len(list) != 1 || list[0].ID != older {
		t.Fatalf("%v", list)
	}
	if bad, err := s.DamagedSnapshots(); err != nil || len(bad) != 1 || !strings.Contains(bad[0].Error(), id) {
		t.Fatalf("%v %v", bad, err)
	}
	writeSnapshot(t, s.Snapshots(), 6, 1, []byte("x"))
	writeSnapshot(t, s.Snapshots(), 7, 1, []byte("x"))
	if ok, _ := exists(filepath.Join(o.Dir, snapshotsDir, id)); !ok {
		t.Fatal("the evidence was removed")
	}
}

// Files of one sound snapshot are not taken for another's.
func TestExchangedSnapshotFiles(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	a, b := writeSnapshot(t, s.Snapshots(), 4, 1, testState(100)), writeSnapshot(t, s.Snapshots(), 5, 1, testState(100))
	dir := filepath.Join(o.Dir, snapshotsDir)
	must(t, os.Rename(filepath.Join(dir, a, stateFile), filepath.Join(dir, b, stateFile)))
	_, _, err := readSnapshot(s.Snapshots(), b)
	wantErr(t, err, ErrDamaged)
	must(t, os.RemoveAll(filepath.Join(dir, a)))
	must(t, os.Rename(filepath.Join(dir, b), filepath.Join(dir, "9-9-9")))
	if l, err := s.Snapshots().List(); err != nil || len(l) != 0 {
		t.Fatalf("%v %v", l, err)
	}
}
