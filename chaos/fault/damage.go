package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"holdfast/client"
)

// damage changes or takes a dead node's files and starts it. It must not serve
// under its old name as if nothing had happened: what it can no longer prove
// it must refuse, and a new node takes its place.
func damage(s *Strike) actions {
	n := s.Targets[0]
	harm := map[string]func(dir string) (string, error){
		"flip-byte":       flipLastEntry,
		"truncate":        truncateLog,
		"lose-log":        func(dir string) (string, error) { return "its log", removeAll(dir, "log.*") },
		"lose-folder":     func(dir string) (string, error) { return "everything", removeAll(dir, "*") },
		"damage-snapshot": flipSnapshot,
	}[s.Step.Fault]
	var what string
	refused := false
	return actions{
		owns: true,
		ready: func() error {
			if s.Step.Fault != "damage-snapshot" {
				return nil
			}
			_, err := newestSnapshot(n.Dir)
			return err
		},
		inject: func(ctx context.Context) error {
			if err := s.settle(ctx, n); err != nil {
				return err
			}
			var err error
			what, err = harm(n.Dir)
			return err
		},
		bit: func(ctx context.Context) (string, error) {
			if err := s.lab.cluster.StartNode(n.Node); err != nil {
				return "", err
			}
			select {
			case <-n.Ended():
				refused = true
				return fmt.Sprintf("%s lost %s and refused to start: %s", n.Name, what, lastLines(n.Log(), 2)), nil
			case <-s.votesAgain(ctx, n):
				if s.Step.Fault == "damage-snapshot" { // another one and the log are enough
					return fmt.Sprintf("a bit of %s flipped, and %s did without", what, n.Name), nil
				}
				return "", &Violation{fmt.Sprintf("%s lost %s and serves under its old identity", n.Name, what)}
			case <-ctx.Done():
				return "", fmt.Errorf("%s neither refused nor served: %w", n.Name, ctx.Err())
			}
		},
		heal: func(ctx context.Context) error {
			if refused || what != "" && !n.Alive() {
				return s.substitute(ctx, n)
			}
			return s.revive(ctx)
		},
		healed: func(ctx context.Context) (string, error) { return s.complete(ctx) },
	}
}

// settle ends the node. Where its newest entry is to be damaged it must be known
// where that lies: a polite end moves all that is elsewhere to the database.
func (s *Strike) settle(ctx context.Context, n *Node) error {
	if s.Step.Fault != "flip-byte" && s.Step.Fault != "truncate" {
		return n.Kill()
	}
	if err := quick(n, syscall.SIGTERM); err != nil {
		return err
	}
	return s.ended(ctx, n)
}

// votesAgain is closed once a node serves.
func (s *Strike) votesAgain(ctx context.Context, n *Node) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		err := until(ctx, n.Name, func() error {
			st, err := n.Status(ctx)
			if err == nil && st.Leader == "" {
				err = errors.New("no leader")
			}
			if err != nil && !n.Alive() {
				return &Violation{} // it has ended: enough
			}
			return err
		})
		if err == nil {
			close(out)
		}
	}()
	return out
}

// substitute removes a node from the cluster for good, and adds a new one.
func (s *Strike) substitute(ctx context.Context, n *Node) error {
	if err := s.drop(ctx, n); err != nil {
		return err
	}
	_, err := s.lab.grow(ctx, n)
	return err
}

// drop ends a node for good.
func (s *Strike) drop(ctx context.Context, n *Node) error {
	if err := s.lab.retire(n); err != nil {
		return err
	}
	return s.lab.admin(ctx, "the removal of "+n.Name, func(ctx context.Context, cl *client.Client) error {
		err := cl.RemoveNode(ctx, n.ID)
		if client.IsNotFound(err) || removed(ctx, cl, n) {
			return nil
		}
		return err
	})
}

func removed(ctx context.Context, cl *client.Client, n *Node) bool {
	info, err := cl.Node(ctx, n.ID)
	return err == nil && info.State == "removed"
}

// complete waits until every node of the lab serves and as many vote as there
// should be.
func (s *Strike) complete(ctx context.Context) (string, error) {
	begun := time.Now()
	for _, n := range s.lab.Nodes() {
		if s.lab.Owned(n) && !slices.Contains(s.Targets, n) {
			continue // down by another fault
		}
		if err := s.recovers(ctx, n); err != nil {
			return "", err
		}
	}
	err := until(ctx, "the voters", func() error { return s.lab.voting(ctx) })
	return fmt.Sprintf("all serve and vote after %s", time.Since(begun).Round(time.Millisecond)), err
}

// voting is nil once every node that answers says that as many vote as there
// should be. The leader's word alone would not do: it knows of a promotion
// before it is committed, and may take that knowledge with it.
func (l *Lab) voting(ctx context.Context) error {
	nodes := l.Nodes()
	want := (min(len(nodes), mostVoters)+1)/2*2 - 1 // an odd number
	for n, says := range l.Look(ctx).Says {
		have := 0
		for _, m := range says.Members {
			known := slices.ContainsFunc(nodes, func(n *Node) bool { return n.ID == m.ID })
			if known && (m.Role == "voter" || m.Role == "leader") {
				have++
			}
		}
		if have < want {
			return fmt.Errorf("%s says that %d vote, not %d", n.Name, have, want)
		}
	}
	return nil
}

// mostVoters is autopilot's bound as it is shipped.
const mostVoters = 5

func removeAll(dir, pattern string) error {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("nothing to remove in %s: %w", dir, err)
	}
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

// newestEntry finds the newest entry in the file of a log, below the database:
// every place that has it, and its length. Older pages may still have it.
func newestEntry(path string) (places []int64, length int64, err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, 0, err
	}
	var value []byte
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("logs"))
		if b == nil {
			return errors.New("it has no log")
		}
		_, v := b.Cursor().Last()
		value = slices.Clone(v)
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, 0, err
	}
	if len(value) == 0 {
		return nil, 0, errors.New("its log is empty")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	for at := 0; ; {
		i := bytes.Index(whole[at:], value)
		if i < 0 {
			break
		}
		places = append(places, int64(at+i))
		at += i + len(value)
	}
	if len(places) == 0 {
		return nil, 0, errors.New("the newest entry is not in the file as it is read")
	}
	return places, int64(len(value)), nil
}

// flipLastEntry flips a bit of the newest entry.
func flipLastEntry(dir string) (string, error) {
	path := filepath.Join(dir, "log.db")
	places, length, err := newestEntry(path)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for _, at := range places {
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, at+length/2); err != nil {
			return "", err
		}
		b[0] ^= 0x10
		if _, err := f.WriteAt(b, at+length/2); err != nil {
			return "", err
		}
	}
	return "a bit of its newest entry", f.Sync()
}

// truncateLog cuts the file where its newest entry begins.
func truncateLog(dir string) (string, error) {
	path := filepath.Join(dir, "log.db")
	places, _, err := newestEntry(path)
	if err != nil {
		return "", err
	}
	return "the end of its log", os.Truncate(path, places[0])
}

// newestSnapshot is the state file of the newest snapshot.
func newestSnapshot(dir string) (string, error) {
	var newest string
	var when time.Time
	err := filepath.WalkDir(filepath.Join(dir, "snapshots"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() != "state" || strings.Contains(p, ".tmp") {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(when) {
			newest, when = p, info.ModTime()
		}
		return err
	})
	if err == nil && newest == "" {
		err = fmt.Errorf("%w: %s has no snapshot yet", ErrBusy, dir)
	}
	return newest, err
}

func flipSnapshot(dir string) (string, error) {
	path, err := newestSnapshot(dir)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	b[len(b)/2] ^= 0x10
	return "its newest snapshot", os.WriteFile(path, b, 0o600)
}
