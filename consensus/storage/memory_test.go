package storage

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

func TestMemoryLosesWhatWasNotSynced(t *testing.T) {
	m := NewMemory()
	must(t, m.Logs().StoreLogs(entries(1, 3, 1)))
	must(t, m.Stable().SetUint64([]byte("CurrentTerm"), 1))
	m.AutoSync(false)
	must(t, m.Logs().StoreLogs(entries(4, 6, 1)))
	must(t, m.Logs().DeleteRange(1, 1))
	writeSnapshot(t, m.Snapshots(), 3, 1, []byte("synced"))
	m.Sync()
	must(t, m.Logs().StoreLogs(entries(7, 9, 1)))
	must(t, m.Stable().SetUint64([]byte("CurrentTerm"), 2))
	writeSnapshot(t, m.Snapshots(), 9, 1, []byte("lost"))
	open, err := m.Snapshots().Create(1, 9, 1, testConf, 1, nil)
	must(t, err)

	n := m.Crash()
	wantErr(t, m.Logs().StoreLog(entry(10, 1)), ErrCrashed)
	wantErr(t, open.Close(), ErrCrashed)
	_, err = m.Stable().Get([]byte("CurrentTerm"))
	wantErr(t, err, ErrCrashed)
	wantRange(t, n.Logs(), 2, 6)
	if v, err := n.Stable().GetUint64([]byte("CurrentTerm")); err != nil || v != 1 {
		t.Fatalf("%d %v", v, err)
	}
	list, err := n.Snapshots().List()
	must(t, err)
	if len(list) != 1 || list[0].Index != 3 {
		t.Fatalf("%v", list)
	}
	meta, data, err := readSnapshot(n.Snapshots(), list[0].ID)
	must(t, err)
	if string(data) != "synced" || meta.Size != 6 {
		t.Fatalf("%q", data)
	}
	m.Sync() // of the dead one: nothing
	n.AutoSync(true)
	must(t, n.Logs().StoreLog(entry(7, 2)))
	n = n.Crash()
	wantRange(t, n.Logs(), 2, 7)
}

func TestMemoryAsAStore(t *testing.T) {
	m := NewMemory()
	var l raft.Log
	if err := m.Logs().GetLog(1, &l); err != raft.ErrLogNotFound {
		t.Fatal(err)
	}
	if _, err := m.Stable().GetUint64([]byte("x")); err == nil || err.Error() != "not found" { // raft compares the text
		t.Fatal(err)
	}
	must(t, m.Stable().Set([]byte("x"), []byte("abc")))
	if _, err := m.Stable().GetUint64([]byte("x")); err == nil {
		t.Fatal("not a number was taken")
	}
	full := errors.New("no space left on device")
	m.FailWrites(full)
	wantErr(t, m.Logs().StoreLog(entry(1, 1)), full)
	m.FailWrites(nil)
	must(t, m.Logs().StoreLog(entry(1, 1)))
	wantEntry(t, m.Logs(), entry(1, 1))
	for i := range uint64(4) {
		writeSnapshot(t, m.Snapshots(), i+1, 1, testState(100))
	}
	list, err := m.Snapshots().List()
	must(t, err)
	if len(list) != 2 || list[0].Index != 4 {
		t.Fatalf("%v", list)
	}
	k, err := m.Snapshots().Create(1, 9, 1, testConf, 1, nil)
	must(t, err)
	must(t, k.Cancel())
	must(t, k.Close())
	if _, err := m.Snapshots().Create(2, 9, 1, testConf, 1, nil); err == nil {
		t.Fatal("version 2 was taken")
	}
	if list, _ := m.Snapshots().List(); len(list) != 2 {
		t.Fatal("a cancelled snapshot is there")
	}
}

type bytesSnapshot struct {
	data []byte
	err  error
}

func (b bytesSnapshot) Release() {}
func (b bytesSnapshot) Persist(k raft.SnapshotSink) error {
	if _, err := k.Write(b.data); err != nil {
		return err
	}
	if b.err != nil {
		return errors.Join(b.err, k.Cancel())
	}
	return k.Close()
}

// What raft counts and sends is the compressed form; what Restore reads is not.
func TestCompressing(t *testing.T) {
	s := create(t, options(privateDir(t)))
	data := testState(1 << 20)
	k, err := s.Snapshots().Create(1, 5, 1, testConf, 1, nil)
	must(t, err)
	must(t, Compressing(bytesSnapshot{data: data}).Persist(k))
	must(t, k.Close()) // as raft does
	m, rc, err := s.Snapshots().Open(k.ID())
	must(t, err)
	if m.Size > 50_000 {
		t.Fatalf("%d bytes: not compressed", m.Size)
	}
	d, err := Decompressing(rc)
	must(t, err)
	got, err := io.ReadAll(d)
	must(t, err)
	must(t, d.Close())
	if !bytes.Equal(got, data) {
		t.Fatal("differs")
	}

	_, raw, err := readSnapshot(s.Snapshots(), k.ID())
	must(t, err)
	if int64(len(raw)) != m.Size {
		t.Fatalf("raft would send %d bytes and promise %d", len(raw), m.Size)
	}
	for _, n := range []int{1, len(raw) / 2, len(raw) - 1} { // a cut stream is an error at its end
		d, err := Decompressing(io.NopCloser(bytes.NewReader(raw[:n])))
		must(t, err)
		if _, err := io.ReadAll(d); err == nil {
			t.Fatalf("cut at %d passed", n)
		}
		must(t, d.Close())
	}

	broken := errors.New("cannot")
	k, err = s.Snapshots().Create(1, 6, 1, testConf, 1, nil)
	must(t, err)
	wantErr(t, Compressing(bytesSnapshot{data: data, err: broken}).Persist(k), broken)
	if l, err := s.Snapshots().List(); err != nil || len(l) != 1 {
		t.Fatalf("%v %v", l, err)
	}
}
