package client

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files")

func fullSpec() TaskSpec {
	return TaskSpec{
		Name: "n", Command: []string{"a", "b c"}, Env: map[string]string{"K": "V", "A": ""}, WorkDir: "/w", Stdin: "in", StdinBase64: []byte{0, 255},
		Mounts:    []Mount{{Source: "/s", Target: "/t", Writable: true}},
		Resources: Resources{CPUMillis: 1, MemoryBytes: 2, PIDs: 3}, Priority: new(0), Labels: map[string]string{"l": "v"},
		Constraints: []Constraint{{Key: "zone", Op: "in", Values: []string{"a"}}}, Abilities: []string{"x"}, Placement: "pack",
		Timeouts: Timeouts{Queue: Duration(time.Second), Run: Duration(90 * time.Second), Grace: Duration(time.Millisecond)},
		Retry:    Retry{Limit: 4, Backoff: Duration(time.Minute)}, OnLost: "fail", OutputLimit: 5,
	}
}

// limitsSpec has what came after the first golden file.
func limitsSpec() TaskSpec {
	return TaskSpec{
		Command: []string{"a"}, Timeouts: Timeouts{CPU: Duration(time.Second)}, OnOutputLimit: "end",
		Scratch: &Scratch{Target: "/s", Bytes: 1, Inodes: 2},
	}
}

// grantsSpec has what came after that.
func grantsSpec() TaskSpec {
	return TaskSpec{Command: []string{"a"}, Network: "none", Secrets: []Secret{{Name: "a", Value: "v"}, {Name: "b", ValueBase64: []byte{0, 255}}}}
}

// guards P11: what one release writes, the next one reads.
func TestSpecGolden(t *testing.T) {
	for name, spec := range map[string]TaskSpec{"full": fullSpec(), "limits": limitsSpec(), "grants": grantsSpec(),
		"io": {Command: []string{"a"}, Resources: Resources{IOWeight: 1, IOReadBPS: 2, IOWriteBPS: 3}}, "least": {Command: []string{"true"}}} {
		got, err := EncodeSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "spec_"+name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: encoding changed: %x, %v", name, got, err)
		}
		back, err := DecodeSpec(want)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(spec, back); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestDecodeSpecIsStrict(t *testing.T) {
	good, err := EncodeSpec(TaskSpec{Command: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	enc := func(v any) []byte {
		b, err := specEnc.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":         {},
		"cut":             good[:len(good)-1],
		"trailing":        append(bytes.Clone(good), 0),
		"unknown field":   enc(map[string]any{"command": []string{"x"}, "comand": 1}),
		"other case":      enc(map[string]any{"Command": []string{"x"}}),
		"wrong type":      enc(map[string]any{"command": "x"}),
		"duplicate key":   append(append([]byte{0xa2}, enc("name")...), append(enc("a"), append(enc("name"), enc("b")...)...)...),
		"bad duration":    enc(map[string]any{"timeouts": map[string]any{"run": "-5s"}}),
		"duration as int": enc(map[string]any{"timeouts": map[string]any{"run": 5}}),
	} {
		if s, err := DecodeSpec(b); err == nil {
			t.Errorf("%s: decoded as %+v", name, s)
		}
	}
}

func FuzzDecodeSpec(f *testing.F) {
	for _, s := range []TaskSpec{fullSpec(), {Command: []string{"true"}}} {
		b, err := EncodeSpec(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := DecodeSpec(in)
		if err != nil {
			return
		}
		b, err := EncodeSpec(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeSpec(b)
		if err != nil {
			t.Fatal(err)
		}
		// JSON is the other form of the same spec.
		j1, err1 := json.Marshal(s)
		j2, err2 := json.Marshal(again)
		if err1 != nil || err2 != nil || !bytes.Equal(j1, j2) {
			t.Fatalf("%s, %v; %s, %v", j1, err1, j2, err2)
		}
	})
}
