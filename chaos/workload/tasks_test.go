package workload

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/history"
)

// attempt runs a task's script as its worker would, but for the sandbox, and
// returns its exit code, output, and what it wrote to the ledger.
func attempt(t *testing.T, l *Ledger, kind string) (int, string, []history.Event) {
	t.Helper()
	spec, _ := l.task(kind, "c-1-1", "")
	script := strings.ReplaceAll(spec.Command[2], "/ledger/", l.dir+"/")
	start := time.Now()
	// Ticks are of no interest here.
	script = strings.NewReplacer("-lt 40 ", "-lt 2 ", "-lt 400 ", "-lt 2 ").Replace(script)
	out, err := exec.Command("/bin/sh", "-c", script).CombinedOutput()
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(l.dir, "effects"))
	if err != nil {
		t.Fatal(err)
	}
	var effects []history.Event
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		e, err := history.ParseEffect(line, int64(i+1), start)
		if err != nil {
			t.Fatal(err)
		}
		if e.At < -int64(time.Minute) || e.At > int64(time.Minute) {
			t.Errorf("line %d is %v from now", i+1, time.Duration(e.At))
		}
		effects = append(effects, e)
	}
	return code, string(out), effects
}

func TestTasksDoWhatTheirRulesSay(t *testing.T) {
	for _, kind := range Kinds {
		if kind == "cheap" {
			continue // it never runs
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l, err := NewLedger(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			spec, rules := l.task(kind, "c-1-1", "")
			if spec.Name != "c-1-1" || !rules.Effects || rules.RetryLimit != spec.Retry.Limit || len(spec.Mounts) != 1 {
				t.Errorf("spec %+v and rules %+v do not go together", spec, rules)
			}
			seen := map[string]bool{}
			for n := range 3 {
				code, out, effects := attempt(t, l, kind)
				last := effects[len(effects)-1]
				me := token(out)
				if me == "" || seen[me] || last.Effect.Token != me || last.Key != "c-1-1" {
					t.Fatalf("attempt %d says %q, the ledger %+v", n+1, out, last.Effect)
				}
				seen[me] = true
				fails := n < rules.Fails
				if fails != (code == 3) || !fails && code != 0 {
					t.Errorf("attempt %d ends with %d, but %d fail", n+1, code, rules.Fails)
				}
				if want := map[bool]history.Step{true: history.Begin, false: history.End}[fails]; last.Effect.Step != want {
					t.Errorf("attempt %d: the last effect is %q", n+1, last.Effect.Step)
				}
			}
		})
	}
}

// A task that cannot write to the ledger must not succeed.
func TestNoLedgerNoSuccess(t *testing.T) {
	l := &Ledger{dir: filepath.Join(t.TempDir(), "gone")}
	spec, _ := l.task("effect", "c-1-1", "")
	err := exec.Command("/bin/sh", "-c", strings.ReplaceAll(spec.Command[2], "/ledger/", l.dir+"/")).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() == 0 {
		t.Errorf("it ended with %v", err)
	}
}

func TestToken(t *testing.T) {
	for tail, want := range map[string]string{"": "", "x\n": "", "a\ntoken=u-1\n": "u-1", "token=u-1": "u-1"} {
		if got := token(tail); got != want {
			t.Errorf("%q gives %q, want %q", tail, got, want)
		}
	}
}
