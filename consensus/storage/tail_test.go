package storage

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// discardFSM is a state machine without state.
type discardFSM struct{}

func (discardFSM) Apply(*raft.Log) any                 { return nil }
func (discardFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, io.ErrUnexpectedEOF }
func (discardFSM) Restore(rc io.ReadCloser) error      { _, err := io.Copy(io.Discard, rc); return err }

// follower runs the real library on the stores, and a leader that the test
// plays by hand.
type follower struct {
	r      *raft.Raft
	leader *raft.InmemTransport
	addr   raft.ServerAddress
}

func startFollower(t *testing.T, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore) *follower {
	t.Helper()
	addr, trans := raft.NewInmemTransport("follower")
	laddr, leader := raft.NewInmemTransport("leader")
	leader.Connect(addr, trans)
	trans.Connect(laddr, leader)
	c := raft.DefaultConfig()
	c.LocalID = "follower"
	c.Logger = hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout = time.Hour, time.Hour // it never stands
	r, err := raft.NewRaft(c, discardFSM{}, logs, stable, snaps, trans)
	must(t, err)
	t.Cleanup(func() { _ = r.Shutdown().Error() })
	return &follower{r, leader, addr}
}

func (f *follower) stop(t *testing.T) { t.Helper(); must(t, f.r.Shutdown().Error()) }

func header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("leader"), Addr: []byte("leader")}
}

func (f *follower) appendAfter(t *testing.T, prev, prevTerm, term uint64, ls ...*raft.Log) bool {
	t.Helper()
	var resp raft.AppendEntriesResponse
	must(t, f.leader.AppendEntries("follower", f.addr, &raft.AppendEntriesRequest{
		RPCHeader: header(), Term: term, PrevLogEntry: prev, PrevLogTerm: prevTerm, Entries: ls,
	}, &resp))
	return resp.Success
}

func (f *follower) install(t *testing.T, index, term uint64) {
	t.Helper()
	data := "state"
	conf := raft.Configuration{Servers: []raft.Server{{ID: "leader", Address: "leader"}, {ID: "follower", Address: f.addr}}}
	var resp raft.InstallSnapshotResponse
	must(t, f.leader.InstallSnapshot("follower", f.addr, &raft.InstallSnapshotRequest{
		RPCHeader: header(), SnapshotVersion: 1, Term: term, LastLogIndex: index, LastLogTerm: term,
		Configuration: raft.EncodeConfiguration(conf), ConfigurationIndex: 1, Size: int64(len(data)),
	}, &resp, &stringReader{data}))
	if !resp.Success {
		t.Fatal("the snapshot was refused")
	}
}

type stringReader struct{ s string }

func (r *stringReader) Read(p []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(p, r.s)
	r.s = r.s[n:]
	return n, nil
}

// monotonic says what our backend does not.
type monotonic struct{ raft.LogStore }

func (monotonic) IsMonotonic() bool { return true }

// Why IsMonotonic is false: a follower whose tail matches the snapshot goes on
// after it, and keeps entries that it acknowledged. With true, the library (1.8)
// deletes them and then refuses every append.
func TestMatchingTailSurvivesAnInstall(t *testing.T) {
	for _, mono := range []bool{false, true} {
		s := create(t, options(privateDir(t)))
		logs := s.Logs()
		if mono {
			logs = monotonic{logs}
		}
		f := startFollower(t, logs, s.Stable(), s.Snapshots())
		if !f.appendAfter(t, 0, 0, 1, entries(1, 8, 1)...) {
			t.Fatal("setup")
		}
		f.install(t, 5, 1)
		ok := f.appendAfter(t, 5, 1, 1, entries(6, 9, 1)...)
		last, err := s.Logs().LastIndex()
		must(t, err)
		switch {
		case !mono && (!ok || last != 9):
			t.Fatalf("false: success %v, last entry %d", ok, last)
		case mono && (ok || last != 0):
			t.Fatalf("true: the library has changed (success %v, last entry %d): choose again", ok, last)
		}
		f.stop(t)
	}
}

// guards the repair of a follower that is given one snapshot for ever.
func TestConflictingTailIsRepaired(t *testing.T) {
	for name, last := range map[string]uint64{"tail behind the snapshot": 8, "tail up to the snapshot": 5} {
		for _, how := range []string{"DropTail", "Open"} {
			t.Run(name+" "+how, func(t *testing.T) {
				o := options(privateDir(t))
				s := create(t, o)
				f := startFollower(t, s.Logs(), s.Stable(), s.Snapshots())
				if !f.appendAfter(t, 0, 0, 1, entries(1, last, 1)...) {
					t.Fatal("setup")
				}
				for range 3 {
					f.install(t, 5, 2) // another leader's entry 5 has term 2
					if f.appendAfter(t, 5, 2, 2, entries(6, 9, 2)...) {
						t.Fatal("the library discards a conflicting tail now: the repair can go")
					}
				}
				f.stop(t)
				c, err := s.TailConflict()
				must(t, err)
				if c == nil || *c != (Conflict{Index: 5, Term: 2, EntryTerm: 1}) {
					t.Fatalf("%+v", c)
				}
				if how == "DropTail" {
					must(t, s.DropTail(0))
				} else {
					s = reopen(t, s, o)
				}
				wantRange(t, s.Logs(), 0, 0)
				f = startFollower(t, s.Logs(), s.Stable(), s.Snapshots())
				if !f.appendAfter(t, 5, 2, 2, entries(6, 9, 2)...) {
					t.Fatal("still refused")
				}
				wantRange(t, s.Logs(), 6, 9)
				f.stop(t)
			})
		}
	}
}

// guards P1: entries that may be committed are not dropped by a repair.
func TestDropTailRefusesWithoutAConflict(t *testing.T) {
	s := create(t, options(privateDir(t)))
	must(t, s.Logs().StoreLogs(entries(1, 8, 1)))
	wantErr(t, s.DropTail(0), ErrTailInUse)
	writeSnapshot(t, s.Snapshots(), 5, 1, []byte("state"))
	wantErr(t, s.DropTail(6), ErrTailInUse)
	writeSnapshot(t, s.Snapshots(), 20, 3, []byte("state")) // ahead of the log
	wantErr(t, s.DropTail(0), ErrTailInUse)
	wantRange(t, s.Logs(), 1, 8)
}

// guards P1: a log that lost its end does not come back as if it never had it.
func TestLostEndIsNoticed(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Logs().StoreLogs(entries(1, 5, 1)))
	must(t, s.Close())
	old, err := os.ReadFile(filepath.Join(o.Dir, logFile))
	must(t, err)
	s = mustOpen(t, o)
	must(t, s.Logs().StoreLogs(entries(6, 7, 1)))
	must(t, s.Close())
	must(t, os.WriteFile(filepath.Join(o.Dir, logFile), old, 0o600))
	_, err = Open(o)
	wantErr(t, err, ErrDamaged)

	// A mark that was never written, or torn, is no damage.
	must(t, os.WriteFile(filepath.Join(o.Dir, markFile), []byte("torn"), 0o600))
	s = mustOpen(t, o)
	must(t, s.Logs().DeleteRange(4, 5)) // a conflict lowers it
	must(t, s.Logs().DeleteRange(1, 1)) // compaction does not touch it
	s = reopen(t, s, o)
	wantRange(t, s.Logs(), 2, 3)
	if last, err := s.logs.mark.last(); err != nil || last != 3 {
		t.Fatalf("mark %d, %v", last, err)
	}
}
