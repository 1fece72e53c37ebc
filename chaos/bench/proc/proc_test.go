package proc

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProcessEnds(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "echo spoke; exec sleep 600"))
	if err != nil {
		t.Fatal(err)
	}
	if u, err := Tree(p.PID()); err != nil || u.Processes < 1 {
		t.Errorf("%+v, %v", u, err)
	}
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Ended():
	default:
		t.Fatal("Stop returned before the process had ended")
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("a process that was stopped: %v", err)
	}
	if _, err := Tree(p.PID()); err == nil {
		t.Error("a process that ended still uses something")
	}
}

func TestOutputIsKept(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "echo why >&2; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "why") {
		t.Fatalf("%v", err)
	}
	if _, err := Start(exec.Command("/nonexistent")); err == nil {
		t.Fatal("a program that is not there was started")
	}
}

func TestKillIsAtOnce(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "trap '' TERM; while :; do sleep 600; done"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(time.Millisecond); err != nil { // it ignores the request
		t.Fatal(err)
	}
	<-p.Ended()
}

func TestTreeOfSelf(t *testing.T) {
	u, err := Tree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.Processes < 1 || u.RSSBytes < 1<<20 || u.PSSBytes < 1 || u.PSSBytes > u.RSSBytes {
		t.Fatalf("%+v", u)
	}
}

func TestHostUsesWhatItsProcessesUse(t *testing.T) {
	before, err := Host()
	if err != nil {
		t.Fatal(err)
	}
	for end := before + 20*time.Millisecond; before < end; {
		if before, err = Host(); err != nil { // this loop uses it
			t.Fatal(err)
		}
	}
}
