package sealed

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write golden files")

// cheap are argon2id costs that tests can afford.
func cheap() *Header { return &Header{Kind: Passphrase, Time: 1, Memory: 8, Threads: 1} }

func key(t testing.TB) Secret {
	t.Helper()
	s, err := ParseKey(NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pass(t testing.TB, s string) Secret {
	t.Helper()
	p, err := FromPassphrase(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func seal(t testing.TB, s Secret, h *Header, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := newWriter(&b, s, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(s Secret, file []byte) ([]byte, error) {
	r, err := NewReader(bytes.NewReader(file), s)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func random() *Header {
	h := &Header{Kind: RandomKey}
	h.salt[0] = 1
	return h
}

func TestRoundTrip(t *testing.T) {
	// guards P6: what reaches a disk is not in clear.
	for _, n := range []int{0, 1, ChunkBytes - 1, ChunkBytes, ChunkBytes + 1, 3 * ChunkBytes, 3*ChunkBytes + 17} {
		text := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		k := key(t)
		file := seal(t, k, random(), text)
		got, err := open(k, file)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes: %d back, %v", n, len(got), err)
		}
		if n > 16 && bytes.Contains(file, text[:16]) {
			t.Errorf("%d bytes: the text is in the file", n)
		}
	}
}

func TestAnyCutOrChangeIsFound(t *testing.T) {
	k := key(t)
	text := bytes.Repeat([]byte("x"), 2*ChunkBytes+100)
	file := seal(t, k, random(), text)
	box := ChunkBytes + tagBytes
	cuts := []int{0, 1, HeaderBytes - 1, HeaderBytes, HeaderBytes + 1, HeaderBytes + box - 1, HeaderBytes + box,
		HeaderBytes + box + 1, HeaderBytes + 2*box - 1, HeaderBytes + 2*box, HeaderBytes + 2*box + 5, len(file) - 1}
	for _, n := range cuts {
		if _, err := open(k, file[:n]); err == nil {
			t.Errorf("a file cut at %d of %d was taken", n, len(file))
		} else if n >= HeaderBytes && !errors.Is(err, ErrTruncated) {
			t.Errorf("cut at %d: %v, want truncated", n, err)
		}
	}
	for name, f := range map[string][]byte{
		"appended":       append(bytes.Clone(file), 0),
		"chunks swapped": append(append(append(bytes.Clone(file[:HeaderBytes]), file[HeaderBytes+box:HeaderBytes+2*box]...), file[HeaderBytes:HeaderBytes+box]...), file[HeaderBytes+2*box:]...),
		"chunk dropped":  append(bytes.Clone(file[:HeaderBytes]), file[HeaderBytes+box:]...),
		"chunk repeated": append(bytes.Clone(file[:HeaderBytes+box]), file[HeaderBytes:]...),
	} {
		if _, err := open(k, f); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		i := rapid.IntRange(0, len(file)-1).Draw(rt, "byte")
		bit := rapid.IntRange(0, 7).Draw(rt, "bit")
		bad := bytes.Clone(file)
		bad[i] ^= 1 << bit
		if _, err := open(k, bad); err == nil {
			rt.Fatalf("bit %d of byte %d was changed and the file taken", bit, i)
		}
	})
}

func TestWrongSecret(t *testing.T) {
	p := pass(t, "correct horse battery")
	byPass, k := seal(t, p, cheap(), []byte("hello")), key(t)
	byKey := seal(t, k, random(), []byte("hello"))
	if got, err := open(p, byPass); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := open(pass(t, "correct horse batterz"), byPass); !errors.Is(err, ErrSecret) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := open(key(t), byKey); !errors.Is(err, ErrSecret) {
		t.Errorf("wrong key: %v", err)
	}
	if _, err := open(k, byPass); !errors.Is(err, ErrKind) {
		t.Errorf("key for a passphrase: %v", err)
	}
	if _, err := FromPassphrase("short"); err == nil {
		t.Error("a short passphrase was taken")
	}
	for _, s := range []string{"", "hfkey_", "x" + NewKey(), NewKey() + "a", NewKey()[:20]} {
		if _, err := ParseKey(s); !errors.Is(err, ErrBadKey) {
			t.Errorf("key %q: %v", s, err)
		}
	}
}

func TestHostileHeaders(t *testing.T) {
	good := append(cheap().encode(), make([]byte, tagBytes)...)
	if _, err := ParseHeader(good); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func([]byte){
		"magic":       func(b []byte) { b[0] = 'X' },
		"kind":        func(b []byte) { b[8] = 9 },
		"passes":      func(b []byte) { b[9] = 1 },
		"memory":      func(b []byte) { b[13] = 0xff },
		"no threads":  func(b []byte) { b[17] = 0 },
		"reserved":    func(b []byte) { b[53] = 1 },
		"key's costs": func(b []byte) { b[8] = 2 },
	} {
		b := bytes.Clone(good)
		edit(b)
		if _, err := ParseHeader(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShippedCosts(t *testing.T) {
	var b bytes.Buffer
	if _, err := NewWriter(&b, pass(t, "correct horse battery")); err != nil {
		t.Fatal(err)
	}
	h, err := ParseHeader(b.Bytes())
	if err != nil || h.Memory < 64<<10 || h.Time < 3 {
		t.Errorf("costs %+v, %v", h, err)
	}
}

// guards P11: what one release writes, the next one reads.
func TestGolden(t *testing.T) {
	text := []byte(strings.Repeat("holdfast sealed golden text\n", 100))
	k, err := ParseKey("hfkey_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s Secret
		h *Header
	}{"key": {k, random()}, "passphrase": {pass(t, "correct horse battery"), cheap()}} {
		path := filepath.Join("testdata", name+".sealed")
		file := seal(t, c.s, c.h, text)
		if *update {
			if err := os.WriteFile(path, file, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(file, want) {
			t.Errorf("%s: the format changed", name)
		}
		if got, err := open(c.s, want); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := key(f)
	f.Add(seal(f, k, random(), []byte("hello")))
	f.Add(seal(f, k, random(), make([]byte, ChunkBytes+5)))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, in []byte) {
		if h, err := ParseHeader(in); err != nil || h.Kind != RandomKey {
			return // costs of passphrases would only slow the search
		}
		_, _ = open(k, in)
	})
}

type failing struct{ after int }

func (w *failing) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 {
		return 0, errors.New("disk full")
	}
	return len(p), nil
}

func TestWriteErrorsStick(t *testing.T) {
	w, err := newWriter(&failing{HeaderBytes + ChunkBytes}, key(t), random())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 3*ChunkBytes)); err == nil {
		t.Error("a failed write was not told")
	}
	if err := w.Close(); err == nil {
		t.Error("Close after a failed write succeeded")
	}
	if _, err := newWriter(&failing{3}, key(t), random()); err == nil {
		t.Error("a failed header was not told")
	}
}
