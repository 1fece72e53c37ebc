package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// SIGTERM of a leader that runs tasks: leadership moves while they still run,
// they get their time and are reported, nothing new comes, and nobody's
// submission fails.
func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{Env: []string{"HOLDFAST_DRAIN=30s"}})
	lead, others := leader(t, ctx, c)
	cl := dial(t, c, others...)

	// One ends by itself when it is let go; one at its SIGTERM.
	l := newLedger(t)
	ends := shell("ends", "until [ -e /gate/open ]; do sleep 0.05; done; echo ended")
	ends.Mounts = []client.Mount{{Source: l.dir, Target: "/gate"}}
	own := runOn(t, ctx, cl, c, lead, ends)

	if err := lead.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, "leadership to move", func(ctx context.Context) error {
		st, err := c.Status(ctx, others[0])
		if err == nil && (st.Leader == "" || st.Leader == lead.ID) {
			err = fmt.Errorf("leader %q", st.Leader)
		}
		return err
	})
	undisturbed(t, ctx, cl, own.ID)
	if !lead.Alive() {
		t.Error("the node ended before its task")
	}
	var meanwhile []*client.Task
	for i := range 12 {
		meanwhile = append(meanwhile, submit(t, ctx, cl, shell(fmt.Sprintf("meanwhile-%d", i), "echo fine")))
	}
	for _, task := range meanwhile {
		if task := wait(t, ctx, cl, task.ID, "succeeded"); task.Node == lead.ID {
			t.Errorf("a draining node was given a task: %s", describe(task))
		}
	}
	if err := os.WriteFile(l.dir+"/open", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if task := wait(t, ctx, cl, own.ID, "succeeded"); task.Attempt != 1 || task.Node != lead.ID || task.Result.Tail != "ended\n" {
		t.Errorf("the running task did not get its time: %s", describe(task))
	}
	if code := ended(t, ctx, lead); code != 0 {
		t.Errorf("the drained node ended with status %d\n%s", code, lead.Log())
	}

	// A second signal does not wait for anybody.
	hurry := others[0]
	cl = dial(t, c, others[1])
	restart(t, ctx, c, lead)
	runOn(t, ctx, cl, c, hurry, shell("forever", "trap '' TERM; while :; do sleep 1; done"))
	var once sync.Once
	until(t, ctx, "the node to end at its second signal", func(context.Context) error {
		if !hurry.Alive() {
			return nil
		}
		once.Do(func() { _ = hurry.Signal(syscall.SIGTERM) })
		if strings.Contains(hurry.Log(), "draining") {
			if err := hurry.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
		return errors.New("it lives")
	})
}

// A grace that is too short: the task is told, then killed, and runs elsewhere.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	c := start(t, ctx, cluster.Options{Env: []string{"HOLDFAST_DRAIN=1s"}})
	_, others := leader(t, ctx, c)
	cl := dial(t, c, others[1])
	stubborn := shell("stubborn", "trap 'echo told' TERM; while :; do sleep 0.1; done")
	stubborn.Timeouts.Grace = client.Duration(time.Second)
	task := runOn(t, ctx, cl, c, others[0], stubborn)
	stop(t, ctx, others[0])
	next := reach(t, ctx, cl, task.ID, "running as attempt 2", attempt(2))
	if next.Node == others[0].ID {
		t.Errorf("a node that has ended was given a task: %s", describe(next))
	}
}
