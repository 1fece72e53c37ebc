package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// screen is what a command has printed so far.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// The first minute of a new user: start it, paste the line that it prints.
func TestDevPrintsALineThatWorks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ctx := bounded(t)
	home := scratch(t)
	env := append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "XDG_DATA_HOME=", "XDG_RUNTIME_DIR=", "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"))

	for range 2 { // the second time it finds its data
		var out screen
		dev := exec.CommandContext(ctx, "holdfast", "dev")
		dev.Path, dev.Err = program, nil
		dev.Env, dev.Dir = env, home
		dev.Stdout, dev.Stderr = &out, &out
		dev.WaitDelay = time.Second
		dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := dev.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- dev.Wait() }()
		t.Cleanup(func() { _ = dev.Process.Kill() })

		var line string
		until(t, ctx, "the line to paste", func(context.Context) error {
			for l := range strings.Lines(out.String()) {
				if l = strings.TrimSpace(l); strings.HasPrefix(l, "holdfast run") {
					line = l
					return nil
				}
			}
			return fmt.Errorf("the screen shows %q", out.String())
		})
		sh := exec.CommandContext(ctx, "/bin/sh", "-c", line)
		sh.Env, sh.Dir = env, home
		var stdout, stderr bytes.Buffer
		sh.Stdout, sh.Stderr = &stdout, &stderr
		if err := sh.Run(); err != nil || stdout.String() != "hello\n" {
			t.Errorf("%q: %v\n%s%s", line, err, stdout.String(), stderr.String())
		}

		if err := dev.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("after Ctrl-C: %v\n%s", err, out.String())
			}
		case <-ctx.Done():
			t.Fatalf("it did not end after Ctrl-C\n%s", out.String())
		}
		if at := neverLogged.FindString(out.String()); at != "" {
			t.Error(out.String())
		}
	}
}
