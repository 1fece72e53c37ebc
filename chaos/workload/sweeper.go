package workload

import (
	"context"
	"fmt"
	"time"

	"holdfast/chaos/history"
	"holdfast/client"
)

// sweepPage is how many tasks one page of the sweep has.
const sweepPage = 500

// sweeper reads every task back with strong lists, page after page as the
// tasks come. It belongs to one goroutine at a time.
type sweeper struct {
	l *Load
	s *session
	// cursor and after are where the last whole page ended; the page after it
	// is read again until it is whole, too.
	cursor string
	after  uint64
}

func newSweeper(l *Load) (*sweeper, error) {
	s, err := l.newSession(sweeperProcess, l.from(len(l.cfg.Nodes)-1), maxTries, 5*time.Second, 20*time.Second)
	if err != nil {
		return nil, err
	}
	return &sweeper{l: l, s: s}, nil
}

func (w *sweeper) run(ctx context.Context) {
	calls := context.WithoutCancel(ctx)
	every(ctx, w.l.cfg.SweepEvery, func() {
		for ctx.Err() == nil && w.page(calls) {
		}
	})
}

// page reads the next page and tells whether there is another.
func (w *sweeper) page(ctx context.Context) bool {
	f := client.ListFilter{Limit: sweepPage, Cursor: w.cursor}
	list, through := w.s.page(ctx, f, w.l.cfg.Nodes[0].Name, w.after, true)
	if list == nil || list.Cursor == "" {
		return false
	}
	w.cursor, w.after = list.Cursor, through
	return true
}

// Settle waits until every task has ended, reads all of them back, and then
// asks every node for the hash of its state until all have told it at the same
// index. The load must be over. What did not come about is an error, and in
// the history.
func (l *Load) Settle(ctx context.Context) error {
	if err := l.sweep.settle(ctx); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if err := l.agree(ctx); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

func (w *sweeper) settle(ctx context.Context) error {
	var err error
	for err == nil {
		left := w.left(ctx)
		if left == 0 {
			break
		}
		err = pause(ctx, 200*time.Millisecond, fmt.Sprintf("%d tasks and more have not ended", left))
	}
	// All that the cluster remembers, whatever has ended.
	w.cursor, w.after = "", 0
	calls := context.WithoutCancel(ctx)
	for w.page(calls) {
	}
	return err
}

// left is how many tasks of the first page of those that have not ended there
// are; -1 is not known.
func (w *sweeper) left(ctx context.Context) int {
	f := client.ListFilter{States: []string{"queued", "running"}, Limit: 50}
	list, _ := w.s.page(ctx, f, w.l.cfg.Nodes[0].Name, 0, false)
	if list == nil {
		return -1
	}
	return len(list.Tasks)
}

// agree has every node tell the hash of its state at one index.
func (l *Load) agree(ctx context.Context) error {
	samplers := make([]*sampler, len(l.cfg.Nodes))
	for i := range samplers {
		var err error
		if samplers[i], err = l.newSampler(i); err != nil {
			return err
		}
		defer samplers[i].close()
	}
	for {
		told := map[uint64]int{}
		for _, s := range samplers {
			if index, ok := s.hash(ctx); ok {
				told[index]++
			}
		}
		for _, n := range told {
			if n == len(samplers) {
				for _, s := range samplers {
					s.host(ctx)
				}
				return nil
			}
		}
		if err := pause(ctx, 200*time.Millisecond, "the nodes do not tell the hash of their states at one index"); err != nil {
			return err
		}
	}
}

// pause waits a moment, or says what it waited for when ctx ends.
func pause(ctx context.Context, d time.Duration, what string) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

// Phase enters a phase in the history.
func (l *Load) Phase(p history.Phase) { l.cfg.Writer.Add(history.Event{Kind: history.Enter, Phase: p}) }
