package seccomp

import (
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Filters to measure side by side; no claim of speed is asserted.
func benchFilters(b *testing.B, run func(b *testing.B, prog []unix.SockFilter)) {
	p, tree := compiled(b, runtime.GOARCH)
	for _, c := range []struct {
		name string
		prog []unix.SockFilter
	}{{"none", nil}, {"tree", tree}, {"list", linear(b, p)}} {
		b.Run(c.name, func(b *testing.B) { run(b, c.prog) })
	}
}

// install puts the filter on this thread alone. The thread must end with it:
// its goroutine keeps it locked.
func install(b *testing.B, prog []unix.SockFilter) {
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if _, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog))); e != 0 {
		b.Errorf("install: %v", e)
	}
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

func needRoot(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: the filter is installed without no_new_privs")
	}
}

// What a sandbox pays once. Every round makes a thread too; "none" is that.
func BenchmarkInstall(b *testing.B) {
	needRoot(b)
	benchFilters(b, func(b *testing.B, prog []unix.SockFilter) {
		for b.Loop() {
			onThread(func() {
				if prog != nil {
					install(b, prog)
				}
			})
		}
	})
}

// What a call pays. getppid is always allowed: the kernel remembers that and
// does not run the filter. prctl is allowed by its argument: the filter runs.
func BenchmarkCall(b *testing.B) {
	needRoot(b)
	for name, trap := range map[string]uintptr{"constant": unix.SYS_GETPPID, "by-argument": unix.SYS_PRCTL} {
		b.Run(name, func(b *testing.B) {
			benchFilters(b, func(b *testing.B, prog []unix.SockFilter) {
				onThread(func() {
					if prog != nil {
						install(b, prog)
					}
					for b.Loop() {
						_, _, _ = unix.RawSyscall(trap, unix.PR_GET_DUMPABLE, 0, 0)
					}
				})
			})
		})
	}
}

func BenchmarkTask(b *testing.B) {
	for b.Loop() {
		p, err := Task()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
