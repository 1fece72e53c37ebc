package sandbox

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A task's clocks began with its launcher: how long the machine has been up, by
// which two tasks could find out that they share one, stays hidden.
func TestUptimeIsHidden(t *testing.T) {
	both(t, testUptimeIsHidden)
	host, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	whole, _, _ := strings.Cut(string(host), ".")
	if _, err := os.Stat("/proc/self/ns/time"); err != nil || len(whole) < 3 {
		return // the machine is as young as a launcher
	}
	o := runSpec(t, weakerRuntime(t, abilityTime, []string{abilityTime}), shell("cut -d. -f1 /proc/uptime"))
	before, _ := strconv.Atoi(whole)
	if up, err := strconv.Atoi(strings.TrimSpace(o.stdout)); err != nil || up < before || up > before+120 {
		t.Errorf("without the namespace it should read the machine's %s s: %s", whole, o)
	}
}

func testUptimeIsHidden(t *testing.T, r *Runtime) {
	host, err := os.Readlink("/proc/self/ns/time")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	o := runSpec(t, r, shell("readlink /proc/self/ns/time; cut -d. -f1 /proc/uptime"))
	wantExit(t, o, 0)
	lines := strings.Fields(o.stdout)
	if len(lines) != 2 || lines[0] == host {
		t.Fatalf("%q, the node has %s", o.stdout, host)
	}
	up, err := strconv.Atoi(lines[1])
	// The launcher is as old as this test, give or take the machine's load.
	if limit := clockStart + 60 + int(time.Since(began).Seconds()); err != nil || up < clockStart || up > limit {
		t.Errorf("uptime is %d s, %v; want %d to %d", up, err, clockStart, limit)
	}
}
