package sandbox

import (
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { probes["ia32"] = probeIA32 }

// probeIA32 enters the kernel as a 32-bit program would, by int 0x80: call 20
// is getpid there and writev here.
func probeIA32([]string) {
	code, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		tell("mmap", err)
		return
	}
	copy(code, []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3}) // mov $20, %eax; int $0x80; ret
	tell("mprotect", unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC))
	// A Go function value is the address of a word with the address of the code.
	entry := &struct{ code uintptr }{uintptr(unsafe.Pointer(&code[0]))}
	getpid := *(*func() int32)(unsafe.Pointer(&entry))
	fmt.Println("pid", getpid() == int32(unix.Getpid()))
}

// Numbers of ia32 and x32 mean other calls than the filter's table: the process
// dies before the kernel looks at one.
func TestAttackIA32(t *testing.T) {
	both(t, func(t *testing.T, r *Runtime) {
		o := probe(t, r, Spec{}, "ia32")
		if o.Reason != EndSignal || o.Signal != "SIGSYS" || !lines(o.stdout)["mprotect ok"] {
			t.Errorf("want death by SIGSYS: %s", o)
		}
	})
	o := probe(t, testRuntime(t, ctlSeccomp), Spec{}, "ia32")
	// A kernel without 32-bit programs ends it by another signal, which Go turns into exit 2.
	if !lines(o.stdout)["pid true"] && o.ExitCode != 2 {
		t.Errorf("without seccomp the attack should get further: %s", o)
	}
}

func TestAttackX32(t *testing.T) {
	call := fmt.Sprint(0x40000000 | unix.SYS_GETPID)
	both(t, func(t *testing.T, r *Runtime) {
		o := probe(t, r, Spec{}, "raw", call)
		if o.Reason != EndSignal || o.Signal != "SIGSYS" {
			t.Errorf("want death by SIGSYS: %s", o)
		}
	})
	o := probe(t, testRuntime(t, ctlSeccomp), Spec{}, "raw", call)
	if missingLines(o, []string{"call ok|ENOSYS"}) != nil { // few kernels have x32
		t.Errorf("without seccomp the attack should get further: %s", o)
	}
}
