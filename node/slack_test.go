package node

import (
	"os"
	"strings"
	"testing"
)

func TestRelaxTimers(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("CI") != "true" {
		t.Skip("needs CAP_SYS_NICE")
	}
	if err := relaxTimers(); err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		b, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if os.IsNotExist(err) {
			continue // it has ended
		}
		if err != nil || strings.TrimSpace(string(b)) != "500000" {
			t.Errorf("thread %s of %d: slack %q ns, %v", thread.Name(), len(threads), b, err)
		}
	}
}
