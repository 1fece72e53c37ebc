package wire_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/fault/launch"
	"holdfast/chaos/fault/launch/launchtest"
	"holdfast/chaos/fault/wire"
)

const echoEnv = "WIRE_TEST_ECHO"

func TestMain(m *testing.M) {
	if os.Getenv(echoEnv) != "" && len(os.Args) == 1 { // the program that answers from another host
		fmt.Println(echo(os.Getenv(echoEnv)))
		os.Exit(1)
	}
	launchtest.Main(m)
}

// echo answers each packet with itself.
func echo(addr string) error {
	c, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return err
	}
	fmt.Println("up")
	for b := make([]byte, 2048); ; {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(b[:n], from); err != nil {
			return err
		}
	}
}

// pair is a switch with this process and a host that echoes.
func pair(t *testing.T) (*wire.Switch, *net.UDPConn) {
	t.Helper()
	s := wire.New(1)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.AddHere("me"); err != nil {
		t.Fatal(err)
	}
	far, err := s.Add("far")
	if err != nil {
		t.Fatal(err)
	}
	addr := far.Addr.String() + ":7"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), echoEnv+"="+addr)
	if err := launch.Wrap(cmd, launch.Options{Namespace: far.Namespace()}); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	b := make([]byte, 64)
	if n, err := out.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "up") {
		t.Fatalf("the far host said %q: %v", b[:n], err)
	}
	c, err := net.Dial("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, c.(*net.UDPConn)
}

// exchange sends numbered packets and returns which came back, in order.
func exchange(t *testing.T, c *net.UDPConn, n, size int, wait time.Duration) (got []uint32, broken int) {
	t.Helper()
	for i := range n {
		b := make([]byte, size)
		binary.BigEndian.PutUint32(b, uint32(i))
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 2048); len(got) < n; {
		m, err := c.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, binary.BigEndian.Uint32(b))
		for _, x := range b[4:m] {
			if x != 0 {
				broken++
				break
			}
		}
	}
	return got, broken
}

const (
	quick = 300 * time.Millisecond // by then what is lost is lost
	long  = 20 * time.Second
)

// Every rule does what it says, on the kernel's own packets, and nothing once
// it is removed.
func TestRulesBite(t *testing.T) {
	s, c := pair(t)
	out := func(from, to string) bool { return from == "me" && to == "far" }
	whole := func(t *testing.T) {
		t.Helper()
		if got, broken := exchange(t, c, 50, 200, long); len(got) != 50 || broken != 0 {
			t.Fatalf("without a rule %d of 50 packets came back, %d broken", len(got), broken)
		}
	}
	whole(t)
	for _, test := range []struct {
		name string
		rule wire.Rule
		n    int
		size int
		wait time.Duration
		bit  func(got []uint32, broken int, took time.Duration) bool
	}{
		{"drop", wire.Rule{Drop: true}, 20, 200, quick, func(got []uint32, _ int, _ time.Duration) bool { return len(got) == 0 }},
		{"loss", wire.Rule{Loss: 0.5}, 100, 200, quick, func(got []uint32, _ int, _ time.Duration) bool { return len(got) > 20 && len(got) < 80 }},
		{"duplicate", wire.Rule{Duplicate: 1}, 1, 200, long, func(got []uint32, _ int, _ time.Duration) bool { return len(got) == 1 }},
		{"delay", wire.Rule{Delay: 80 * time.Millisecond}, 5, 200, long, func(got []uint32, _ int, took time.Duration) bool {
			return len(got) == 5 && took >= 80*time.Millisecond
		}},
		{"reorder", wire.Rule{Reorder: 0.3, ReorderBy: 20 * time.Millisecond}, 50, 200, long, func(got []uint32, _ int, _ time.Duration) bool { return len(got) == 50 && !ordered(got) }},
		{"throttle", wire.Rule{Kbit: 160}, 20, 200, quick * 3, func(got []uint32, _ int, took time.Duration) bool {
			return len(got) == 20 && took >= 150*time.Millisecond
		}},
		{"mtu", wire.Rule{MTU: 500}, 5, 900, quick, func(got []uint32, _ int, _ time.Duration) bool { return len(got) == 0 }},
		// Some of the flipped bits pass the receiver's checksum and some do not.
		{"corrupt", wire.Rule{Corrupt: 1}, 60, 200, quick, func(got []uint32, broken int, _ time.Duration) bool {
			return len(got) > 10 && len(got) < 50 && broken > 5
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.rule.Match = out
			a := s.Set(test.rule)
			begun := time.Now()
			got, broken := exchange(t, c, test.n, test.size, test.wait)
			if took := time.Since(begun); !test.bit(got, broken, took) {
				t.Errorf("%d of %d packets, %d broken, after %s: %v", len(got), test.n, broken, took, got)
			}
			if a.Counts().Bites() == 0 {
				t.Errorf("it says that it struck nothing: %+v", a.Counts())
			}
			a.Remove()
			drain(t, c)
		})
	}
	if s.Rules() != 0 {
		t.Errorf("%d rules are left", s.Rules())
	}
	whole(t)
}

// One direction alone.
func TestOneWay(t *testing.T) {
	s, c := pair(t)
	back := s.Set(wire.Rule{Drop: true, Match: func(from, to string) bool { return from == "far" }})
	if got, _ := exchange(t, c, 5, 100, quick); len(got) != 0 {
		t.Errorf("%d answers came through", len(got))
	}
	if n := back.Counts(); n.Lost != 5 {
		t.Errorf("the far host heard and answered %d of 5", n.Lost)
	}
}

func ordered(got []uint32) bool {
	for i := 1; i < len(got); i++ {
		if got[i] < got[i-1] {
			return false
		}
	}
	return true
}

// drain takes what still comes.
func drain(t *testing.T, c *net.UDPConn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 2048); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}
