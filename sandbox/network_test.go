package sandbox

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// Where somebody listens on the host, and nothing gets there. The twin is the
// same program outside.
func TestAttackHostNetwork(t *testing.T) {
	needRoot(t)
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	abstract, err := net.Listen("unix", "@holdfast-test-"+newParent())
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	there := []string{"tcp", host.Addr().String(), "unix", abstract.Addr().String()}
	both(t, func(t *testing.T, r *Runtime) {
		o := probe(t, r, Spec{}, "dial", append(there, "udp", "192.0.2.1:9", "tcp", "192.0.2.1:80")...)
		wantExit(t, o, 0)
		got := lines(o.stdout)
		for l := range got {
			if strings.HasSuffix(l, " ok") || strings.HasPrefix(l, "interface ") && l != "interface lo" {
				t.Errorf("network: %s", l)
			}
		}
		if !got["interface lo"] {
			t.Errorf("lo is missing: %s", o)
		}
	})
	if o := onHost(t, "dial", there...); strings.Count(o.stdout, " ok\n") != 2 {
		t.Errorf("outside it should get to both: %s", o)
	}
}

// Two sandboxes must not talk; with a shared network namespace they would.
func TestSandboxesDoNotShareANetwork(t *testing.T) {
	talk := func(off control) bool {
		r := testRuntime(t, off)
		pr, pw := io.Pipe()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Start(t.Context(), Spec{ID: newID(), Command: []string{"/probe", "unix", "@meet"}, Env: []string{"HOLDFAST_PROBE=listen"},
			Mounts: []Mount{{Source: self, Target: "/probe"}}}, Streams{Stdout: pw})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Wait()
		defer s.Kill(EndCancelled)
		defer pr.Close()
		if _, err := pr.Read(make([]byte, 20)); err != nil {
			t.Fatal(err)
		}
		o := probe(t, r, Spec{}, "dial", "unix", "@meet")
		return lines(o.stdout)["unix @meet ok"]
	}
	if talk(0) {
		t.Error("one sandbox reached another")
	}
	if landlockABI() >= 6 && talk(ctlNet) {
		t.Error("with a shared network Landlock does not keep abstract sockets apart")
	}
	if !talk(ctlNet | ctlLandlock) {
		t.Error("with a shared network the test sees nothing")
	}
}
