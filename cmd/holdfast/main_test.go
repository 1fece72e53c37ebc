package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/client/clienttest"
	"holdfast/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.RunIfChild()
	testscript.Main(m, map[string]func(){"holdfast": func() { os.Exit(realMain()) }})
}

// TestScripts runs testdata/*.txtar: each has a cluster of three addresses in
// this process and the real command line as a process. Its environment names
// the cluster; a script that wants none says "local" or "none".
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			s, err := clienttest.Start(3)
			if err != nil {
				return err
			}
			e.Defer(s.Close)
			e.Values["server"] = s
			e.Setenv("HOME", e.WorkDir)
			// The race detector lets every process sleep for a second at its
			// end; there are hundreds of them.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			e.Setenv("XDG_RUNTIME_DIR", filepath.Join(e.WorkDir, "run"))
			e.Setenv("HOLDFAST_ADDR", strings.Join(s.Addrs(), ","))
			e.Setenv("HOLDFAST_TOKEN", clienttest.AdminToken)
			e.Setenv("HOLDFAST_CA_PIN", s.CA.Pin())
			e.Setenv("ADDR1", s.Addrs()[0])
			e.Setenv("PIN", s.CA.Pin())
			return os.WriteFile(filepath.Join(e.WorkDir, "ca.pem"), s.CA.PEM(), 0o600)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("no such condition")
			}
			// CI must run all of it.
			return os.Geteuid() == 0 || os.Getenv("CI") == "true", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": checkCode, "examined": checkExamined, "none": noSettings, "local": localNode, "fault": injectFault,
			"mode": checkMode, "accepted": checkAccepted, "json": checkJSON, "finish": finishTask, "requested": awaitRequest, "snapshot-is": checkSnapshot,
		},
	})
}

func server(ts *testscript.TestScript) *clienttest.Server {
	return ts.Value("server").(*clienttest.Server)
}

// checkCode runs "code N command..." and wants that exit code.
func checkCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [args]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		m := regexp.MustCompile(`exit status (\d+)`).FindStringSubmatch(err.Error())
		if m == nil {
			ts.Fatalf("%v", err)
		}
		got, _ = strconv.Atoi(m[1])
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// checkExamined runs a doctor that finds the machine able, with all that is
// optional or not.
func checkExamined(ts *testscript.TestScript, _ bool, args []string) {
	if err := ts.Exec(args[0], args[1:]...); err != nil && !strings.HasSuffix(err.Error(), fmt.Sprintf("exit status %d", exitIncomplete)) {
		ts.Fatalf("%v", err)
	}
}

func noSettings(ts *testscript.TestScript, _ bool, _ []string) {
	for _, k := range []string{"HOLDFAST_ADDR", "HOLDFAST_TOKEN", "HOLDFAST_CA_PIN"} {
		ts.Setenv(k, "")
	}
}

// localNode puts the socket of a "holdfast dev" in its place.
func localNode(ts *testscript.TestScript, neg bool, args []string) {
	noSettings(ts, neg, args)
	dir := filepath.Join(ts.Getenv("XDG_RUNTIME_DIR"), "holdfast")
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(server(ts).ListenUnix(filepath.Join(dir, "dev.sock")))
}

// injectFault runs "fault STATUS TIMES [path-prefix]"; status 0 breaks the
// connection, -1 does so after the request took effect.
func injectFault(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	times, err := strconv.Atoi(args[1])
	ts.Check(err)
	f := clienttest.Fault{Status: status, Times: times}
	if status < 0 {
		f.Status, f.AfterApply = 0, true
	}
	if len(args) > 2 {
		f.Path = args[2]
	}
	server(ts).Inject(f)
}

func checkMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("mode of %s is %s, want %s", args[1], got, args[0])
	}
}

// checkAccepted wants that many tasks to have been made.
func checkAccepted(ts *testscript.TestScript, _ bool, args []string) {
	if got := strconv.Itoa(server(ts).Tasks()); got != args[0] {
		ts.Fatalf("%s tasks were made, want %s", got, args[0])
	}
}

// checkJSON wants stdout to be JSON documents: "json N".
func checkJSON(ts *testscript.TestScript, _ bool, args []string) {
	n, err := countJSON(ts.ReadFile("stdout"))
	ts.Check(err)
	if strconv.Itoa(n) != args[0] {
		ts.Fatalf("%d JSON documents, want %s", n, args[0])
	}
}

func finishTask(ts *testscript.TestScript, _ bool, args []string) {
	server(ts).Finish(args[0], 0)
}

// awaitRequest waits until the cluster was asked for a path.
func awaitRequest(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.After(30 * time.Second)
	for {
		for _, r := range server(ts).Requests() {
			if r.Path == args[0] {
				return
			}
		}
		select {
		case <-deadline:
			ts.Fatalf("nobody asked for %s", args[0])
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func checkSnapshot(ts *testscript.TestScript, _ bool, args []string) {
	if got := string(server(ts).Snapshot()); got != strings.Join(args, " ")+"\n" {
		ts.Fatalf("the cluster was restored from %q", got)
	}
}
