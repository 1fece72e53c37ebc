package fault

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/chaos/fault/launch"
	"holdfast/chaos/scenario"
	"holdfast/client"
)

// program is the holdfast under test.
var program string

var (
	given = flag.String("binary", "", "path of a holdfast to break, instead of building it")
	only  = flag.String("fault", someOfEach, "try the faults that match")
)

// someOfEach are faults of every group. All of them take minutes: make chaos
// tries them, with -fault '.*'. Power is left to the scenarios.
const someOfEach = "kill|freeze|deaf|loss|corrupt|disk-write-error|flip-byte|clock-jump|transfer|zombie|report-cut|client-twice"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	launch.RunIfChild()
	if os.Getenv(victimEnv) != "" {
		fmt.Println(victim())
		return 1
	}
	flag.Parse()
	if testing.Short() {
		return m.Run()
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			fmt.Fprintln(os.Stderr, "these tests need root")
			return 1
		}
		fmt.Println("skipped: these tests need root")
		return 0
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
		dir, err := os.MkdirTemp("", "hffault-")
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
	status = m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// newLab starts a cluster on which every fault is possible, with some load.
func newLab(t *testing.T, ctx context.Context) *Lab {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	l, err := Start(ctx, Options{
		Binary: program, Previous: program, Nodes: 3, DiskMiB: 384, Seed: 1, Note: t.Logf,
		Needs: []scenario.Need{scenario.NeedSwitch, scenario.NeedDisk, scenario.NeedCalls},
	})
	if err != nil {
		t.Fatal(err)
	}
	load := loop(ctx, func(ctx context.Context) error {
		addrs, token, pin := l.Access()
		for _, addr := range addrs {
			cl, err := client.New(client.Config{Addrs: []string{addr}, Token: token, CAPin: pin, Retry: client.Retries{Attempts: 1}})
			if err == nil {
				one, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
				_, _ = cl.Submit(one, client.TaskSpec{
					Command: []string{"/bin/sh", "-c", "echo x; sleep 0.3"}, Resources: client.Resources{CPUMillis: 50, MemoryBytes: 16 << 20},
				}) // some fail: that is the point
				cancel()
				cl.Close()
			}
		}
		return pass(ctx, 50*time.Millisecond)
	})
	t.Cleanup(func() {
		_ = load()
		if err := l.Close(context.WithoutCancel(ctx)); err != nil {
			t.Errorf("end the cluster: %v", err)
		}
	})
	return l
}

// strike does one fault from beginning to end.
func strike(t *testing.T, ctx context.Context, l *Lab, step scenario.Step) {
	t.Helper()
	begun := time.Now()
	s, err := l.Prepare(ctx, step, 7)
	if err != nil {
		t.Fatalf("prepare: %v", err)
	}
	defer s.Release()
	short, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	err = s.Inject(short)
	if errors.Is(err, ErrBusy) && os.Getenv("CI") != "true" {
		t.Skipf("not possible now: %v", err)
	}
	var bit string
	if err == nil {
		bit, err = s.Bit(short)
	}
	if err == nil {
		err = pass(short, step.For.D())
	}
	if err != nil {
		t.Errorf("%v", err)
	}
	mend, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := s.Heal(mend); err != nil {
		for _, n := range l.Nodes() {
			t.Logf("%s, alive %v, said:\n%s", n.Name, n.Alive(), lastLines(n.Log(), 40))
			st, err := n.Status(ctx)
			t.Logf("status %+v %v", st, err)
		}
		t.Fatalf("heal: %v", err)
	}
	healed, err := s.Healed(mend)
	if err != nil {
		t.Fatalf("not healed: %v", err)
	}
	t.Logf("on %v, %s: %s; %s", s.Names(), time.Since(begun).Round(time.Millisecond), bit, healed)
}

// Every fault of the catalogue bites a real cluster, proves it, and is mended.
func TestFaultsBite(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	l := newLab(t, ctx)
	faults := slices.Clone(scenario.Faults)
	late := func(f scenario.Fault) int {
		if f.Name == "damage-snapshot" {
			return 1
		}
		return 0
	}
	// Snapshots come late.
	slices.SortStableFunc(faults, func(a, b scenario.Fault) int { return cmp.Compare(late(a), late(b)) })
	for _, f := range faults {
		if !regexp.MustCompile("^(" + *only + ")$").MatchString(f.Name) {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			step := scenario.Step{Fault: f.Name, For: min(f.For, scenario.Duration(700*time.Millisecond))}
			step.On, _ = scenario.ParseTarget(f.On[0])
			if f.Name == "partition" {
				step.On = scenario.Target{}
			}
			step.With = scenario.Params{}
			for _, p := range f.Params {
				step.With[p.Name] = p.Default
			}
			strike(t, ctx, l, step)
		})
		if t.Failed() && ctx.Err() != nil {
			return
		}
	}
}
