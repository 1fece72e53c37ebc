package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/fsm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// examples holds every message with every field set.
func examples() map[string]any {
	key := Key{Task: 1042, Attempt: 3}
	result := fsm.AttemptResult{Reason: fsm.EndExit, ExitCode: 7, Message: "m", CPUTime: time.Second, MemoryPeakBytes: 1 << 20,
		WallTime: 2 * time.Second, Tail: []byte("tail"), StdoutBytes: 4, StderrBytes: 5, Truncated: true}
	return map[string]any{
		"hello": &Hello{Version: 1, Node: "node-a", Incarnation: 9, Attempts: []Key{key}},
		"welcome": &Welcome{Version: 1, Term: 12, Lease: 3 * time.Second,
			Superseded: []Revocation{{Key: key, Grace: true}}},
		"refuse":   &Refuse{Code: RefuseRegister, Detail: "lost"},
		"renew":    &Renew{Seq: 77},
		"renewed":  &Renewed{Seq: 77},
		"assign":   &Assign{Items: []Assignment{{Key: key, Spec: []byte{0xa0}}}},
		"revoke":   &Revoke{Items: []Revocation{{Key: key, Grace: true}, {Key: Key{Task: 1, Attempt: 1}}}},
		"report":   &Report{Seq: 5, Reports: []fsm.AttemptReport{{Task: 1042, Attempt: 3, Result: result}}},
		"reported": &Reported{Seq: 5, Retry: true},
	}
}

// guards P11: what one release writes, the next one reads.
func TestGolden(t *testing.T) {
	for name, message := range examples() {
		t.Run(name, func(t *testing.T) {
			frame, err := Append(nil, message)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".hex")
			if *update {
				if err := os.WriteFile(path, []byte(hex.EncodeToString(frame)+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			golden, err := hex.DecodeString(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(frame, golden) {
				t.Errorf("the encoding changed:\n got %x\nwant %x", frame, golden)
			}
			got, err := NewReader(bytes.NewReader(golden)).Next()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(message, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	valid, err := Append(nil, &Renew{Seq: 1})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		in   []byte
		want string
	}{
		"header cut short": {valid[:3], "header cut short"},
		"body cut short":   {valid[:len(valid)-1], "body cut short"},
		"too large":        {[]byte{0xff, 0xff, 0xff, 0xff, 1}, "the limit is"},
		"empty":            {[]byte{0, 0, 0, 0, 1}, "the limit is"},
		"unknown kind":     {[]byte{0, 0, 0, 1, 200}, "unknown kind 200"},
		"not CBOR":         {[]byte{0, 0, 0, 2, byte(KindRenew), 0xff}, "Renew"},
		"duplicate key":    {[]byte{0, 0, 0, 6, byte(KindRenew), 0xa2, 1, 1, 1, 2}, "duplicate"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := NewReader(bytes.NewReader(c.in)).Next()
			if !errors.Is(err, ErrFrame) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want ErrFrame with %q", err, c.want)
			}
			if errors.Is(err, io.EOF) {
				t.Error("a broken frame must not look like a clean end")
			}
		})
	}
	if _, err := NewReader(bytes.NewReader(nil)).Next(); err != io.EOF {
		t.Errorf("clean end: error %v, want io.EOF", err)
	}
}

// guards P11: a later release may add keys.
func TestReaderIgnoresUnknownKeys(t *testing.T) {
	in := []byte{0, 0, 0, 7, byte(KindRenew), 0xa2, 1, 5, 0x18, 99, 0xf5}
	got, err := NewReader(bytes.NewReader(in)).Next()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Renew{Seq: 5}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAppendRefuses(t *testing.T) {
	if _, err := Append(nil, Renew{}); err == nil {
		t.Error("a message by value was taken")
	}
	if _, err := Append(nil, &Assign{Items: []Assignment{{Spec: make([]byte, MaxFrameBytes)}}}); err == nil {
		t.Error("a frame over the limit was taken")
	}
}

func FuzzReader(f *testing.F) {
	for _, message := range examples() {
		frame, err := Append(nil, message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		reader := NewReader(bytes.NewReader(in))
		for {
			message, err := reader.Next()
			if err != nil {
				return
			}
			frame, err := Append(nil, message)
			if err != nil {
				t.Fatalf("read but cannot be written: %v", err)
			}
			again, err := NewReader(bytes.NewReader(frame)).Next()
			if err != nil {
				t.Fatalf("written but cannot be read: %v", err)
			}
			second, err := Append(nil, again)
			if err != nil || !bytes.Equal(frame, second) {
				t.Fatalf("the encoding is not stable: %x, %x, %v", frame, second, err)
			}
		}
	})
}
