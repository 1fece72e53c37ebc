package sandbox

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// guards P7
func TestSecrets(t *testing.T) { both(t, testSecrets) }

func testSecrets(t *testing.T, r *Runtime) {
	spec := shell("cd /run/secrets && ls -n a | cut -c1-17 && cat a b && stat -f -c %T . && " +
		"! (echo x > a || chmod 600 a || rm -f a || echo x > c || cp /bin/true .) 2>/dev/null")
	spec.Secrets = []Secret{{Name: "a", Value: []byte("first,")}, {Name: "b", Value: []byte("second\n")}}
	o := runSpec(t, r, spec)
	wantExit(t, o, 0)
	if !strings.Contains(o.stdout, "-r-------- 1 1000") || !strings.Contains(o.stdout, "first,second\nramfs\n") {
		t.Errorf("%s", o)
	}
	if o := runSpec(t, r, shell("test ! -e /run/secrets")); o.ExitCode != 0 { // nothing of the last one
		t.Errorf("%s", o)
	}
}

func TestSecretSpecs(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"a way out":      func(s *Spec) { s.Secrets = []Secret{{Name: "../x"}} },
		"a folder":       func(s *Spec) { s.Secrets = []Secret{{Name: "a/x"}} },
		"no name":        func(s *Spec) { s.Secrets = []Secret{{}} },
		"a NUL":          func(s *Spec) { s.Secrets = []Secret{{Name: "a\x00"}} },
		"twice":          func(s *Spec) { s.Secrets = []Secret{{Name: "a"}, {Name: "a"}} },
		"too large":      func(s *Spec) { s.Secrets = []Secret{{Name: "a", Value: make([]byte, maxSecretBytes+1)}} },
		"under a mount":  func(s *Spec) { s.Secrets, s.Mounts = []Secret{{Name: "a"}}, []Mount{{Source: "/srv", Target: "/run"}} },
		"under scratch":  func(s *Spec) { s.Secrets, s.Scratch = []Secret{{Name: "a"}}, &Scratch{"/run", 1 << 20, 64} },
		"unknown class":  func(s *Spec) { s.Network = "proxy" },
		"negative limit": func(s *Spec) { s.Limits.CPUTime = -1 },
	} {
		spec := withDefaults(shell("true"))
		change(&spec)
		if err := spec.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Class none reaches not even itself. Each of its two walls holds by itself:
// lo that is down, and Landlock.
// guards P7
func TestNetworkNone(t *testing.T) {
	talk := func(off control, network Network) map[string]bool {
		o := probe(t, testRuntime(t, off), Spec{Network: network}, "self")
		wantExit(t, o, 0)
		return lines(o.stdout)
	}
	if got := talk(0, NetworkLoopback); !got["listen tcp ok"] || !got["dial tcp ok"] || !got["udp ok"] {
		t.Errorf("loopback: %v", got)
	}
	got := talk(0, NetworkNone)
	if got["dial tcp ok"] || got["udp ok"] || landlockABI() >= landlockNet && got["listen tcp ok"] {
		t.Errorf("none: %v", got)
	}
	if got := talk(ctlLandlock, NetworkNone); got["dial tcp ok"] || got["udp ok"] || !got["listen tcp ok"] {
		t.Errorf("none without Landlock: %v", got)
	}
}

// probeSelf tries to reach itself by its own loopback.
func probeSelf([]string) {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // Go's default, which Landlock does not know
	l, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	fmt.Println("listen tcp", errno(err))
	addr := "127.0.0.1:9"
	if err == nil {
		addr = l.Addr().String()
	}
	_, err = net.DialTimeout("tcp", addr, time.Second)
	fmt.Println("dial tcp", errno(err))
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err == nil {
		_, err = u.WriteTo([]byte("x"), u.LocalAddr())
	}
	fmt.Println("udp", errno(err))
}
