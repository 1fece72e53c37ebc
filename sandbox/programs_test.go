package sandbox

import (
	"embed"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program is a task of the kind that people run.
type program struct {
	name   string
	needs  []string // files without which it is not tried
	script string   // of sh, in /tmp, with testdata/programs at /src
	want   string   // on stdout
	limits Limits
}

var large = Limits{MemoryBytes: 2 << 30, TmpBytes: 1 << 30, PIDs: 256, CPUMillis: 2000}

var programs = []program{
	{name: "sh", script: "sh /src/all.sh", want: "b\nthrough\n0022\nbye\n"},
	{name: "bash", needs: []string{"/usr/bin/bash"}, script: "bash /src/all.bash 2>/dev/null", want: "3\nhi\nclosed\n"},
	{name: "coreutils", script: "sh /src/files.sh", want: "640\n0\nhol5\n./t\n"},
	{name: "tar", needs: []string{"/usr/bin/tar", "/usr/bin/gzip"},
		script: "tar czf a.tgz -C / src && tar xzf a.tgz && cmp src/text /src/text && gzip -t a.tgz && echo same", want: "same\n"},
	{name: "python3", needs: []string{"/usr/bin/python3"}, script: "/usr/bin/python3 /src/all.py",
		want: "42 [1, 4, 9] threads 8 tcp hello sqlite 3 mmap ok lock True\n"},
	{name: "perl", needs: []string{"/usr/bin/perl"}, script: "perl /src/all.pl", want: "3 1,4,9\n"},
	{name: "node", needs: []string{"/usr/bin/node"}, script: "node /src/all.js",
		want: "file true worker 7 child 5 http pong\n", limits: large},
	{name: "gcc", needs: []string{"/usr/bin/gcc"}, script: "gcc -O1 -pthread -o x /src/x.c && ./x", want: "threads 6\n"},
	{name: "git", needs: []string{"/usr/bin/git"}, script: "sh /src/git.sh", want: "one\npulled\n"},
	{name: "go", needs: []string{goProgram}, limits: large,
		script: "cp -r /src/hello /src/cache . && cd hello && HOME=/tmp GOCACHE=/tmp/cache " + goBuild + " -o /tmp/out . && /tmp/out 2>&1", want: "hello 1\n"},
	{name: "java", needs: []string{"/usr/bin/java", "/usr/bin/javac"}, script: "java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC /src/Hello.java 2>&1", want: "sum 8 digest 32\n", limits: large},
}

const (
	goProgram = "/usr/local/go/bin/go"
	goBuild   = "CGO_ENABLED=0 GOTOOLCHAIN=local GOTELEMETRY=off GOFLAGS= " + goProgram + " build"
)

// prepareGo makes the module of the Go program, and compiles the library before:
// inside, that would be most of the test's time.
func prepareGo(t *testing.T, src string) {
	t.Helper()
	if _, err := os.Stat(goProgram); err != nil {
		return
	}
	build := exec.Command("/bin/sh", "-c", "cd hello && mv go.mod.txt go.mod && mv main.go.txt main.go && GOCACHE=$PWD/../cache "+goBuild+" -o /dev/null .")
	build.Dir = src
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build on the host: %v: %s", err, out)
	}
}

//go:embed testdata/programs
var programFiles embed.FS

// A filter that breaks what people run protects nothing: they would switch it
// off. Every program says the same with the filter, cold and warm, as without.
func TestProgramsWork(t *testing.T) {
	needRoot(t)
	src := t.TempDir()
	files, err := fs.Sub(programFiles, "testdata/programs")
	if err == nil {
		err = os.CopyFS(src, files)
	}
	if err == nil {
		err = os.Chmod(src, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	prepareGo(t, src)
	names := []string{"cold", "warm", "without filter"}
	runtimes := []*Runtime{testRuntime(t, 0), poolRuntime(t, 0, 1), testRuntime(t, ctlSeccomp)}
	tried := 0
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			if missing := p.missing(); missing != "" {
				t.Logf("not tried: this machine has no %s that a sandbox sees", missing)
				return
			}
			tried++
			for i, r := range runtimes {
				spec := withMount(shell("cd /tmp && "+p.script), src, "/src", false)
				spec.Limits = p.limits
				spec.Limits.WallTime = 50 * time.Second
				if spec.Limits.CPUMillis == 0 {
					spec.Limits.CPUMillis = 1000
				}
				if o := runSpec(t, r, spec); o.stdout != p.want {
					t.Errorf("%s: want %q: %s", names[i], p.want, o)
				}
			}
		})
	}
	if tried < 3 {
		t.Errorf("only %d kinds of programs are here to try", tried)
	}
}

// missing names what is not in the folders that a sandbox shows.
func (p program) missing() string {
	for _, name := range p.needs {
		at, err := exec.LookPath(name)
		if err == nil {
			at, err = filepath.EvalSymlinks(at)
		}
		if err != nil || !strings.HasPrefix(at, "/usr/") {
			return name
		}
	}
	return ""
}
