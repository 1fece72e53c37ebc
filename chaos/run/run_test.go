package run

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/chaos/check"
	"holdfast/chaos/fault/launch"
	"holdfast/chaos/history"
	"holdfast/chaos/scenario"
)

// program is the holdfast under test.
var program string

var given = flag.String("binary", "", "path of a holdfast to break, instead of building it")

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	launch.RunIfChild()
	if os.Getenv(idleEnv) != "" {
		idle()
	}
	flag.Parse()
	if testing.Short() || os.Geteuid() != 0 {
		return finish(m)
	}
	inside, status, err := launch.Private()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if !inside {
		return status
	}
	if program = *given; program == "" {
		dir, err := os.MkdirTemp("", "hfrun-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "holdfast")
		build := exec.Command("go", "build", "-o", program, "holdfast/cmd/holdfast")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build holdfast:", err)
			return 1
		}
	}
	return finish(m)
}

func finish(m *testing.M) int {
	status := m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

func needCluster(t *testing.T) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts a cluster")
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("this test needs root")
	default:
		t.Skip("needs root")
	}
}

func parse(t *testing.T, text string) scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// folder is a run's folder that tasks can walk to.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfrun-out-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

const short = `
name: short
about: Kill the leader and cut another node off.
workload: {for: 8s, rate: 40}
schedule:
  - {at: 1s, fault: kill, on: leader, for: 1s}
  - {at: 5s, fault: isolate, on: follower, for: 1s}
steady: {after: 3s}
bounds: {no_writes: 20s, min_bites: 2}
`

// A whole run on a real cluster: both faults bite and are healed, and every
// check that this much load can exercise holds.
func TestRunHolds(t *testing.T) {
	needCluster(t)
	dir := folder(t)
	res, err := Run(t.Context(), parse(t, short), Options{Binary: program, Seed: 3, Out: dir, Tell: func(l Line) {
		if l.What != "load" {
			t.Logf("%s %s", l.What, l.Text)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Bit != 2 || res.Injected != 2 || res.Elections < 1 || res.Acked < 20 {
		t.Errorf("%+v", res)
	}
	for _, v := range res.Judgement.Verdicts {
		// A busy machine may be late, and that is all that it may be.
		if v.Outcome == check.Violated && v.Kind != check.Recovery {
			t.Errorf("%s: %+v", v.Check, v.Violations)
		}
	}
	if _, err := history.LoadRun(dir); err != nil {
		t.Error(err)
	}
}

// A halt heals what is broken and still judges what was seen.
func TestHaltHeals(t *testing.T) {
	needCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	healed := false
	scn := parse(t, strings.ReplaceAll(short, "for: 8s", "for: 10m"))
	scn.Schedule[1].For = scenario.Duration(9 * time.Minute)
	res, err := Run(ctx, scn, Options{Binary: program, Seed: 3, Out: folder(t), Tell: func(l Line) {
		switch {
		case l.Fault == "isolate" && strings.Contains(l.Text, " bit: "):
			cancel()
		case l.Fault == "isolate" && strings.Contains(l.Text, " healed: "):
			healed = true
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if res.Code != CodeHalted || res.Run.Stopped != "halted" {
		t.Errorf("code %d, stopped %q", res.Code, res.Run.Stopped)
	}
	if !healed {
		t.Error("the halt did not heal the fault that was in force")
	}
}

func TestCodes(t *testing.T) {
	none := 0
	for name, c := range map[string]struct {
		judged  int
		res     Result
		stopped string
		bounds  scenario.Bounds
		want    int
	}{
		"held":                              {judged: check.CodeHeld, want: check.CodeHeld},
		"a fault saw a broken promise":      {res: Result{Violations: []string{"x"}}, stopped: "halted", want: check.CodeSafety},
		"safety comes before a halt":        {judged: check.CodeSafety, stopped: "halted", want: check.CodeSafety},
		"halted":                            {judged: check.CodeInconclusive, stopped: "halted", want: CodeHalted},
		"an election too many":              {res: Result{Elections: 1}, bounds: scenario.Bounds{Elections: &none}, want: check.CodeBound},
		"no election":                       {bounds: scenario.Bounds{Elections: &none}, want: check.CodeHeld},
		"too few bites":                     {res: Result{Bit: 1}, bounds: scenario.Bounds{MinBites: 2}, want: check.CodeInconclusive},
		"a broken bound before few bites":   {judged: check.CodeBound, bounds: scenario.Bounds{MinBites: 2}, want: check.CodeBound},
		"not healed":                        {judged: check.CodeNotHealed, want: check.CodeNotHealed},
		"it took too long, though all held": {stopped: "it took longer", want: check.CodeInconclusive},
	} {
		r := runner{scn: scenario.Scenario{Bounds: c.bounds}, meta: &history.Run{Stopped: c.stopped}, res: c.res}
		if got := r.code(c.judged); got != c.want {
			t.Errorf("%s: code %d, want %d", name, got, c.want)
		}
	}
}

func TestFolderMustBeOpen(t *testing.T) {
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := openFolder(filepath.Join(closed, "run")); err == nil || !strings.Contains(err.Error(), closed) {
		t.Errorf("a folder that tasks cannot walk to: %v", err)
	}
}

const idleEnv = "RUN_TEST_IDLE"

// idle is a run that only waits for its halt.
func idle() {
	if _, err := Register(os.Getenv(idleEnv)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("up")
	select {} // until the signal
}

func TestHaltFindsRuns(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	if halted, err := Halt(t.Context()); err != nil || len(halted) != 0 {
		t.Fatalf("with no run: %v, %v", halted, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), idleEnv+"=somewhere")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := out.Read(b); err != nil || string(b[:n]) != "up\n" {
		t.Fatalf("the run says %q: %v", b[:n], err)
	}
	// One that was killed, and whose number another process has by now.
	stale, err := json.Marshal(Running{PID: os.Getpid(), Dir: "stale", Start: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(registry(), fmt.Sprint(os.Getpid())), stale, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	halted, err := Halt(t.Context())
	if err != nil || len(halted) != 1 || halted[0].PID != cmd.Process.Pid || halted[0].Dir != "somewhere" {
		t.Errorf("halted %+v, %v", halted, err)
	}
	<-ended
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
	if err := os.Chmod(registry(), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Halt(t.Context()); err == nil {
		t.Error("a registry that others can write to is believed")
	}
}

func TestExamineKnowsEveryLiveFault(t *testing.T) {
	named := map[string]bool{}
	for _, a := range Examine(t.Context()) {
		for _, f := range a.Faults {
			named[f] = true
		}
	}
	for _, f := range scenario.Faults {
		for _, tier := range f.Tiers {
			if tier == scenario.Live && !named[f.Name] {
				t.Errorf("the doctor does not speak of %s", f.Name)
			}
		}
	}
}
