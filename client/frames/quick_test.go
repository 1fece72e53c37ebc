package frames

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// guards P11: the bytes are those of the library, whose golden files they are.
func TestAppendRequestWritesWhatAppendWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := Request{
			Number: rapid.Uint64().Draw(t, "number"), Method: Method(rapid.Byte().Draw(t, "method")),
			Key: rapid.StringN(0, 300, 70_000).Draw(t, "key"),
		}
		for range rapid.IntRange(0, 30).Draw(t, "specs") {
			spec, err := cbor.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "spec"))
			if err != nil {
				t.Fatal(err)
			}
			r.Specs = append(r.Specs, spec)
		}
		want, err := Append([]byte("before"), &r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := AppendRequest([]byte("before"), &r)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x, %v, want %x", got, err, want)
		}
	})
}

func TestAppendRequestRefuses(t *testing.T) {
	large, err := cbor.Marshal(strings.Repeat("x", MaxFrame))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		spec cbor.RawMessage
		want error
	}{
		// One caller's mistake must not end the session of the others.
		{"half a map", cbor.RawMessage{0xa1, 0x01}, ErrMessage},
		{"nothing", nil, ErrMessage},
		{"two items", cbor.RawMessage{0xa0, 0xa0}, ErrMessage},
		{"too large", large, ErrTooLarge},
	} {
		b, err := AppendRequest([]byte("kept"), &Request{Specs: []cbor.RawMessage{tt.spec}})
		if !errors.Is(err, tt.want) || string(b) != "kept" {
			t.Errorf("%s: %d bytes, %v", tt.name, len(b), err)
		}
	}
}

func TestNextAnswerReadsWhatNextReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Answer{
			Number: rapid.Uint64().Draw(t, "number"), Code: Code(rapid.Byte().Draw(t, "code")), First: rapid.Uint64().Draw(t, "first"),
			Count: rapid.Uint32().Draw(t, "count"), Index: rapid.Uint64().Draw(t, "index"), Detail: rapid.String().Draw(t, "detail"),
			RetryAfterMS: rapid.Uint32().Draw(t, "retry"),
		}
		b, err := Append(nil, &want)
		if err != nil {
			t.Fatal(err)
		}
		got := Answer{Detail: "of the one before"}
		if err := NewReader(bytes.NewReader(b)).NextAnswer(&got); err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
		if quick := (Answer{}); !quick.scan(b[headerBytes:]) {
			t.Fatal("a usual answer was left to the library")
		}
	})
}

// Whatever comes, both ways say the same.
func FuzzNextAnswer(f *testing.F) {
	for _, m := range messages {
		b, err := Append(nil, m.msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x00\x00\x00\x05\xa1\x18\x63\x01\x00")) // a key of a later release
	f.Add([]byte("\x00\x00\x00\x05\xa2\x01\x01\x01\x02")) // a key twice
	f.Add([]byte("\x00\x00\x00\x04\xa1\x01\x18\x05"))     // not in its shortest form
	f.Fuzz(func(t *testing.T, in []byte) {
		var a, b Answer
		aerr := NewReader(bytes.NewReader(in)).NextAnswer(&a)
		berr := NewReader(bytes.NewReader(in)).Next(&b)
		if (aerr == nil) != (berr == nil) {
			t.Fatalf("by hand %v, by the library %v", aerr, berr)
		}
		if d := cmp.Diff(b, a); aerr == nil && d != "" {
			t.Fatal(d)
		}
	})
}
