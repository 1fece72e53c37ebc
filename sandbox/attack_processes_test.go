package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Threats by processes: those that stay, and those that are not the task's.

// userPIDs lists the host's processes of a user that are alive.
func userPIDs(t testing.TB, uid int) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it ended
		}
		s := string(b)
		if strings.Contains(s, fmt.Sprintf("\nUid:\t%d\t", uid)) && !strings.Contains(s, "\nState:\tZ") && !strings.Contains(s, "\nState:\tX") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// Each leaves a process behind that does not want to go, and says "up".
var survivors = map[string]string{
	"daemonised":       `setsid sleep 1000 <&- >&- 2>&- & echo up`,
	"double_forked":    `(sh -c '(setsid sleep 1000 &); (sleep 1000 &); : >/tmp/up' <&- >&- 2>&- &); until test -e /tmp/up; do sleep 0.01; done; echo up`,
	"stopped":          `sh -c ': >/tmp/up; exec sleep 1000' <&- >&- 2>&- & until test -e /tmp/up; do sleep 0.01; done; kill -STOP $!; echo up`,
	"ignoring_signals": `sh -c 'trap "" HUP INT QUIT TERM USR1 USR2 PIPE ALRM CHLD CONT TSTP; : >/tmp/up; while :; do sleep 1; done' <&- >&- 2>&- & until test -e /tmp/up; do sleep 0.01; done; echo up`,
}

// survivor runs one to its end and returns who of its user is left.
func survivor(t *testing.T, r *Runtime, script string) []int {
	t.Helper()
	s, out, errs := start(t, r, shell(script))
	uid := r.uidBase + s.uid
	res := s.Wait()
	wantExit(t, outcome{res, out.String(), errs.String()}, 0)
	if out.String() != "up\n" {
		t.Fatalf("it did not come up: %q", out)
	}
	<-s.gone
	return userPIDs(t, uid)
}

// guards P3
func TestAttackSurvivors(t *testing.T) {
	for name, script := range survivors {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, r *Runtime) {
				if left := survivor(t, r, script); left != nil {
					t.Errorf("processes %v outlive their sandbox", left)
				}
			})
			// The pid namespace takes them along, and so does the removal of the group.
			if left := survivor(t, testRuntime(t, ctlPID), script); left != nil {
				t.Errorf("processes %v outlive their group", left)
			}
			if left := survivor(t, testRuntime(t, ctlEnter), script); left != nil {
				t.Errorf("processes %v outlive their pid namespace", left)
			}
			if left := survivor(t, testRuntime(t, ctlPID|ctlEnter), script); left == nil {
				t.Error("without both walls none survives: the test sees nothing")
			}
		})
	}
}

// A grandchild that holds stdout open keeps nobody waiting.
func TestAttackStdoutHeldOpen(t *testing.T) {
	const script = "setsid sleep 1000 & echo $!"
	both(t, func(t *testing.T, r *Runtime) {
		if o := runSpec(t, r, shell(script)); o.Reason != EndExit || !strings.HasSuffix(o.stdout, "\n") || o.Message != "" {
			t.Errorf("%s", o)
		}
	})
	out, err := bareCommand(t, script)
	if !errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("outside of a sandbox stdout should stay open: %v", err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(out)); err != nil || unix.Kill(pid, unix.SIGKILL) != nil {
		t.Errorf("the sleeper stays: %q, %v", out, err)
	}
}

// bareCommand runs a script on the host and waits for the end of its output, but
// not for ever.
func bareCommand(t *testing.T, script string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return string(out), err
}

// What is written waits in a pipe until it is taken, and the task waits too.
//
// guards P10
func TestAttackOutputFlood(t *testing.T) {
	flood := func(r *Runtime, out Streams) (string, outcome) {
		var errs bytes.Buffer
		out.Stderr = &errs
		spec := Spec{Limits: Limits{WallTime: time.Second}, Env: []string{"HOLDFAST_PROBE=flood", "GORACE=atexit_sleep_ms=0"}, Command: []string{"/probe"}}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Start(t.Context(), withDefaults(withMount(spec, self, "/probe", false)), out)
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := out.Stdout.(blocker); ok {
			eventually(t, "it is killed", func() bool { return userPIDs(t, r.uidBase+s.uid) == nil })
			close(b.release)
		}
		res := s.Wait()
		return errs.String(), outcome{Result: res, stderr: errs.String()}
	}
	both(t, func(t *testing.T, r *Runtime) {
		b := blocker{make(chan struct{}), make(chan struct{}, 100)}
		wrote, o := flood(r, Streams{Stdout: b})
		if o.Reason != EndTimeout || wrote != "begins\n" {
			t.Errorf("nobody took anything, and it wrote %q: %s", wrote, o)
		}
	})
	takesEverything := Streams{}
	if wrote, o := flood(testRuntime(t, 0), takesEverything); !strings.Contains(wrote, "wrote 2 MiB") {
		t.Errorf("with a reader that takes everything it wrote %q: %s", wrote, o)
	}
}

func TestAttackHostProcesses(t *testing.T) {
	seen := func(t *testing.T, r *Runtime) map[string]bool {
		other, _, _ := start(t, r, shell("sleep 1000"))
		defer other.Wait()
		defer other.Kill(EndCancelled)
		o := probe(t, r, Spec{}, "processes")
		wantExit(t, o, 0)
		return lines(o.stdout)
	}
	both(t, func(t *testing.T, r *Runtime) {
		if got := seen(t, r); len(got) != 2 || !got["signal 1 ok"] || !got["tried 65535"] { // its own init, which ignores it
			t.Errorf("reached %v", got)
		}
	})
	// Their users, and proc's own hiding, stand behind the namespace.
	got := seen(t, testRuntime(t, ctlPID))
	if len(got) < 4 || !got["signal 1 EPERM"] {
		t.Errorf("without a pid namespace it reached only %v", got)
	}
	for l := range got {
		if strings.HasPrefix(l, "sees") {
			t.Errorf("proc shows the processes of another user: %s", l)
		}
	}
}

// No signal from inside ends PID 1; one to an ordinary process of the user would.
func TestAttackInitSignals(t *testing.T) {
	attack{
		probe: "init-signals",
		held:  []string{"init survives"},
		// With its init the sandbox ends, before anybody in there can say so.
		twins: []twin{{ctlPID, []string{"ended lost"}}},
	}.run(t)
}

func init() {
	probes["processes"], probes["init-signals"], probes["flood"] = probeProcesses, probeInitSignals, probeFlood
}

// probeProcesses looks for processes by signal 0 and in proc.
func probeProcesses([]string) {
	own := func(pid int) bool {
		_, err := os.Stat("/proc/self/task/" + strconv.Itoa(pid))
		return err == nil
	}
	tried := 0
	for pid := 1; pid < 1<<16; pid++ {
		tried++
		if err := unix.Kill(pid, 0); err != unix.ESRCH && !own(pid) {
			fmt.Println("signal", pid, errno(err))
		}
	}
	fmt.Println("tried", tried)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() && pid != os.Getppid() {
			fmt.Println("sees", pid)
		}
	}
}

// probeInitSignals sends its init every signal that could end it.
func probeInitSignals([]string) {
	pid := os.Getppid()
	for s := 1; s < 65; s++ {
		switch unix.Signal(s) {
		case unix.SIGCONT, unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, 32, 33: // those that stop, and the C library's own
		default:
			_ = unix.Kill(pid, unix.Signal(s))
		}
	}
	// It would take a moment to die: somebody else's child tells when.
	cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf("for i in 1 2 3 4 5 6 7 8 9; do kill -0 %d || exit 1; sleep 0.02; done", pid))
	if cmd.Run() != nil {
		fmt.Println("init dies")
		return
	}
	fmt.Println("init survives")
}

func probeFlood([]string) {
	fmt.Fprintln(os.Stderr, "begins")
	block := make([]byte, mib)
	for i := 1; i <= 64; i++ {
		if _, err := os.Stdout.Write(block); err != nil {
			fmt.Fprintln(os.Stderr, errno(err))
			return
		}
		fmt.Fprintln(os.Stderr, "wrote", i, "MiB")
	}
}
