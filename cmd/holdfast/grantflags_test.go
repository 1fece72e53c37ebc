package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/client"
)

func TestParseScratch(t *testing.T) {
	for in, want := range map[string]*client.Scratch{
		"": nil, "64MiB": {Bytes: 64 << 20}, "/w:1KiB": {Target: "/w", Bytes: 1 << 10}, "/w:1KiB:70": {Target: "/w", Bytes: 1 << 10, Inodes: 70},
	} {
		got, err := parseScratch(in)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", in, err, diff)
		}
	}
	for _, in := range []string{"/w", "/w:", "x", "1MiB:x", "/w:1MiB:0", "/w:1MiB:1:1", ":"} {
		if got, err := parseScratch(in); err == nil {
			t.Errorf("%q is %+v", in, got)
		}
	}
}

// The exit codes of ends that are not the command's own are told apart.
func TestLimitCodes(t *testing.T) {
	for reason, want := range map[string]int{"cpu_time": 152, "output_limit": 153, "disk_limit": 153, "timeout": 124, "out_of_memory": 137, "lost": 125, "shutdown": 125} {
		task := &client.Task{State: "failed", Result: &client.TaskResult{Reason: reason}}
		if got := taskCode(task); got != want {
			t.Errorf("%s: %d, want %d", reason, got, want)
		}
		if text := ending(task); text == "" || text == reason && reason != "timeout" {
			t.Errorf("%s is described as %q", reason, text)
		}
	}
}

func TestGrantsOf(t *testing.T) {
	got := grantsOf(&client.TaskSpec{
		Mounts:  []client.Mount{{Source: "/a", Target: "/b", Writable: true}, {Source: "/c", Target: "/c"}},
		Scratch: &client.Scratch{Target: "/s", Bytes: 1 << 20, Inodes: 64}, Secrets: []client.Secret{{Name: "key"}},
		Env: map[string]string{"B": "hidden", "A": "hidden"}, Network: "none",
	})
	want := "mount /a:/b:rw; mount /c:/c:ro; scratch /s of " + size(1<<20) + ", 64 files; secret key; env A; env B; network none"
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestReadSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "k")
	if err := os.WriteFile(file, []byte{0, 1}, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readSecrets([]string{"a=" + file})
	if diff := cmp.Diff([]client.Secret{{Name: "a", ValueBase64: []byte{0, 1}}}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	large := filepath.Join(t.TempDir(), "l")
	if err := os.WriteFile(large, make([]byte, maxSecretFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"hush", "a=", "=" + file, "a=/no/such", "a=" + large, "a=/dev/null"} {
		_, err := readSecrets([]string{w})
		if err == nil || w == "hush" && strings.Contains(err.Error(), w) {
			t.Errorf("%q: %v", w, err)
		}
	}
}
