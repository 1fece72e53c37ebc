package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Threats by two tasks: one after the other, where the first leaves something
// behind, and side by side, where they try to meet.

// Where something can be left, or somebody met.
var (
	inFolders = []string{"tmp", "shm", "folder"}
	ipc       = []string{"sysv-shm", "sysv-sem", "sysv-msg", "mqueue"}
	onSockets = []string{"abstract", "tcp"}
)

const nothing = "ENOENT|ECONNREFUSED|ENETUNREACH"

// leaveThenLook runs both one after the other and returns what the second found.
func leaveThenLook(t *testing.T, r *Runtime, spec Spec) outcome {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	first := withMount(spec, self, "/probe", false)
	first.Command, first.Env = []string{"/probe"}, []string{"HOLDFAST_PROBE=leave", "GORACE=atexit_sleep_ms=0"}
	s, out, errs := start(t, r, first)
	res := s.Wait()
	wantExit(t, outcome{res, out.String(), errs.String()}, 0)
	// A message queue is not to be had within the limits; without them it is made,
	// although Landlock lets nobody write to it.
	left := append(answers("ok", slices.Concat(inFolders, ipc[:3], onSockets)...), "mqueue EMFILE|EACCES")
	if missing := missingLines(outcome{stdout: out.String()}, left); missing != nil {
		t.Fatalf("the first could not leave anything: want %q: %s", missing, out)
	}
	<-s.gone // or there is no other user yet
	return probe(t, r, spec, "look")
}

// Two tasks of one user of the host, which stands for one owner, and of two.
func TestAttackResidue(t *testing.T) {
	needRoot(t)
	scratch := Spec{Scratch: &Scratch{Target: "/tmp/folder", Bytes: 1 << 20, Inodes: 64}}
	held := answers(nothing, slices.Concat(inFolders, ipc, onSockets)...)
	t.Run("two_users", func(t *testing.T) {
		both(t, func(t *testing.T, r *Runtime) {
			if o := leaveThenLook(t, r, scratch); missingLines(o, held) != nil {
				t.Errorf("want %q: %s", held, o)
			}
		})
	})
	one := func(off control) *Runtime {
		r, err := newRuntime(Config{CgroupParent: newParent(), UIDBase: 2_140_100_000, UIDCount: 2}, off)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		return r
	}
	t.Run("one_user", func(t *testing.T) {
		if o := leaveThenLook(t, one(0), scratch); missingLines(o, held) != nil {
			t.Errorf("want %q: %s", held, o)
		}
	})
	t.Run("shared_ipc", func(t *testing.T) {
		want := append(answers("ok", ipc...), "tmp ENOENT", "shm ENOENT", "folder ENOENT")
		if o := leaveThenLook(t, one(ctlIPC|ctlLimits), scratch); missingLines(o, want) != nil {
			t.Errorf("without an ipc namespace of its own want %q: %s", want, o)
		}
	})
	t.Run("shared_folder", func(t *testing.T) {
		if o := leaveThenLook(t, one(0), withMount(Spec{}, hostDir(t, 1234, 0o777, 0o644), "/tmp/folder", true)); missingLines(o, []string{"folder ok"}) != nil {
			t.Errorf("in a folder of the host the second should find what the first left: %s", o)
		}
	})
}

// meet has one task stay and returns what another finds of it.
func meet(t *testing.T, r *Runtime) outcome {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	defer pr.Close()
	spec := withMount(Spec{ID: newID(), Command: []string{"/probe", "stay"}, Env: []string{"HOLDFAST_PROBE=leave", "GORACE=atexit_sleep_ms=0"},
		Scratch: &Scratch{Target: "/tmp/folder", Bytes: 1 << 20, Inodes: 64}}, self, "/probe", false)
	s, err := r.Start(t.Context(), spec, Streams{Stdout: pw})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Wait()
	defer s.Kill(EndCancelled)
	for buf := make([]byte, 4096); ; {
		n, err := pr.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(buf[:n]), "ready") {
			break
		}
	}
	return probe(t, r, Spec{}, "look")
}

func TestAttackMeeting(t *testing.T) {
	all := answers(nothing, slices.Concat(inFolders, ipc)...)
	both(t, func(t *testing.T, r *Runtime) {
		want := append(all, answers(nothing+"|EPERM", onSockets...)...) // Landlock's word comes first
		if o := meet(t, r); missingLines(o, want) != nil {
			t.Errorf("want %q: %s", missingLines(o, want), o)
		}
	})
	for off, want := range map[control][]string{
		ctlIPC | ctlLimits:   append(answers("ok", ipc...), answers(nothing, inFolders...)...),
		ctlNet | ctlLandlock: append(answers(nothing, inFolders...), "abstract ok"),
	} {
		if o := meet(t, testRuntime(t, off)); missingLines(o, want) != nil {
			t.Errorf("with control %b off want %q: %s", off, missingLines(o, want), o)
		}
	}
}

// What this isolation does not keep apart, so that the page on it stays true:
// tasks see each other's locks on the system files that all of them read, and
// notice when anybody on the machine opens one.
func TestChannelsThatStay(t *testing.T) {
	r := testRuntime(t, 0)
	const gone = "is no channel any more: tell docs/isolation.md"
	if o := meet(t, r); missingLines(o, []string{"lock EAGAIN"}) != nil {
		t.Errorf("a lock on a system file %s: %s", gone, o)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	spec := withMount(Spec{ID: newID(), Command: []string{"/probe", "/usr/bin/env"}, Env: []string{"HOLDFAST_PROBE=watch"}, Limits: Limits{WallTime: 30 * time.Second}}, self, "/probe", false)
	s, err := r.Start(t.Context(), spec, Streams{Stdout: pw})
	if err != nil {
		t.Fatal(err)
	}
	go func() { s.Wait(); pw.Close() }()
	out := bufio.NewReader(pr)
	if l, err := out.ReadString('\n'); err != nil || l != "watches ok\n" {
		t.Fatalf("%q, %v", l, err)
	}
	if err := exec.CommandContext(t.Context(), "/usr/bin/env").Run(); err != nil {
		t.Fatal(err)
	}
	if l, err := out.ReadString('\n'); err != nil || l != "noticed ok\n" {
		t.Errorf("the opening of a system file %s: %q, %v", gone, l, err)
	}
	s.Wait()
}

func init() { probes["leave"], probes["look"], probes["watch"] = probeLeave, probeLook, probeWatch }

const (
	meetKey  = 0x686f6c64
	meetPort = "127.0.0.1:47999"
)

// messageQueue opens one by the bare call: the C library's function is not here.
func messageQueue(flags int) error {
	name := append([]byte("holdfast-meet"), 0)
	attr := [8]int64{0, 1, 64} // one message of 64 bytes: within the limit of the user
	_, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, addressOf(name), uintptr(flags), 0o666, uintptr(unsafe.Pointer(&attr)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// systemV asks for one of the three kinds by its key.
func systemV(trap uintptr, flags int) error {
	args := [3]uintptr{meetKey, 1, uintptr(flags)}
	if trap == unix.SYS_MSGGET {
		args = [3]uintptr{meetKey, uintptr(flags), 0}
	}
	_, _, e := unix.Syscall(trap, args[0], args[1], args[2])
	if e != 0 {
		return e
	}
	return nil
}

func lockSystemFile() error {
	fd, err := unix.Open("/bin/sh", unix.O_RDONLY, 0)
	if err == nil {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	return err
}

func probeLeave(args []string) {
	const create = 0o1000 | 0o666 // IPC_CREAT
	unix.Umask(0)
	for name, path := range map[string]string{"tmp": "/tmp/residue", "shm": "/dev/shm/residue", "folder": "/tmp/folder/residue"} {
		tell(name, os.WriteFile(path, []byte("residue"), 0o666))
	}
	tell("sysv-shm", systemV(unix.SYS_SHMGET, create))
	tell("sysv-sem", systemV(unix.SYS_SEMGET, create))
	tell("sysv-msg", systemV(unix.SYS_MSGGET, create))
	tell("mqueue", messageQueue(unix.O_RDWR|unix.O_CREAT))
	_, err := net.Listen("unix", "@holdfast-meet")
	tell("abstract", err)
	_, err = net.Listen("tcp", meetPort)
	tell("tcp", err)
	tell("lock", lockSystemFile())
	fmt.Println("ready")
	if len(args) > 0 {
		_ = unix.Pause()
	}
}

func probeLook([]string) {
	for name, path := range map[string]string{"tmp": "/tmp/residue", "shm": "/dev/shm/residue", "folder": "/tmp/folder/residue"} {
		_, err := os.ReadFile(path)
		tell(name, err)
	}
	tell("sysv-shm", systemV(unix.SYS_SHMGET, 0))
	tell("sysv-sem", systemV(unix.SYS_SEMGET, 0))
	tell("sysv-msg", systemV(unix.SYS_MSGGET, 0))
	tell("mqueue", messageQueue(unix.O_RDONLY))
	for name, addr := range map[string]string{"abstract": "@holdfast-meet", "tcp": meetPort} {
		c, err := net.DialTimeout(map[string]string{"abstract": "unix", "tcp": "tcp"}[name], addr, time.Second)
		tell(name, err)
		if err == nil {
			c.Close()
		}
	}
	tell("lock", lockSystemFile())
}

// probeWatch waits until somebody opens a file.
func probeWatch(args []string) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, args[0], unix.IN_OPEN)
	}
	tell("watches", err)
	if err == nil {
		_, err = unix.Read(fd, make([]byte, 4096))
		tell("noticed", err)
	}
}
