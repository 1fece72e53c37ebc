package sandbox

import (
	"os"
	"strings"
	"testing"
)

// A node lets its timers be late, and must not pass that on.
func TestTasksHaveTheUsualTimerSlack(t *testing.T) {
	needRoot(t)
	setSlack(t, "200000")
	defer setSlack(t, "50000")
	both(t, func(t *testing.T, r *Runtime) {
		o := runSpec(t, r, shell("cat /proc/self/timerslack_ns"))
		wantExit(t, o, 0)
		if strings.TrimSpace(o.stdout) != "50000" {
			t.Errorf("timer slack of a task, in ns: %s", o)
		}
	})
}

// setSlack changes all threads of this process, of which any may fork the
// launcher.
func setSlack(t *testing.T, ns string) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if err := os.WriteFile("/proc/"+thread.Name()+"/timerslack_ns", []byte(ns), 0); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}
