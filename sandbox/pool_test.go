package sandbox

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// The pool follows what is asked for at a time, within its bounds.
func TestDemand(t *testing.T) {
	d := demand{least: 1, most: 16, want: 1}
	now := time.Unix(0, 0)
	for range 5 { // one at a time
		now = now.Add(time.Second)
		if want := d.take(now); want != 1 {
			t.Fatalf("%d for one task per second", want)
		}
	}
	now = now.Add(time.Second)
	for i := range 10 {
		now = now.Add(time.Millisecond)
		if want := d.take(now); want != i+1 {
			t.Fatalf("%d after %d tasks at a time", want, i+1)
		}
	}
	for range 90 {
		d.take(now)
	}
	if d.want != 16 {
		t.Errorf("%d, beyond the bound of 16", d.want)
	}
	if !d.relax() || d.want != 16 {
		t.Errorf("%d right after they were in use", d.want)
	}
	var sizes []int
	for more := true; more; sizes = append(sizes, d.want) {
		more = d.relax()
	}
	if d.want != 1 || len(sizes) > 5 {
		t.Errorf("shrank by %v", sizes)
	}
	fixed := demand{least: 2, most: 2, want: 2}
	if fixed.take(now); fixed.relax() || fixed.want != 2 {
		t.Errorf("a fixed size became %d", fixed.want)
	}
}

func TestPoolFollowsDemand(t *testing.T) {
	needRoot(t)
	r, err := newRuntime(Config{CgroupParent: newParent(), Warm: 1, WarmMax: 8}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Prove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.Stats(); s != (Stats{}) || r.pool != nil {
		t.Fatalf("before the first task: %+v", s)
	}
	run := func() {
		s, err := r.Start(t.Context(), withDefaults(shell("true")), Streams{})
		if err != nil {
			t.Fatal(err)
		}
		wantExit(t, outcome{Result: s.Wait()}, 0)
	}
	run()
	eventually(t, "one is kept", func() bool { return r.Stats().Ready == 1 })
	var burst []*Sandbox
	for range 6 {
		s, err := r.Start(t.Context(), withDefaults(shell("true")), Streams{})
		if err != nil {
			t.Fatal(err)
		}
		burst = append(burst, s)
	}
	for _, s := range burst {
		wantExit(t, outcome{Result: s.Wait()}, 0)
	}
	// On a starved machine six starts may take more than one window.
	eventually(t, "it grew", func() bool { return r.Stats().Ready > 1 })
	if n := r.Stats().Ready; n > 8 {
		t.Errorf("%d are ready, at most 8", n)
	}
	eventually(t, "it shrank again", func() bool { return r.Stats().Ready == 1 })
	run()
	if s := r.Stats(); s.Warm == 0 || s.Warm+s.Cold != 8 {
		t.Errorf("%+v of 8 starts", s)
	}
}

// What is wrong with a warm sandbox is not the task's fault.
func TestPoolFailureStartsCold(t *testing.T) {
	for name, harm := range map[string]func(*cell){
		"its socket is gone": func(c *cell) { c.conn.Close() },
		"its group is gone":  func(c *cell) { _ = c.group.Remove() },
	} {
		t.Run(name, func(t *testing.T) {
			r := poolRuntime(t, 0, 1)
			p := r.warm()
			p.wake()
			eventually(t, "a warm sandbox is ready", func() bool { return len(p.cells) == 1 })
			p.cancel() // nobody else fills it
			<-p.done
			c := <-p.cells
			harm(c)
			p.cells <- c
			s, err := r.Start(t.Context(), withDefaults(shell("exit 5")), Streams{})
			if err != nil {
				t.Fatal(err)
			}
			wantExit(t, outcome{Result: s.Wait()}, 5)
		})
	}
}

// A pool that cannot be filled costs nothing but the time it would save.
func TestPoolThatCannotBeFilled(t *testing.T) {
	r := poolRuntime(t, 0, 2)
	for n := range 20 { // in the way of its next cells
		g, err := r.cgroups.Create(fmt.Sprintf("warm_%d", n+1), false)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Remove()
	}
	for range 5 {
		s, err := r.Start(t.Context(), withDefaults(shell("exit 3")), Streams{})
		if err != nil {
			t.Fatal(err)
		}
		wantExit(t, outcome{Result: s.Wait()}, 3)
	}
	if s := r.Stats(); s.Cold != 5 || s.Warm != 0 {
		t.Errorf("%+v", s)
	}
}

// A writable grant below /tmp needs no rule of its own, and gives none away.
func TestWritableGrantStartsWarm(t *testing.T) {
	r := poolRuntime(t, 0, 1)
	dir := hostDir(t, 4242, 0o755, 0o644)
	spec := shell("echo new > /tmp/data/file && test \"$(cat /tmp/data/file)\" = new; " +
		"for d in / /usr /etc; do if echo x > $d/x; then exit 9; fi; done 2>/dev/null; exit 0")
	spec.Mounts = []Mount{{Source: dir, Target: "/tmp/data", Writable: true}}
	s, _, _ := start(t, r, spec)
	if !s.warm {
		t.Error("it started cold")
	}
	wantExit(t, outcome{Result: s.Wait()}, 0)
	if b, err := os.ReadFile(dir + "/file"); err != nil || string(b) != "new\n" {
		t.Errorf("%q, %v", b, err)
	}
	if suits(Spec{Mounts: []Mount{{Target: "/data", Writable: true}}}) {
		t.Error("a rule would be missing")
	}
}

// Cells are made for tasks like the last one, and one of another kind gets its
// own limits all the same, higher and lower.
func TestPoolLearnsLimits(t *testing.T) {
	r := poolRuntime(t, 0, 1)
	write := func(limit, bytes int64) outcome {
		spec := shell(fmt.Sprintf("head -c %d /dev/zero > /tmp/file", bytes))
		spec.Limits = Limits{MemoryBytes: limit, TmpBytes: limit / 4 * 3, PIDs: limit >> 20}
		return runSpec(t, r, spec)
	}
	const small, large = 32 << 20, 128 << 20
	if shape := r.warm().nextShape(); shape != defaultShape {
		t.Fatalf("%+v before the first task", shape)
	}
	for i, c := range []struct {
		limit, bytes int64
		ok           bool
	}{{small, small / 2, true}, {large, large / 2, true}, {small, large / 2, false}, {MinMemoryBytes, large / 2, false}, {small, small / 2, true}} {
		if o := write(c.limit, c.bytes); (o.ExitCode == 0) != c.ok {
			t.Errorf("%d: %d bytes with a limit of %d: %s", i, c.bytes, c.limit, o)
		}
		want := defaultShape
		if c.limit >= leastShape {
			want = Limits{MemoryBytes: c.limit, TmpBytes: c.limit / 4 * 3, PIDs: c.limit >> 20, CPUMillis: DefaultCPUMillis}
		}
		if shape := r.warm().nextShape(); shape != want {
			t.Errorf("%d: the next cells are made with %+v, want %+v", i, shape, want)
		}
	}
}
