package gameday

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"holdfast/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHost is a node in memory.
type fakeHost struct {
	mu      sync.Mutex
	journal string // its path: a signal wants a line in it
	pid     int
	stopped bool
	dead    bool
	early   bool // a signal came before its line
	lost    string
	status  client.ClusterStatus
}

func (h *fakeHost) Find() (target, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return target{h.pid, "boot/1"}, nil
}

func (h *fakeHost) Signal(t target, s syscall.Signal) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.PID != h.pid {
		return errGone
	}
	want := `"what":"act"`
	switch s {
	case syscall.SIGSTOP:
		h.stopped = true
	case syscall.SIGCONT:
		h.stopped, want = false, `"what":"heal"`
	case syscall.SIGKILL:
		h.dead = true
	}
	if b, err := os.ReadFile(h.journal); err != nil || !strings.Contains(string(b), want) {
		h.early = true
	}
	return nil
}

func (h *fakeHost) Status(context.Context) (*client.ClusterStatus, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || h.dead {
		return nil, errors.New("no answer")
	}
	st := h.status
	return &st, nil
}

func (h *fakeHost) Reach(_ context.Context, addr string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if addr == h.lost {
		return errors.New("no route")
	}
	return nil
}

func (h *fakeHost) set(f func(*fakeHost)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

func (h *fakeHost) is(f func(*fakeHost) bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f(h)
}

func stopped(h *fakeHost) bool { return h.stopped }

type rig struct {
	*Guardian
	t    *testing.T
	host *fakeHost
	key  ed25519.PrivateKey
}

// newRig is a guardian beside node n1 of three. In a bubble only.
func newRig(t *testing.T) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal")
	h := &fakeHost{journal: path, pid: 77, status: client.ClusterStatus{
		ClusterID: "c", AnsweredBy: "n1", Leader: "n2", Tolerates: 1, Index: 5, CommitIndex: 5,
		Members: []client.Member{{ID: "n1", Addr: "a1", Healthy: true}, {ID: "n2", Addr: "a2", Healthy: true}, {ID: "n3", Addr: "a3", Healthy: true}},
	}}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := open(t.Context(), h, path, pub)
	if err != nil {
		t.Fatal(err)
	}
	return &rig{g, t, h, key}
}

func (r *rig) signed(o Order, ttl time.Duration) *Signed {
	r.t.Helper()
	s, err := Sign(r.key, o, time.Now(), ttl)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) order(a Action) *Signed {
	return r.signed(Order{Cluster: "c", Node: "n1", Action: a, For: 20 * time.Second}, time.Minute)
}

func (r *rig) must(s *Signed) {
	r.t.Helper()
	if err := r.Do(r.t.Context(), s); err != nil {
		r.t.Fatal(err)
	}
}

func TestRefusedOrders(t *testing.T) {
	other := func(*rig) ed25519.PrivateKey {
		_, key, _ := ed25519.GenerateKey(nil)
		return key
	}
	whole := func(o Order) Order { o.Cluster, o.Node, o.Action, o.For = "c", "n1", Pause, time.Second; return o }
	for name, c := range map[string]struct {
		order  func(*rig) *Signed
		before func(*rig)
		says   string
	}{
		"another key": {order: func(r *rig) *Signed { r.key = other(r); return r.order(Pause) }, says: "not signed"},
		"changed after it was signed": {order: func(r *rig) *Signed {
			s := r.order(Pause)
			s.Order = []byte(strings.Replace(string(s.Order), "pause", "kill", 1))
			return s
		}, says: "not signed"},
		"another cluster": {order: func(r *rig) *Signed {
			return r.signed(Order{Cluster: "d", Node: "n1", Action: Pause, For: 1}, time.Minute)
		}, says: "cluster"},
		"another node": {order: func(r *rig) *Signed {
			return r.signed(Order{Cluster: "c", Node: "n2", Action: Pause, For: 1}, time.Minute)
		}, says: "node"},
		"good for too long": {order: func(r *rig) *Signed { return r.signed(whole(Order{}), MaxTTL+time.Second) }, says: "at most 10m"},
		"lasts too long": {order: func(r *rig) *Signed {
			return r.signed(Order{Cluster: "c", Node: "n1", Action: Pause, For: MaxTTL + 1}, time.Minute)
		}, says: "would last"},
		"expired": {order: func(r *rig) *Signed {
			s := r.order(Pause)
			time.Sleep(2 * time.Minute) // the bubble's
			return s
		}, says: "was good until"},
		"from the future": {order: func(r *rig) *Signed {
			s, _ := Sign(r.key, whole(Order{}), time.Now().Add(time.Hour), time.Minute)
			return s
		}, says: "yet to come"},
		"unknown action": {order: func(r *rig) *Signed { return r.order("wipe") }, says: "unknown"},
		"used before": {order: func(r *rig) *Signed {
			s := r.order(Halt)
			r.must(s)
			return s
		}, says: "used before"},
		"no voter to spare":     {before: func(r *rig) { r.host.set(func(h *fakeHost) { h.status.Tolerates = 0 }) }, says: "tolerates"},
		"no leader":             {before: func(r *rig) { r.host.set(func(h *fakeHost) { h.status.Leader = "" }) }, says: "no leader"},
		"another node is sick":  {before: func(r *rig) { r.host.set(func(h *fakeHost) { h.status.Members[2].Healthy = false }) }, says: "not healthy"},
		"one is in force":       {before: func(r *rig) { r.must(r.order(Pause)) }, says: "does not say"},
		"renewal without fault": {order: func(r *rig) *Signed { return r.order(Renew) }, says: "no fault is in force"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				defer r.Close()
				if c.before != nil {
					c.before(r)
				}
				was := r.host.is(stopped)
				order := r.order(Pause)
				if c.order != nil {
					order = c.order(r)
				}
				if err := r.Do(t.Context(), order); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("it says %v, want %q", err, c.says)
				}
				if r.host.is(stopped) != was {
					t.Error("a refused order was obeyed")
				}
			})
		})
	}
}

// Whatever happens, the fault is healed, and the heal is measured.
func TestHeals(t *testing.T) {
	renew := func(r *rig, n int) {
		for range n {
			time.Sleep(time.Second) // the bubble's
			r.must(r.order(Renew))
		}
	}
	for name, c := range map[string]struct {
		meanwhile func(*rig)
		after     time.Duration // it is in force until then, and healed soon after
		why       string
	}{
		"its time is over":     {meanwhile: func(r *rig) { renew(r, 18) }, after: 19 * time.Second, why: "time is over"},
		"the tester is lost":   {after: 4 * time.Second, why: "silent"},
		"a halt":               {meanwhile: func(r *rig) { renew(r, 2); r.must(r.order(Halt)) }, after: 2 * time.Second, why: "halt"},
		"another node is lost": {meanwhile: func(r *rig) { r.host.set(func(h *fakeHost) { h.lost = "a3" }) }, why: "was lost"},
		"the guardian ends":    {meanwhile: func(r *rig) { r.mu.Lock(); r.force.end("the guardian ends"); r.mu.Unlock() }, why: "guardian ends"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				defer r.Close()
				begun := time.Now()
				r.must(r.order(Pause))
				if !r.host.is(stopped) || !r.Report().InForce {
					t.Fatal("the order was not obeyed")
				}
				if c.meanwhile != nil {
					c.meanwhile(r)
				}
				if left := c.after - time.Since(begun); left > 0 {
					time.Sleep(left)
					if !r.host.is(stopped) {
						t.Errorf("healed before %s", c.after)
					}
				}
				time.Sleep(3 * time.Second)
				rep := r.Report()
				if r.host.is(stopped) || rep.InForce || !rep.Healed || !strings.Contains(rep.Why, c.why) {
					t.Errorf("after all: stopped %v, %+v", r.host.is(stopped), rep)
				}
				if r.host.is(func(h *fakeHost) bool { return h.early }) {
					t.Error("it acted before the line was on the disk")
				}
			})
		})
	}
}

// A killed guardian's fault is healed by the next, and no other process is
// touched.
func TestNextGuardianHeals(t *testing.T) {
	for name, reused := range map[string]bool{"the same process": false, "another with its number": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				used := r.order(Pause)
				r.must(used)
				// The first one is killed: only its journal is left.
				copied := filepath.Join(t.TempDir(), "journal")
				b, err := os.ReadFile(r.host.journal)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(copied, append(b, `{"what":"ac`...), 0o600); err != nil {
					t.Fatal(err)
				}
				second := &fakeHost{journal: copied, pid: 77, stopped: !reused, status: r.host.status}
				if reused {
					second.pid = 78
				}
				g, err := open(t.Context(), second, copied, r.key.Public().(ed25519.PublicKey))
				if err != nil {
					t.Fatal(err)
				}
				if second.stopped || !g.Report().Healed {
					t.Errorf("stopped %v, %+v", second.stopped, g.Report())
				}
				if err := g.Do(t.Context(), used); err == nil {
					t.Error("an order is good again after a restart of the guardian")
				}
				if err := errors.Join(g.Close(), r.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A node that does not come back is told of.
func TestUnhealedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		r.must(r.signed(Order{Cluster: "c", Node: "n1", Action: Kill, For: time.Second}, time.Minute))
		time.Sleep(healWithin + 5*time.Second)
		if rep := r.Report(); rep.InForce || rep.Healed || rep.Error == "" {
			t.Errorf("nobody started the node again: %+v", rep)
		}
	})
}

func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	public, err := NewKey(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ReadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ParsePublic(public)
	if err != nil || !pub.Equal(key.Public()) {
		t.Errorf("the halves do not fit: %v", err)
	}
	if _, err := NewKey(path); err == nil {
		t.Error("a key was overwritten")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	if _, err := ParsePublic(strings.TrimPrefix(public, publicPrefix)); err == nil {
		t.Error("any text is a public key")
	}
}

// The process is the one that listens at the node's socket, and a signal never
// reaches another.
func TestFindAndSignal(t *testing.T) {
	dir := t.TempDir()
	h := nodeHost{dir}
	if _, err := h.Find(); err == nil {
		t.Error("found a node where none is")
	}
	l, err := net.Listen("unix", h.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	found, err := h.Find()
	if err != nil || found.PID != os.Getpid() {
		t.Fatalf("found %+v: %v", found, err)
	}
	if err := h.Signal(found, 0); err != nil {
		t.Errorf("the process is there: %v", err)
	}
	found.Start += "0"
	if err := h.Signal(found, syscall.SIGKILL); !errors.Is(err, errGone) {
		t.Errorf("another process with its number: %v", err)
	}
}
