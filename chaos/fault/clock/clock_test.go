package clock_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/fault/clock"
	"holdfast/chaos/fault/launch/launchtest"
)

const childEnv = "CLOCK_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" && len(os.Args) == 1 {
		tell()
		return
	}
	launchtest.Main(m)
}

// tell prints the wall clock, and the monotonic time since the start, for each
// line on standard input.
func tell() {
	start := time.Now()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		now := time.Now()
		fmt.Println(now.UnixNano(), int64(now.Sub(start)))
	}
}

func TestShift(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = cmd.Wait()
	}()
	out := bufio.NewReader(pipe)
	ask := func() (wall time.Duration, mono time.Duration) {
		t.Helper()
		if _, err := fmt.Fprintln(in); err != nil {
			t.Fatal(err)
		}
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var w, m int64
		if _, err := fmt.Sscan(strings.TrimSpace(line), &w, &m); err != nil {
			t.Fatal(err)
		}
		return time.Until(time.Unix(0, w)), time.Duration(m)
	}
	_, before := ask()
	pid := cmd.Process.Pid
	for _, by := range []time.Duration{time.Hour, -36 * time.Hour, 1500 * time.Millisecond, 0, -time.Millisecond, 0} {
		if err := clock.Shift(pid, by); err != nil {
			t.Fatal(err)
		}
		wall, mono := ask()
		const slack = time.Minute // a busy machine
		if (wall - by).Abs() > slack {
			t.Errorf("moved by %s, the process's clock is off by %s", by, wall)
		}
		if mono < before || mono > before+slack {
			t.Errorf("the monotonic clock went from %s to %s", before, mono)
		}
		before = mono
		if got, err := clock.Offset(pid); err != nil || got != by {
			t.Errorf("the patch says %s: %v, want %s", got, err, by)
		}
	}
}
