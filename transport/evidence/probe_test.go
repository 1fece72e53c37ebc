package evidence

import (
	"net"
	"testing"
	"time"

	"holdfast/transport"
	"holdfast/transport/faults"
	"holdfast/transport/internal/transporttest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type report struct {
	peer string
	kind transport.Evidence
}

func prober(t *testing.T, cfg Config) (*Prober, <-chan report) {
	t.Helper()
	ch := make(chan report, 1)
	cfg.Report = func(peer string, kind transport.Evidence) {
		select {
		case ch <- report{peer, kind}:
		default:
		}
	}
	p := New(cfg)
	t.Cleanup(p.Close)
	return p, ch
}

func await(t *testing.T, ch <-chan report) report {
	t.Helper()
	timer := time.NewTimer(transporttest.Patience)
	defer timer.Stop()
	select {
	case r := <-ch:
		return r
	case <-timer.C:
		t.Fatal("no report")
		return report{}
	}
}

// counted counts probes, so that a test can wait for some without a clock.
func counted(dial func(string) (net.Conn, error)) (func(string) (net.Conn, error), <-chan struct{}) {
	ch := make(chan struct{}, 1)
	return func(addr string) (net.Conn, error) {
		c, err := dial(addr)
		return countedConn{c, ch}, err
	}, ch
}

type countedConn struct {
	net.Conn
	ch chan struct{}
}

func (c countedConn) Write(b []byte) (int, error) {
	select {
	case c.ch <- struct{}{}:
	default:
	}
	return c.Conn.Write(b)
}

func realDial(addr string) (net.Conn, error) { return net.Dial("udp", addr) }

// guards P5: the end of a process is reported, its life is not, and QUIC
// traffic does not suffer from the probes.
func TestReportsTheEndOfAProcess(t *testing.T) {
	c := transporttest.New(t, "blue")
	leader := c.Node(t)
	leader.Start(t)
	dial, probed := counted(realDial)
	p, reports := prober(t, Config{Dial: dial})
	p.Watch(leader.ID, leader.Addr().String())
	for range 10 {
		<-probed
	}
	select {
	case r := <-reports:
		t.Fatalf("a living leader was reported: %+v", r)
	default:
	}
	leader.Crash()
	if r := await(t, reports); r != (report{leader.ID, transport.EvidenceRefused}) {
		t.Errorf("%+v", r)
	}
	await(t, reports) // and again while it is watched
}

// While the leader is used the probes follow the shorter interval: with the
// other one this test would end after an hour.
func TestProbesMoreOftenWhileBusy(t *testing.T) {
	live, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	dial, probed := counted(realDial)
	p, _ := prober(t, Config{Dial: dial, Interval: time.Hour, BusyInterval: time.Millisecond, Busy: func() bool { return true }})
	p.Watch("one", live.LocalAddr().String())
	for range 10 {
		<-probed
	}
}

func TestTargetChanges(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := pc.LocalAddr().String()
	_ = pc.Close()
	live, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	dial, probed := counted(realDial)
	p, reports := prober(t, Config{Dial: dial})
	p.Watch("one", dead)
	if r := await(t, reports); r.peer != "one" {
		t.Errorf("%+v", r)
	}
	p.Watch("two", live.LocalAddr().String())
	var b [8]byte
	if _, _, err := live.ReadFrom(b[:]); err != nil { // the new target is probed
		t.Fatal(err)
	}
	select { // a report that was under way when the target changed
	case <-reports:
	default:
	}
	for range 10 {
		<-probed
	}
	select {
	case r := <-reports:
		t.Errorf("a living target was reported: %+v", r)
	default:
	}
	p.Watch("", "")
	p.Watch("three", dead)
	if r := await(t, reports); r.peer != "three" {
		t.Errorf("%+v", r)
	}
}

// The probe must not see through a network that is cut.
func TestProbeIsCutByFaults(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := pc.LocalAddr().String()
	_ = pc.Close()
	for _, dir := range []faults.Direction{faults.In, faults.Out} {
		n := faults.New(1, nil)
		n.Set(dead, dir, faults.Rule{Cut: true})
		dial, probed := counted(n.Dial)
		p, reports := prober(t, Config{Dial: dial})
		p.Watch("peer", dead)
		for range 10 {
			<-probed
		}
		select {
		case r := <-reports:
			t.Errorf("reported through a cut: %+v", r)
		default:
		}
		n.Heal()
		await(t, reports)
	}
}

func TestUnusableAddress(t *testing.T) {
	p, _ := prober(t, Config{})
	p.Watch("peer", "not an address")
	p.Watch("peer", "127.0.0.1:0")
	p.Close() // does not hang in a pause
}
