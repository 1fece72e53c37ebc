package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestInvalidSpecs(t *testing.T) {
	big := strings.Repeat("x", maxStrings)
	many := func(n int, s string) []string { return slices.Repeat([]string{s}, n) }
	mount := func(source, target string) Spec {
		return Spec{Mounts: []Mount{{Source: "/ok", Target: "/ok"}, {Source: source, Target: target}}}
	}
	for _, c := range []struct {
		name, field string
		spec        Spec
	}{
		{"no ID", "ID", Spec{ID: "-none-"}},
		{"long ID", "ID", Spec{ID: strings.Repeat("a", 65)}},
		{"ID with slash", "ID", Spec{ID: "../x"}},
		{"ID with capitals", "ID", Spec{ID: "A"}},
		{"ID with newline", "ID", Spec{ID: "a\n"}},
		{"empty program", "Command", Spec{Command: []string{""}}},
		{"NUL in argument", "Command[1]", Spec{Command: []string{"true", "a\x00b"}}},
		{"many arguments", "Command", Spec{Command: many(maxCommand+1, "a")}},
		{"huge argument", "Command", Spec{Command: []string{"true", big}}},
		{"huge program", "Command[0]", Spec{Command: []string{strings.Repeat("x", maxPath)}}},
		{"NUL in environment", "Env[0]", Spec{Env: []string{"A=\x00"}}},
		{"no equals sign", "Env[0]", Spec{Env: []string{"A"}}},
		{"empty key", "Env[0]", Spec{Env: []string{"=A"}}},
		{"many variables", "Env", Spec{Env: many(maxEnv+1, "A=B")}},
		{"huge environment", "Command", Spec{Env: []string{"A=" + big}}},
		{"relative folder", "WorkDir", Spec{WorkDir: "tmp"}},
		{"unclean folder", "WorkDir", Spec{WorkDir: "/tmp/../etc"}},
		{"newline in folder", "WorkDir", Spec{WorkDir: "/tmp/\n"}},
		{"huge input", "Stdin", Spec{Stdin: make([]byte, maxStdin+1)}},
		{"relative source", "Mounts[1].Source", mount("x", "/x")},
		{"unclean source", "Mounts[1].Source", mount("/x/", "/x")},
		{"dots in source", "Mounts[1].Source", mount("/x/../y", "/x")},
		{"NUL in source", "Mounts[1].Source", mount("/x\x00", "/x")},
		{"the whole host", "Mounts[1].Source", mount("/", "/x")},
		{"root target", "Mounts[1].Target", mount("/x", "/")},
		{"tmp target", "Mounts[1].Target", mount("/x", "/tmp")},
		{"system target", "Mounts[1].Target", mount("/x", "/usr")},
		{"below a system target", "Mounts[1].Target", mount("/x", "/etc/passwd")},
		{"proc target", "Mounts[1].Target", mount("/x", "/proc/x")},
		{"device target", "Mounts[1].Target", mount("/x", "/dev/sda")},
		{"same target", "Mounts[1].Target", mount("/x", "/ok")},
		{"target below a target", "Mounts[1].Target", mount("/x", "/ok/x")},
		{"unclean target", "Mounts[1].Target", mount("/x", "/a//b")},
		{"long name in source", "Mounts[1].Source", mount("/"+strings.Repeat("x", 256), "/x")},
		{"long name in target", "Mounts[1].Target", mount("/x", "/"+strings.Repeat("x", 256))},
		{"deep target", "Mounts[1].Target", mount("/x", strings.Repeat("/x", 17))},
		{"long target", "Mounts[1].Target", mount("/x", strings.Repeat("/"+strings.Repeat("x", 200), 3))},
		{"many grants", "Mounts", Spec{Mounts: make([]Mount, maxMounts+1)}},
		{"tiny memory", "Limits.MemoryBytes", Spec{Limits: Limits{MemoryBytes: 1}}},
		{"negative memory", "Limits.MemoryBytes", Spec{Limits: Limits{MemoryBytes: -1}}},
		{"endless memory", "Limits.MemoryBytes", Spec{Limits: Limits{MemoryBytes: 1 << 60}}},
		{"tiny share", "Limits.CPUMillis", Spec{Limits: Limits{CPUMillis: 1}}},
		{"negative processes", "Limits.PIDs", Spec{Limits: Limits{PIDs: -1}}},
		{"negative time", "Limits.WallTime", Spec{Limits: Limits{WallTime: -time.Second}}},
		{"negative tmp", "Limits.TmpBytes", Spec{Limits: Limits{TmpBytes: -1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.spec.ID == "" {
				c.spec.ID = "a"
			} else if c.spec.ID == "-none-" {
				c.spec.ID = ""
			}
			if c.spec.Command == nil {
				c.spec.Command = []string{"true"}
			}
			var bad *ErrInvalidSpec
			if err := c.spec.Validate(); !errors.As(err, &bad) || bad.Field != c.field {
				t.Errorf("want a complaint about %s, got %v", c.field, err)
			}
		})
	}
	if err := (Spec{ID: "a"}).Validate(); err == nil {
		t.Error("a spec without a command is valid")
	}
}

func TestDefaults(t *testing.T) {
	s, err := Spec{ID: "a", Command: []string{"true"}}.normalize()
	if err != nil {
		t.Fatal(err)
	}
	want := Limits{MemoryBytes: 512 << 20, CPUMillis: 500, PIDs: 64, TmpBytes: 256 << 20}
	if s.Limits != want || s.WorkDir != "/tmp" {
		t.Errorf("got %+v, %s", s.Limits, s.WorkDir)
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		program string
		env     []string
		want    string
	}{
		{"/bin/sh", nil, "/bin/sh"},
		{"./x", []string{"PATH=/a"}, "./x"},
		{"sh", nil, "/usr/local/bin/sh /usr/bin/sh /bin/sh"},
		{"sh", []string{"PATH=/a::rel:/b"}, "/a/sh /b/sh"},
		{"sh", []string{"PATH="}, "/nonexistent/sh"},
	} {
		if got := strings.Join(candidates(c.program, c.env), " "); got != c.want {
			t.Errorf("%s with %v: %s, want %s", c.program, c.env, got, c.want)
		}
	}
}

// Whatever spec is valid fits into a message, and its strings come out whole.
func TestEncodeTask(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z/= ]{0,40}`)
		s := Spec{ID: "a", Command: append([]string{"p"}, rapid.SliceOfN(text, 0, 50).Draw(t, "args")...), WorkDir: "/w"}
		for i, v := range rapid.SliceOfN(text, 0, 50).Draw(t, "env") {
			s.Env = append(s.Env, fmt.Sprintf("K%d=%s", i, v))
		}
		b, err := encodeTask(s, false)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Concat([]string{"/w"}, candidates("p", s.Env), s.Command, s.Env)
		if got := strings.Split(string(b[taskHead:len(b)-1]), "\x00"); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}
