package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/client"
)

func (a *app) runCmd() *cobra.Command {
	var flags specFlags
	var detach bool
	var key string
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command as a task, follow its output and exit with its code",
		Long: `Run a command as a task, follow its output and exit with its code.

The command runs in a sandbox on one of the cluster's nodes: it sees the system
folders read-only, a private /tmp, no network, and what --mount grants. No
shell is involved; for one, run: sh -c '...'.

Ctrl-C cancels the task and waits for its end; a second Ctrl-C leaves at once.
With --json its output is not followed and the ended task is printed.

` + taskExitHelp,
		Example: `  holdfast run -- echo hello
  holdfast run --mount /srv/data --timeout 10m -- wc -l /srv/data/log.txt
  echo 2+2 | holdfast run --stdin -- bc
  id=$(holdfast run --detach -- make -C /srv/src) && holdfast wait $id`,
		Args: someArgs,
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := flags.spec(c.Flags(), args, a.in)
			if err != nil {
				return err
			}
			return a.with(func(cl *client.Client) error {
				return a.run(c.Context(), cl, spec, detach, keyOption(key))
			})
		},
	}
	// Flags after the command belong to the command.
	c.Flags().SetInterspersed(false)
	flags.add(c.Flags())
	completeSpecWords(c)
	c.Flags().BoolVarP(&detach, "detach", "d", false, "print the task's ID and leave it running")
	c.Flags().StringVar(&key, "idempotency-key", "", "submit once per key, however often this is run")
	return c
}

func keyOption(key string) []client.CallOption {
	if key == "" {
		return nil
	}
	return []client.CallOption{client.IdempotencyKey(key)}
}

func (a *app) run(ctx context.Context, cl *client.Client, spec client.TaskSpec, detach bool, opts []client.CallOption) error {
	t, err := cl.Submit(ctx, spec, opts...)
	if err != nil {
		return selfFailed(ctx, err)
	}
	if detach {
		return a.emit(t, func() { fmt.Fprintln(a.out, t.ID) })
	}
	// From here on Ctrl-C is the task's: the invocation must live on to see
	// its end.
	ctx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	stop := a.cancelOnInterrupt(ctx, cl, t.ID, leave)
	defer stop()
	if a.json {
		t, err = cl.Wait(ctx, t.ID)
	} else {
		t, err = a.follow(ctx, cl, t.ID)
	}
	if err != nil {
		return selfFailed(ctx, err)
	}
	if a.json {
		if err := a.emit(t, nil); err != nil {
			return err
		}
	} else if r := t.Result; t.State != "succeeded" && (r == nil || r.Reason != "exit") {
		a.note("task %s: %s", t.ID, ending(t))
	}
	if t.Result != nil && t.Result.Truncated && !a.json {
		a.note("task %s wrote more output than its limit kept", t.ID)
	}
	if t.Result != nil && len(t.Result.Weaker) > 0 && !a.json {
		a.note("task %s ran on a node that does without: %s", t.ID, strings.Join(t.Result.Weaker, ", "))
	}
	return silently(taskCode(t))
}

// selfFailed tells our failures from the command's.
func selfFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{code: exitInterrupted}
	}
	return &exitError{exitSelf, err}
}

// cancelOnInterrupt cancels the task at the first signal and calls leave at
// the second. The returned function ends it.
func (a *app) cancelOnInterrupt(ctx context.Context, cl *client.Client, id string, leave func()) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-signals:
		}
		a.note("cancelling task %s; once more leaves it", id)
		wg.Go(func() {
			if _, err := cl.Cancel(ctx, id); err != nil && !client.IsConflict(err) && ctx.Err() == nil {
				a.note("%v", err)
			}
		})
		select {
		case <-ctx.Done():
		case <-signals:
			a.note("left task %s; see: holdfast get %s", id, id)
			leave()
		}
	})
	return func() {
		signal.Stop(signals)
		end()
		wg.Wait()
	}
}

// maxFollowed bounds how many attempts are followed: the API's retry limit.
const maxFollowed = 1001

// follow copies the output of every attempt until the task is terminal.
func (a *app) follow(ctx context.Context, cl *client.Client, id string) (*client.Task, error) {
	for attempt := 1; attempt <= maxFollowed; attempt++ {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, s := range []struct {
			name string
			to   io.Writer
		}{{"stdout", a.out}, {"stderr", a.err}} {
			wg.Go(func() {
				errs[i] = copyOutput(ctx, cl, id, s.to, client.OutputOptions{Stream: s.name, Attempt: attempt, Follow: true})
			})
		}
		wg.Wait()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err := errors.Join(errs...)
		t, werr := a.settled(ctx, cl, id, attempt)
		if werr != nil {
			return nil, werr
		}
		switch {
		case err != nil && client.IsNotFound(err) && t.Attempt < attempt:
			// It ended without this attempt: there is nothing to follow.
		case err != nil && !a.quiet:
			// The output's node may be lost while the task itself goes on.
			a.note("output of attempt %d is incomplete: %v", attempt, err)
		}
		if t.Terminal() && t.Attempt <= attempt {
			return t, nil
		}
	}
	return cl.Wait(ctx, id)
}

// settled waits until the task is terminal or past the attempt.
func (a *app) settled(ctx context.Context, cl *client.Client, id string, attempt int) (*client.Task, error) {
	// The output ends a moment before the result is recorded.
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		t, err := cl.Get(ctx, id)
		if err != nil || t.Terminal() || t.Attempt > attempt || t.State == "queued" && t.Attempt == attempt {
			return t, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

func copyOutput(ctx context.Context, cl *client.Client, id string, to io.Writer, o client.OutputOptions) error {
	r, err := cl.Output(ctx, id, o)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(to, r)
	return err
}
