package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Running is a chaos run on this host.
type Running struct {
	PID   int    `json:"pid"`
	Dir   string `json:"dir"`
	Start string `json:"start"` // of the process, in the kernel's ticks: PIDs come again
}

// registry is the folder where runs say that they run, one of each user.
func registry() string {
	return filepath.Join(os.TempDir(), "holdfast-chaos-"+strconv.Itoa(os.Geteuid()))
}

// Register says that this process runs, until done is called.
func Register(dir string) (done func(), err error) {
	if err := os.MkdirAll(registry(), 0o700); err != nil {
		return nil, fmt.Errorf("say that a chaos run begins: %w", err)
	}
	if err := ours(); err != nil {
		return nil, err
	}
	r := Running{PID: os.Getpid(), Dir: dir}
	if r.Start, err = startOf(r.PID); err != nil {
		return nil, err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(registry(), strconv.Itoa(r.PID))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return nil, fmt.Errorf("say that a chaos run begins: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil // a stale one is seen to be stale
}

// ours refuses a registry that somebody else has made: it says whom to signal.
func ours() error {
	info, err := os.Lstat(registry())
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a folder of this user alone: remove it", registry())
	}
	return nil
}

// startOf is when a process began, in ticks since boot.
func startOf(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	const field = 19 // starttime is the 22nd, and the third is the first after the name
	if len(f) <= field {
		return "", fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return f[field], nil
}

// Halt tells every run of this user to heal and end, and waits until they
// have. Those that were killed are forgotten.
func Halt(ctx context.Context) ([]Running, error) {
	if err := ours(); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(registry(), "[0-9]*"))
	if err != nil {
		return nil, err
	}
	var halted []Running
	for _, path := range paths {
		b, err := os.ReadFile(path)
		var r Running
		if err != nil || json.Unmarshal(b, &r) != nil {
			continue // it has just ended
		}
		if start, err := startOf(r.PID); err != nil || start != r.Start {
			_ = os.Remove(path)
			continue
		}
		if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil {
			return halted, fmt.Errorf("halt process %d: %w", r.PID, err)
		}
		halted = append(halted, r)
	}
	for _, r := range halted {
		if err := gone(ctx, r); err != nil {
			return halted, err
		}
	}
	return halted, nil
}

func gone(ctx context.Context, r Running) error {
	const every = 50 * time.Millisecond
	for {
		if start, err := startOf(r.PID); err != nil || start != r.Start {
			return nil
		}
		if pass(ctx, every); ctx.Err() != nil {
			return fmt.Errorf("process %d still heals: %w", r.PID, ctx.Err())
		}
	}
}
