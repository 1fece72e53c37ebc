package frames

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files")

// messages are one of each kind, in the order of their golden files.
var messages = []struct {
	name string
	msg  any
	zero func() any
}{
	{"hello", &Hello{Version: 1, Token: "hf_k1_secret", UserAgent: "test/1"}, func() any { return &Hello{} }},
	{"welcome", &Welcome{InFlight: 4096, Index: 77}, func() any { return &Welcome{} }},
	{"welcome_refused", &Welcome{Code: Unauthenticated, Detail: "unknown token"}, func() any { return &Welcome{} }},
	{"request", &Request{Number: 9, Method: Submit, Key: "abc#1", Specs: []cbor.RawMessage{{0xa0}, {0xa1, 0x01, 0x02}}}, func() any { return &Request{} }},
	{"answer", &Answer{Number: 9, First: 1042, Count: 2, Index: 78}, func() any { return &Answer{} }},
	{"answer_refused", &Answer{Number: 10, Code: QueueFull, Detail: "full", RetryAfterMS: 1500}, func() any { return &Answer{} }},
}

// guards P11: what one release writes, the next one reads.
func TestGolden(t *testing.T) {
	for _, m := range messages {
		t.Run(m.name, func(t *testing.T) {
			got, err := Append(nil, m.msg)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", m.name+".hex")
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
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("frame %x, golden %x", got, want)
			}
			back := m.zero()
			if err := NewReader(iotest.OneByteReader(bytes.NewReader(want))).Next(back); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m.msg, back); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	frame := func(n uint32, body string) string {
		return string(binary.BigEndian.AppendUint32(nil, n)) + body
	}
	tests := []struct {
		name, in string
		want     error
	}{
		{"nothing", "", io.EOF},
		{"half a length", "\x00\x00", io.ErrUnexpectedEOF},
		{"half a message", frame(5, "\xa1"), io.ErrUnexpectedEOF},
		{"a huge length", frame(1<<31, "x"), ErrTooLarge},
		{"one byte too many", frame(MaxFrame+1, ""), ErrTooLarge},
		{"duplicate key", frame(5, "\xa2\x01\x01\x01\x02"), ErrMessage},
		{"trailing bytes", frame(4, "\xa1\x01\x01\x00"), ErrMessage},
		{"wrong type", frame(3, "\xa1\x01\x60"), ErrMessage},
		{"no map", frame(1, "\x01"), ErrMessage},
		{"indefinite length", frame(5, "\xbf\x01\x01\xff\x00"), ErrMessage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := NewReader(strings.NewReader(tt.in)).Next(&Answer{}); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAppendRefusesTooLarge(t *testing.T) {
	b, err := Append([]byte("kept"), &Answer{Detail: strings.Repeat("x", MaxFrame)})
	if !errors.Is(err, ErrTooLarge) || string(b) != "kept" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestUnknownKeysAreIgnored(t *testing.T) {
	b, err := Append(nil, map[int]any{1: 5, 2: 0, 99: "from a later release"})
	if err != nil {
		t.Fatal(err)
	}
	var a Answer
	if err := NewReader(bytes.NewReader(b)).Next(&a); err != nil || a.Number != 5 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestCodes(t *testing.T) {
	for c := OK + 1; int(c) < len(codes); c++ {
		name, status := c.Problem()
		if CodeOf(name) != c || status < 400 || name == "" {
			t.Errorf("code %d: %q, %d, back %d", c, name, status, CodeOf(name))
		}
	}
	if n, s := Code(200).Problem(); n != "internal" || s != 500 {
		t.Errorf("an unknown code is %s, %d", n, s)
	}
	if CodeOf("no such problem") != Internal || CodeOf("") != Internal {
		t.Error("an unknown problem must be internal")
	}
}

func FuzzReader(f *testing.F) {
	for _, m := range messages {
		b, err := Append(nil, m.msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		var req Request
		for r.Next(&req) == nil {
			b, err := Append(nil, &req)
			if err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			var again Request
			if err := NewReader(bytes.NewReader(b)).Next(&again); err != nil {
				t.Fatalf("what was written cannot be read: %v", err)
			}
			req = Request{}
		}
	})
}
