package node

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"holdfast/node/audit"
	"holdfast/sandbox"
)

// A node that runs weaker tells it at its start, in the log and in the audit
// log, and to the cluster.
// guards P7, P8
func TestWeakerIsTold(t *testing.T) {
	dir := t.TempDir()
	records, err := audit.Open(audit.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	n := &Node{id: "n1", audit: records, log: hclog.New(&hclog.LoggerOptions{Output: &log}), weaker: []string{"landlock", "time_namespace"}}
	n.tellWeaker()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := records.Close(ctx); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	var text []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
	}
	for _, wall := range n.weaker {
		if want := `"action":"sandbox.weaker","target":"` + wall + `"`; !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
		if !strings.Contains(log.String(), "[WARN]") || !strings.Contains(log.String(), "missing="+wall) {
			t.Errorf("%s is not in %s", wall, log.String())
		}
	}
	if d := n.description(); !slices.Equal(d.Weaker, n.weaker) {
		t.Errorf("registers %v", d.Weaker)
	}
}

func TestWeakerIsInTheResult(t *testing.T) {
	if x := exitOf(sandbox.Result{Reason: sandbox.EndExit, Weaker: []string{"landlock"}}); !slices.Equal(x.Weaker, []string{"landlock"}) {
		t.Errorf("%+v", x)
	}
}

// What nobody may do without is refused at once, and the error lists the rest.
func TestAllowMissing(t *testing.T) {
	c := Defaults()
	err := c.FromEnv(func(k string) (string, bool) { return "landlock,time_namespace", k == "HOLDFAST_SANDBOX_ALLOW_MISSING" })
	if err != nil || c.Validate() != nil || !slices.Equal(c.Sandbox.AllowMissing, []string{"landlock", "time_namespace"}) {
		t.Errorf("%v %v %v", c.Sandbox, err, c.Validate())
	}
	for _, name := range []string{"seccomp", "user_namespace", "cgroup_memory", "landlok"} {
		c.Sandbox.AllowMissing = []string{"landlock", name}
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), "sandbox.allow_missing") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, allowed := range sandbox.Weakenable() {
			if !strings.Contains(err.Error(), allowed) {
				t.Errorf("%s: %v does not list %s", name, err, allowed)
			}
		}
	}
}
