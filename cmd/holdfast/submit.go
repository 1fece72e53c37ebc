package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"

	"holdfast/client"
)

func (a *app) submitCmd() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use: "submit FILE", Short: "Submit tasks from a file", Args: exactArgs(1),
		Long: `Submit tasks from a file, or from standard input for "-", and print their IDs in
the order of the specs. The file holds JSON (one spec, an array, or one spec
after the other as in NDJSON) or YAML (documents, each a spec or a list).

Several specs are streamed: each is durable when its ID is printed, and a broken
connection or a lost leader is survived without submitting any of them twice.
With --json one spec gives the task, several one answer per line. When a spec is
refused the others go on; the exit code is then 1.`,
		Example: `  holdfast submit task.yaml
  generate-specs | holdfast submit - --json
  holdfast submit nightly.ndjson --idempotency-key nightly-2026-01-02`,
		RunE: func(c *cobra.Command, args []string) error {
			next, f, err := openSpecs(args[0], a.in)
			if err != nil {
				return err
			}
			defer f.Close()
			return a.with(func(cl *client.Client) error { return a.submit(c.Context(), cl, next, keyOption(key)) })
		},
	}
	c.Flags().StringVar(&key, "idempotency-key", "", "submit once per key, however often this is run")
	return c
}

func (a *app) submit(ctx context.Context, cl *client.Client, next specReader, opts []client.CallOption) error {
	first, err := next()
	if errors.Is(err, io.EOF) {
		return usagef("no task specs were found")
	}
	if err != nil {
		return err
	}
	second, err := next()
	if errors.Is(err, io.EOF) {
		t, err := cl.Submit(ctx, first, opts...)
		if err != nil {
			return err
		}
		return a.emit(t, func() { fmt.Fprintln(a.out, t.ID) })
	}
	if err != nil {
		return err
	}
	return a.submitStream(ctx, cl, []client.TaskSpec{first, second}, next, opts)
}

// submitStream streams head and what next yields. A goroutine reads ahead; it
// ends with the input or with ctx, which this function cancels.
func (a *app) submitStream(ctx context.Context, cl *client.Client, head []client.TaskSpec, next specReader, opts []client.CallOption) error {
	ctx, cancel := context.WithCancel(ctx)
	specs := make(chan client.TaskSpec)
	var readErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(specs)
		for {
			var spec client.TaskSpec
			if len(head) > 0 {
				spec, head = head[0], head[1:]
			} else if spec, readErr = next(); readErr != nil {
				return
			}
			select {
			case specs <- spec:
			case <-ctx.Done():
				return
			}
		}
	})
	out := &inOrder{print: a.printAnswer}
	p := a.progress("submitted")
	var failed error
	for answer, err := range cl.SubmitStream(ctx, specs, opts...) {
		if err == nil {
			p.clear()
			err = out.add(answer)
			p.bar(out.done, out.refused, 0)
		}
		if err != nil {
			failed = err
			break
		}
	}
	p.clear()
	cancel()
	if failed != nil {
		// The reader may sit in a read of a terminal that never ends; what it
		// holds is of no use any more.
		return fmt.Errorf("%w\n%d tasks were submitted before that", failed, out.done-out.refused)
	}
	wg.Wait()
	if readErr != nil && !errors.Is(readErr, io.EOF) {
		return fmt.Errorf("%w\n%d tasks were submitted before that", readErr, out.done-out.refused)
	}
	if out.refused > 0 {
		return &exitError{exitFailure, fmt.Errorf("%d of %d specs were refused", out.refused, out.done)}
	}
	return nil
}

func (a *app) printAnswer(s *client.StreamAnswer) error {
	switch {
	case a.json:
		return a.emitLine(s)
	case s.Problem != nil:
		fmt.Fprintf(a.err, "spec %d: %s\n", s.Line, clean(s.Problem.Error()))
		return nil
	}
	_, err := fmt.Fprintln(a.out, s.ID)
	return err
}

// inOrder prints answers in the order of their lines. What waits is bounded by
// the SDK's window of unanswered lines.
type inOrder struct {
	print         func(*client.StreamAnswer) error
	waiting       map[int]*client.StreamAnswer
	done, refused int
	printed       int
}

func (o *inOrder) add(s *client.StreamAnswer) error {
	o.done++
	if s.Problem != nil {
		o.refused++
	}
	if o.waiting == nil {
		o.waiting = map[int]*client.StreamAnswer{}
	}
	o.waiting[s.Line] = s
	for {
		s, ok := o.waiting[o.printed+1]
		if !ok {
			return nil
		}
		delete(o.waiting, o.printed+1)
		o.printed++
		if err := o.print(s); err != nil {
			return err
		}
	}
}
