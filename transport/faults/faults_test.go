package faults

import (
	"errors"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is an in-memory socket: what is written appears in out.
type wire struct {
	net.PacketConn
	in, out chan packet
	closed  chan struct{}
}

type addr string

func (a addr) Network() string { return "mem" }
func (a addr) String() string  { return string(a) }

func newWire() *wire {
	return &wire{in: make(chan packet), out: make(chan packet, 100), closed: make(chan struct{})}
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-w.in:
		return copy(b, p.b), p.from, nil
	case <-w.closed:
		return 0, nil, net.ErrClosed
	}
}

func (w *wire) WriteTo(b []byte, to net.Addr) (int, error) {
	w.out <- packet{slices.Clone(b), to}
	return len(b), nil
}

func (w *wire) Close() error {
	close(w.closed)
	return nil
}

func send(t *testing.T, c net.PacketConn, to, text string) {
	t.Helper()
	if n, err := c.WriteTo([]byte(text), addr(to)); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

// drain returns what has been written by now.
func (w *wire) drain() (got []string) {
	synctest.Wait()
	for {
		select {
		case p := <-w.out:
			got = append(got, string(p.b))
		default:
			return got
		}
	}
}

func read(c net.PacketConn, within time.Duration) string {
	_ = c.SetReadDeadline(time.Now().Add(within))
	var b [100]byte
	n, _, err := c.ReadFrom(b[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "timeout"
	}
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

func inBubble(t *testing.T, f func(t *testing.T, n *Net, w *wire, c net.PacketConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, w := New(1, nil), newWire()
		c := n.Wrap(w)
		f(t, n, w, c)
		_ = c.Close()
		synctest.Wait()
	})
}

func TestPassesWithoutRules(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Net, w *wire, c net.PacketConn) {
		send(t, c, "b", "1")
		send(t, c, "b", "2")
		if got := w.drain(); !slices.Equal(got, []string{"1", "2"}) {
			t.Error(got)
		}
		w.in <- packet{[]byte("x"), addr("b")}
		if got := read(c, time.Second); got != "x" {
			t.Error(got)
		}
		if got := read(c, time.Second); got != "timeout" {
			t.Error(got)
		}
	})
}

func TestCutIsPerPeerAndDirection(t *testing.T) {
	inBubble(t, func(t *testing.T, n *Net, w *wire, c net.PacketConn) {
		n.Set("b", Out, Rule{Cut: true})
		send(t, c, "b", "lost")
		send(t, c, "d", "kept")
		if got := w.drain(); !slices.Equal(got, []string{"kept"}) {
			t.Error(got)
		}
		w.in <- packet{[]byte("back"), addr("b")}
		if got := read(c, time.Second); got != "back" {
			t.Errorf("the other direction is cut as well: %s", got)
		}
		n.Set(Everyone, In, Rule{Cut: true})
		w.in <- packet{[]byte("lost"), addr("b")}
		if got := read(c, time.Second); got != "timeout" {
			t.Error(got)
		}
		n.Set("b", In, Rule{}) // a rule of its own goes before Everyone's
		w.in <- packet{[]byte("kept"), addr("b")}
		if got := read(c, time.Second); got != "kept" {
			t.Error(got)
		}
		n.Heal()
		send(t, c, "b", "healed")
		if got := w.drain(); !slices.Equal(got, []string{"healed"}) {
			t.Error(got)
		}
	})
}

func TestDelay(t *testing.T) {
	inBubble(t, func(t *testing.T, n *Net, w *wire, c net.PacketConn) {
		n.Set(Everyone, Out, Rule{Delay: 10 * time.Millisecond})
		n.Set(Everyone, In, Rule{Delay: 10 * time.Millisecond})
		send(t, c, "b", "late")
		time.Sleep(9 * time.Millisecond) // the bubble's clock
		if got := w.drain(); len(got) != 0 {
			t.Error("too early", got)
		}
		time.Sleep(time.Millisecond)
		if got := w.drain(); !slices.Equal(got, []string{"late"}) {
			t.Error(got)
		}
		w.in <- packet{[]byte("x"), addr("b")}
		if got := read(c, 9*time.Millisecond); got != "timeout" {
			t.Error(got)
		}
		if got := read(c, 2*time.Millisecond); got != "x" {
			t.Error(got)
		}
	})
}

func TestReorderDuplicateThrottle(t *testing.T) {
	inBubble(t, func(t *testing.T, n *Net, w *wire, c net.PacketConn) {
		n.Set("b", Out, Rule{Reorder: 1})
		send(t, c, "b", "first")
		n.Clear("b", Out)
		send(t, c, "b", "second")
		time.Sleep(time.Second)
		if got := w.drain(); !slices.Equal(got, []string{"second", "first"}) {
			t.Error(got)
		}
		n.Set("b", Out, Rule{Duplicate: 1})
		send(t, c, "b", "twice")
		if got := w.drain(); !slices.Equal(got, []string{"twice", "twice"}) {
			t.Error(got)
		}
		// 100 bytes per second: the third packet of 10 leaves after 200 ms;
		// what would wait more than half a second is lost.
		n.Set("b", Out, Rule{BytesPerSecond: 100})
		for range 20 {
			send(t, c, "b", "0123456789")
		}
		time.Sleep(199 * time.Millisecond)
		if got := w.drain(); len(got) != 2 {
			t.Errorf("%d packets in 199 ms", len(got))
		}
		time.Sleep(10 * time.Second)
		if got := w.drain(); len(got) != 4 {
			t.Errorf("%d more packets: the queue is bounded", len(got))
		}
	})
}

func TestCloseStopsTimersAndReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, w := New(1, nil), newWire()
		n.Set(Everyone, Out, Rule{Delay: time.Hour})
		n.Set(Everyone, In, Rule{Delay: time.Hour})
		c := n.Wrap(w)
		send(t, c, "b", "never")
		w.in <- packet{[]byte("never"), addr("b")}
		got := make(chan string, 1)
		go func() { got <- read(c, 2*time.Hour) }()
		synctest.Wait()
		_ = c.Close()
		if s := <-got; s != net.ErrClosed.Error() {
			t.Error(s)
		}
		if len(w.drain()) != 0 {
			t.Error("a delayed packet left after Close")
		}
	})
}

func TestDeadlineWakesAReader(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *Net, _ *wire, c net.PacketConn) {
		got := make(chan string, 1)
		go func() { got <- read(c, time.Hour) }()
		synctest.Wait()
		_ = c.SetReadDeadline(time.Now()) // quic-go's way to stop its reader
		if s := <-got; s != "timeout" {
			t.Error(s)
		}
	})
}

// The same seed gives the same fate.
func TestSeedDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		r := Rule{Drop: 0.3, Duplicate: 0.2, Reorder: 0.1, Jitter: time.Second}
		at := func() time.Time { return time.Unix(0, 0) }
		a, b := New(seed, at), New(seed, at)
		a.Set(Everyone, Out, r)
		b.Set(Everyone, Out, r)
		for range 100 {
			if x, y := a.decide("p", Out, 100), b.decide("p", Out, 100); !slices.Equal(x, y) {
				t.Fatalf("%v and %v", x, y)
			}
		}
		if s := a.Stats(); s.Passed+s.Dropped != 100 || s.Dropped == 0 || s != b.Stats() {
			t.Fatalf("%+v", s)
		}
	})
}

func TestDropRate(t *testing.T) {
	n := New(7, nil)
	n.Set("p", In, Rule{Drop: 0.25})
	lost := 0
	for range 10000 {
		if n.lost("p", In, 1) {
			lost++
		}
	}
	if lost < 2300 || lost > 2700 {
		t.Errorf("%d of 10000 lost at 0.25", lost)
	}
}

// A probe to a port that nobody holds is refused, unless the seam is cut.
func TestProbeObeysTheRules(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	peer := pc.LocalAddr().String()
	_ = pc.Close()
	n := New(1, nil)
	probe := func() error {
		c, err := n.Dial(peer)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 20 {
			if _, err := c.Write([]byte{0}); err != nil {
				return err
			}
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
		}
		return nil
	}
	if err := probe(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refusal: %v", err)
	}
	for _, dir := range []Direction{In, Out} {
		n.Heal()
		n.Set(peer, dir, Rule{Cut: true})
		if err := probe(); err != nil {
			t.Errorf("cut in direction %d: %v", dir, err)
		}
	}
}
