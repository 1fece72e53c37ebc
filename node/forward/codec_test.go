package forward

import (
	"bytes"
	"encoding/hex"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast/fsm"
)

// The frames are a wire format: nodes of two releases must understand each
// other.
func TestFramesGolden(t *testing.T) {
	req := appendRequest(nil, 7, [][]byte{[]byte("ab"), {}, []byte("c")})
	if got, want := hex.EncodeToString(req), "0000001200000000000000070000000302616200"+"0163"; got != want {
		t.Errorf("request %s, want %s", got, want)
	}
	n, cmds, err := readRequest(bytes.NewReader(req))
	if err != nil || n != 7 || !cmp.Equal(cmds, [][]byte{[]byte("ab"), {}, []byte("c")}) {
		t.Errorf("request read as %d %q, %v", n, cmds, err)
	}
	in := answer{number: 7, outcome: committed, index: 9, results: []fsm.Result{{}, {Code: fsm.CodeConflict, Detail: "d"}}}
	ans, err := appendAnswer(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(ans), "0000001900000000000000070000000000000000"+"0982a0a20103046164"; got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
	out, err := readAnswer(bytes.NewReader(ans))
	if err != nil || !cmp.Equal(in, out, cmp.AllowUnexported(answer{})) {
		t.Errorf("answer read as %+v, %v", out, err)
	}
}

func TestCutFramesAreErrors(t *testing.T) {
	req := appendRequest(nil, 1, [][]byte{[]byte("abc"), []byte("d")})
	for i := range req {
		if _, _, err := readRequest(bytes.NewReader(req[:i])); err == nil || i > 0 && err == io.EOF {
			t.Errorf("request cut at %d: %v", i, err)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(appendRequest(nil, 1, [][]byte{[]byte("abc")}))
	f.Add([]byte{0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, cmds, err := readRequest(bytes.NewReader(b)); err == nil {
			// What was understood can be written again and means the same.
			n2, again, err := readRequest(bytes.NewReader(appendRequest(nil, n, cmds)))
			if err != nil || n2 != n || len(again) != len(cmds) {
				t.Fatalf("%v: %d %q", err, n2, again)
			}
		}
		_, _ = readAnswer(bytes.NewReader(b))
	})
}
