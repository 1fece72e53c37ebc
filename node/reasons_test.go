package node

import (
	"strings"
	"testing"
	"time"

	"holdfast/client"
)

// Each reason of death comes through to the client as itself.
func TestReasonsOfDeath(t *testing.T) {
	n := oneNode(t)
	c := socketClient(t, n)
	sh := func(script string) client.TaskSpec {
		return client.TaskSpec{Command: []string{"sh", "-c", script}, Resources: client.Resources{CPUMillis: 200, MemoryBytes: 32 << 20}}
	}
	with := func(s client.TaskSpec, change func(*client.TaskSpec)) client.TaskSpec { change(&s); return s }
	for want, spec := range map[string]client.TaskSpec{
		"exit":   sh("exit 3"),
		"signal": sh("kill -SEGV $$"),
		"timeout": with(sh("sleep 60"), func(s *client.TaskSpec) {
			s.Timeouts = client.Timeouts{Run: client.Duration(200 * time.Millisecond), Grace: client.Duration(time.Millisecond)}
		}),
		"cpu_time":      with(sh("while :; do :; done"), func(s *client.TaskSpec) { s.Timeouts.CPU = client.Duration(50 * time.Millisecond) }),
		"out_of_memory": sh("head -c 100M /dev/zero | tail"),
		"output_limit":  with(sh("yes"), func(s *client.TaskSpec) { s.OutputLimit, s.OnOutputLimit = 1000, "end" }),
		"disk_limit":    with(sh("head -c 1M /dev/zero > /scratch/x"), func(s *client.TaskSpec) { s.Scratch = &client.Scratch{Bytes: 100 << 10} }),
		"start_failed":  {Command: []string{"no-such-program"}},
		"cancelled":     sh("sleep 60"),
	} {
		task, err := c.Submit(t.Context(), spec)
		if err == nil && want == "cancelled" {
			_, err = c.Cancel(t.Context(), task.ID)
		}
		if err == nil {
			task, err = c.Wait(t.Context(), task.ID)
		}
		if err != nil {
			t.Fatalf("%s: %v", want, err)
		}
		if task.Result == nil || task.Result.Reason != want || len(task.Result.NotEnforced) > 0 {
			t.Errorf("want %s: %s, %+v", want, task.State, task.Result)
		}
		if want == "output_limit" && (!task.Result.Truncated || !strings.HasPrefix(task.Result.Tail, "y")) {
			t.Errorf("%+v", task.Result)
		}
	}
}
