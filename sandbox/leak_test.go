package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

// counts is what must not grow.
type counts struct{ fds, mounts, children, launcherFDs, goroutines int }

func count(t testing.TB, r *Runtime) counts {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	mi, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	c := counts{fds: len(fds), mounts: strings.Count(string(mi), "\n"), goroutines: runtime.NumGoroutine()}
	kids, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", r.launcher.proc.Pid, r.launcher.proc.Pid))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	theirs, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.launcher.proc.Pid))
	if err != nil {
		t.Fatal(err)
	}
	c.launcherFDs = len(theirs)
	c.children = len(strings.Fields(string(kids)))
	return c
}

// Hundreds of starts at once, of every kind of end, leave nothing.
func TestNothingLeaks(t *testing.T) { both(t, testNothingLeaks) }

func testNothingLeaks(t *testing.T, r *Runtime) {
	dir := hostDir(t, 1234, 0o755, 0o644)
	wantExit(t, runSpec(t, r, shell("true")), 0) // whatever is set up once
	if p := r.warm(); p != nil {
		p.wake()
		eventually(t, "the pool is full", func() bool { return len(p.cells) == cap(p.cells) })
	}
	before := count(t, r)
	const total = 240
	var g errgroup.Group
	g.SetLimit(120)
	var mu sync.Mutex
	ends := map[EndReason]int{}
	for i := range total {
		g.Go(func() error {
			spec := withDefaults(shell("(sleep 1000 &); echo x"))
			switch i % 6 {
			case 1:
				spec = withDefaults(shell("sleep 1000"))
			case 2:
				spec.Command = []string{"nothing"}
			case 3:
				spec = withMount(withMount(spec, dir, "/a", true), dir, "/b", false)
			case 4:
				spec = withMount(spec, dir+"/none", "/a", false)
			}
			s, err := r.Start(t.Context(), spec, Streams{Stdout: &strings.Builder{}})
			if err != nil {
				if i%6 == 4 {
					return nil
				}
				return err
			}
			if i%6 == 1 {
				s.Kill(EndCancelled)
			}
			res := s.Wait()
			mu.Lock()
			ends[res.Reason]++
			mu.Unlock()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if ends[EndExit] != total/2 || ends[EndCancelled] != total/6 || ends[EndStartFailed] != total/6 {
		t.Errorf("ended by %v", ends)
	}
	eventually(t, fmt.Sprintf("as before: %+v", before), func() bool {
		r.mu.Lock()
		living := len(r.living)
		r.mu.Unlock()
		now := count(t, r)
		return living == 0 && now.fds <= before.fds && now.mounts == before.mounts && now.children <= before.children && now.launcherFDs <= before.launcherFDs && now.goroutines <= before.goroutines
	})
	if r.warmSize == 0 {
		if n, err := r.RemoveStale(); n != 0 || err != nil {
			t.Errorf("%d cgroups are left, %v", n, err)
		}
	}
}
