package consensus

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

var errPowerLost = errors.New("the power is gone")

// crashDisk is a node's disk that takes its time and can lose its power. What
// was being written then is lost, or was just written and is not answered for;
// kill -9 of a process shows neither, because the kernel goes on.
//
// The node that ran on it lives on as a ghost for a moment, since its
// goroutines cannot be stopped: no append succeeds any more, its term and vote
// go nowhere, and it still can read, so that raft does not panic.
type crashDisk struct {
	*raft.InmemStore

	mu   sync.Mutex
	rng  *rand.Rand // guarded by mu
	gone bool       // guarded by mu
	held chan struct{}
}

func newCrashDisk(s *raft.InmemStore, seed uint64) *crashDisk {
	return &crashDisk{InmemStore: s, rng: rand.New(rand.NewPCG(seed, 7))}
}

// delay is that of a disk which is fast most of the time.
func (d *crashDisk) delay() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	most := []time.Duration{0, 300 * time.Microsecond, 3 * time.Millisecond, 40 * time.Millisecond}[d.rng.IntN(4)]
	return time.Duration(d.rng.Int64N(int64(most) + 1))
}

func (d *crashDisk) pause() {
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	if held != nil {
		<-held
		return
	}
	if t := d.delay(); t > 0 {
		elapse(t)
	}
}

// hold makes appends wait until release is called.
func (d *crashDisk) hold() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := make(chan struct{})
	d.held = held
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.held = nil
		close(held)
	})
}

// write runs fn if there is power, and fails also when it went meanwhile.
func (d *crashDisk) write(fn func() error) error {
	d.pause()
	d.mu.Lock()
	if d.gone {
		d.mu.Unlock()
		return errPowerLost
	}
	err := fn()
	d.mu.Unlock()
	d.pause()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone {
		return errPowerLost
	}
	return err
}

func (d *crashDisk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *crashDisk) StoreLogs(ls []*raft.Log) error {
	return d.write(func() error { return d.InmemStore.StoreLogs(ls) })
}

func (d *crashDisk) DeleteRange(from, to uint64) error {
	return d.write(func() error { return d.InmemStore.DeleteRange(from, to) })
}

func (d *crashDisk) Set(k, v []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.InmemStore.Set(k, v)
}

func (d *crashDisk) SetUint64(k []byte, v uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.InmemStore.SetUint64(k, v)
}

// crash cuts the power and returns what lies on the disk.
func (d *crashDisk) crash() *crashDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
	kept := raft.NewInmemStore()
	first, _ := d.FirstIndex()
	last, _ := d.LastIndex()
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if d.GetLog(i, &l) == nil {
			_ = kept.StoreLog(&l)
		}
	}
	for _, k := range []string{"CurrentTerm", "LastVoteTerm"} {
		if v, err := d.GetUint64([]byte(k)); err == nil {
			_ = kept.SetUint64([]byte(k), v)
		}
	}
	if v, err := d.Get([]byte("LastVoteCand")); err == nil {
		_ = kept.Set([]byte("LastVoteCand"), v)
	}
	return newCrashDisk(kept, d.rng.Uint64())
}

// crash returns what was complete.
func (m *memSnapshots) crash() *memSnapshots {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memSnapshots{all: append([]*memSnapshot(nil), m.all...), count: m.count}
}
