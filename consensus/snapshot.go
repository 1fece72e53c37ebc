package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"
)

// snapshotByBytes takes a snapshot whenever enough was applied since the last.
// The first one waits, too: what is replayed after a start counts, and when a
// whole cluster starts every node would write a snapshot just when the first
// writes come.
func (g *Group) snapshotByBytes(ctx context.Context) {
	pause(ctx, g.cfg.Snapshot.Pause)
	for {
		select {
		case <-g.applier.snapAsk:
		case <-ctx.Done():
			return
		}
		if g.applier.bytes.Load() < snapshotTurn(g.applier.snapBytes, g.id, g.servers()) {
			continue // just taken by hand, or others come first; every entry asks again
		}
		if err := g.Snapshot(ctx); err != nil && ctx.Err() == nil {
			g.log.Warn("snapshot failed", "error", err)
		}
		pause(ctx, g.cfg.Snapshot.Pause)
	}
}

// snapshotTurn is after how many bytes a server takes its snapshot: all apply
// the same ones, and would all stop for breath at once. The first takes it at
// the threshold, the others spread over half as much again.
func snapshotTurn(threshold int64, self string, servers []raft.Server) int64 {
	before := int64(0)
	for _, s := range servers {
		if string(s.ID) < self {
			before++
		}
	}
	return threshold + threshold/2*before/max(1, int64(len(servers)))
}

// Snapshot takes a snapshot now. With nothing applied it does nothing. If ctx
// ends first the snapshot goes on.
func (g *Group) Snapshot(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- releasable(g.raft.Snapshot(), g.dead).Error() }()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			g.metrics.snapshots.WithLabelValues("error").Inc()
			return fmt.Errorf("consensus: take a snapshot: %w", err)
		}
		g.metrics.snapshots.WithLabelValues("ok").Inc()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Restore replaces the state of the whole group by a snapshot as the state
// machine writes it (not compressed), of size bytes. Leader only; entries in flight get
// ErrUnknownOutcome. The snapshot is read twice: once to check it, because a
// bad one that is stored would stop every node, one after the other. If ctx
// ends first the restore goes on, so it should not be short.
func (g *Group) Restore(ctx context.Context, size int64, r io.ReadSeeker) error {
	of := g.leadership.office.Load()
	if of == nil {
		return g.notLeader()
	}
	if g.cfg.CheckSnapshot == nil {
		return errors.New("consensus: restore: Config.CheckSnapshot is not set")
	}
	if err := g.cfg.CheckSnapshot(io.LimitReader(r, size)); err != nil {
		return fmt.Errorf("consensus: restore: the snapshot is not usable: %w", err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("consensus: restore: rewind the snapshot: %w", err)
	}
	// The index is not known before raft has chosen it; the entry with no
	// commands below carries it past.
	header := snapshotHeader(magicPlain, 0)
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Size: int64(len(header)) + size}
	select {
	case g.restoring <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-g.dead:
		return ErrStopped
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-g.restoring }()
		err := g.raft.Restore(meta, io.MultiReader(bytes.NewReader(header), io.LimitReader(r, size)), 0)
		if err == nil {
			err = releasable(g.raft.Apply(g.cfg.EncodeBatch(g.proposer.stamp(), nil), 0), g.dead).Error()
			if err != nil { // the office ended after the snapshot was stored
				err = fmt.Errorf("%w (%w)", ErrUnknownOutcome, err)
			}
		} else if errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrNotLeader) {
			err = fmt.Errorf("%w (%w)", ErrUnknownOutcome, err) // the library does not say how far it came
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("consensus: restore: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("consensus: restore goes on in the background: %w", ctx.Err())
	case <-g.dead:
		return ErrStopped
	}
}
