package main

import (
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
