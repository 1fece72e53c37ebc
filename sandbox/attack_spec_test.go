package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Threats by what a spec says.

// Somebody who may write beside a grant swaps the folder for a link to a secret
// all the time. Whatever a start catches, it is never the secret.
func TestAttackSwappedSource(t *testing.T) {
	needRoot(t)
	secret := hostDir(t, 0, 0o755, 0o644)
	if err := os.WriteFile(filepath.Join(secret, "file"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, r *Runtime) {
		if ran, caught := swapping(t, r, secret, 10); caught > 0 || ran == 0 {
			t.Errorf("%d of %d runs had the secret", caught, ran)
		}
	})
	// Enough tries for one that comes out like the toss of a coin.
	if ran, caught := swapping(t, testRuntime(t, ctlLinks), secret, 60); caught == 0 {
		t.Errorf("where links are followed none of %d runs had the secret: the test sees nothing", ran)
	}
}

// swapping runs tasks until so many ran, or one had the secret, while their
// grant's source is swapped. It returns how many ran and had it.
func swapping(t *testing.T, r *Runtime, secret string, runs int) (ran, caught int) {
	t.Helper()
	top := t.TempDir()
	good, link, at := filepath.Join(top, "good"), filepath.Join(top, "link"), filepath.Join(top, "at")
	for _, err := range []error{os.Mkdir(good, 0o755), os.WriteFile(good+"/file", []byte("good"), 0o644), os.Symlink(secret, link), os.Rename(good, at)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	swapped := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			_ = unix.Renameat2(unix.AT_FDCWD, at, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
		}
		swapped <- n
	}()
	for tries := 0; ran < runs && caught == 0 && tries < 100*runs; tries++ {
		s, err := r.Start(t.Context(), Spec{ID: newID(), Command: []string{"/bin/grep", "-q", "^good$", "/data/file"}, Mounts: []Mount{{Source: at, Target: "/data"}}}, Streams{})
		if err != nil {
			var bad *ErrInvalidSpec
			if !errors.As(err, &bad) {
				t.Fatal(err)
			}
			continue
		}
		ran++
		if res := s.Wait(); res.ExitCode != 0 {
			caught++
		}
	}
	cancel()
	if n := <-swapped; n == 0 {
		t.Error("nothing was swapped")
	}
	return ran, caught
}

// specAttack is a spec that must be refused for a field, and what becomes of it
// if nobody checks: another wall refuses it, or nothing is won.
type specAttack struct {
	spec  Spec
	field string
	// In the error, or the result's message, of a start without the check.
	unchecked string
}

func (a specAttack) run(t *testing.T) {
	t.Helper()
	both(t, func(t *testing.T, r *Runtime) {
		spec := a.spec
		spec.ID = newID()
		_, err := r.Start(t.Context(), spec, Streams{})
		var bad *ErrInvalidSpec
		if !errors.As(err, &bad) || bad.Field != a.field {
			t.Errorf("want a complaint about %s, got %v", a.field, err)
		}
		for _, secret := range a.spec.Command {
			if len(secret) > 1000 && err != nil && len(err.Error()) > 1000 {
				t.Error("the complaint is as long as what it complains about")
			}
		}
	})
	spec, err := withDefaults(shell("true")).normalize()
	if err != nil {
		t.Fatal(err)
	}
	spec.Command, spec.Env, spec.Mounts = a.spec.Command, a.spec.Env, a.spec.Mounts
	if a.spec.WorkDir != "" {
		spec.WorkDir = a.spec.WorkDir
	}
	var res Result
	s, err := testRuntime(t, ctlCheck).Start(t.Context(), spec, Streams{})
	if err == nil {
		res = s.Wait()
	}
	got := fmt.Sprint(res.Reason, " ", res.ExitCode, " ", res.Message, " ", err)
	if !strings.Contains(got, a.unchecked) {
		t.Errorf("unchecked want %q, got %s", a.unchecked, got)
	}
}

func TestAttackSpecNUL(t *testing.T) {
	needRoot(t)
	dir := hostDir(t, 0, 0o755, 0o644)
	for name, a := range map[string]specAttack{
		// One string would become two: the counts that come along are the second wall.
		"argument":    {Spec{Command: []string{"/bin/true", "a\x00b"}}, "Command[1]", "bad message"},
		"environment": {Spec{Command: []string{"/bin/true"}, Env: []string{"A=\x00LD_PRELOAD=/x"}}, "Env[0]", "bad message"},
		"work folder": {Spec{Command: []string{"/bin/true"}, WorkDir: "/tmp\x00/x"}, "WorkDir", "bad message"},
		"source":      {withMount(Spec{Command: []string{"/bin/true"}}, dir+"\x00/x", "/x", false), "Mounts[0].Source", "invalid argument"},
		// It is cut at the NUL, in a root of the task's own.
		"target": {withMount(Spec{Command: []string{"/bin/test", "-e", "/x"}}, dir, "/x\x00y", false), "Mounts[0].Target", "exit 0"},
	} {
		t.Run(name, a.run)
	}
}

func TestAttackSpecNewline(t *testing.T) {
	needRoot(t)
	dir := hostDir(t, 0, 0o755, 0o644)
	for name, a := range map[string]specAttack{
		"work folder": {Spec{Command: []string{"/bin/true"}, WorkDir: "/tmp/\nx"}, "WorkDir", "enter the work folder"},
		"source":      {withMount(Spec{Command: []string{"/bin/true"}}, dir+"/\nx", "/x", false), "Mounts[0].Source", "no such file"},
		"target":      {withMount(Spec{Command: []string{"/bin/test", "-e", "/\nx"}}, dir, "/\nx", false), "Mounts[0].Target", "exit 0"},
	} {
		t.Run(name, a.run)
	}
	// In arguments and variables it is nothing special, and arrives.
	o := runSpec(t, testRuntime(t, 0), Spec{Command: []string{"/bin/sh", "-c", `printf '%s|%s' "$1" "$A"`, "sh", "a\nb"}, Env: []string{"A=\n"}})
	if o.stdout != "a\nb|\n" {
		t.Errorf("%s", o)
	}
}

// Ten MiB of arguments. What does not fit into one message to an init is refused
// before one is asked for.
func TestAttackLongArguments(t *testing.T) {
	needRoot(t)
	long := strings.Repeat("x", 10<<20)
	for name, command := range map[string][]string{"one": {"/bin/true", long}, "many": append([]string{"/bin/true"}, slices.Repeat([]string{long[:10<<10]}, 1000)...)} {
		t.Run(name, specAttack{Spec{Command: command}, "Command", "at most"}.run)
	}
}

func TestAttackDuplicateTargets(t *testing.T) {
	needRoot(t)
	dir, other := hostDir(t, 0, 0o755, 0o644), hostDir(t, 1234, 0o777, 0o666)
	two := func(first, second string) Spec {
		return withMount(withMount(Spec{Command: []string{"/bin/true"}}, dir, first, false), other, second, true)
	}
	for name, a := range map[string]specAttack{
		"same":       {two("/x", "/x"), "Mounts[1].Target", "file exists"},
		"below":      {two("/x", "/x/y"), "Mounts[1].Target", "read-only file system"},
		"above":      {two("/x/y", "/x"), "Mounts[1].Target", "file exists"},
		"the system": {two("/x", "/usr/x"), "Mounts[1].Target", "read-only file system"},
		"the root":   {two("/x", "/"), "Mounts[1].Target", "file exists"},
	} {
		t.Run(name, a.run)
	}
}
