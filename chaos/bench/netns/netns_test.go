package netns

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("network namespaces need root")
	}
	t.Skip("needs root")
}

// TestMain is also the program that the tests run inside a namespace.
func TestMain(m *testing.M) {
	var err error
	switch addr := os.Getenv("NETNS_TEST_ADDR"); os.Getenv("NETNS_TEST") {
	case "listen":
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			fmt.Println("up")
			for err == nil {
				_, err = l.Accept()
			}
		}
	case "dial":
		_, err = net.DialTimeout("tcp", addr, time.Second)
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		os.Exit(1)
	}
}

func self(what, addr string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NETNS_TEST="+what, "NETNS_TEST_ADDR="+addr)
	return cmd
}

func TestNetwork(t *testing.T) {
	needRoot(t)
	n, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, n.name+"-*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	listen := self("listen", ":7")
	if err := Enter(n.Host(1), listen); err != nil {
		t.Fatal(err)
	}
	out, err := listen.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listen.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listen.Process.Kill(); _ = listen.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	reach := func(from string) error {
		dial := self("dial", n.Addr(1)+":7")
		if err := Enter(from, dial); err != nil {
			t.Fatal(err)
		}
		return dial.Run()
	}
	for _, from := range []string{n.Hub(), n.Host(0)} {
		if err := reach(from); err != nil {
			t.Errorf("%s does not reach a host: %v", from, err)
		}
	}
	if err := n.Cut(1); err != nil {
		t.Fatal(err)
	}
	if reach(n.Hub()) == nil {
		t.Error("a host that was cut off is reached")
	}
	if err := n.Heal(1); err != nil {
		t.Fatal(err)
	}
	if err := reach(n.Hub()); err != nil {
		t.Errorf("a host that came back is not reached: %v", err)
	}
}

func TestStaleOnesAreRemoved(t *testing.T) {
	needRoot(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	stale := prefix + strconv.Itoa(gone.Process.Pid)
	for _, name := range []string{stale + "-hub", stale + "-0"} {
		if err := ip("netns", "add", name); err != nil {
			t.Fatal(err)
		}
	}
	n, err := New(0)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if left, _ := filepath.Glob(filepath.Join(dir, stale+"*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
