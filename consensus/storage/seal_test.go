package storage

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func sealAll(t testing.TB, data []byte, flushes ...int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := newSealWriter(&buf, fixedKey().Subkey(LabelOutputs), "t", &countingRand{})
	must(t, err)
	at := 0
	for _, f := range flushes {
		_, err := w.Write(data[at:f])
		must(t, err)
		must(t, w.Flush())
		at = f
	}
	_, err = w.Write(data[at:])
	must(t, err)
	must(t, w.Close())
	must(t, w.Close())
	if w.Flushed() != int64(len(data)) {
		t.Fatalf("flushed %d of %d", w.Flushed(), len(data))
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Fatal("written after Close")
	}
	return buf.Bytes()
}

func openAll(sealed []byte) ([]byte, error) {
	r, err := NewSealReader(bytes.NewReader(sealed), fixedKey().Subkey(LabelOutputs), "t")
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestSealedStreamSizes(t *testing.T) {
	for _, n := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 5*ChunkSize + 3} {
		data := testState(n)
		sealed := sealAll(t, data)
		got, err := openAll(sealed)
		must(t, err)
		if !bytes.Equal(got, data) {
			t.Fatalf("%d bytes differ", n)
		}
		if bytes.Contains(sealed, []byte(canary)) {
			t.Fatal("plaintext in the sealed form")
		}
		r, err := NewSealReader(bytes.NewReader(sealed), fixedKey().Subkey(LabelOutputs), "t")
		must(t, err)
		must(t, iotest.TestReader(r, data))
	}
}

func TestSealedStreamEveryFlipAndCut(t *testing.T) {
	data := testState(120)
	sealed := sealAll(t, data, 50, 100)
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1 << (i % 8)
		got, err := openAll(b)
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrTruncated) {
			t.Fatalf("flip at %d: %v", i, err)
		}
		if !bytes.HasPrefix(data, got) {
			t.Fatalf("flip at %d: unauthenticated bytes", i)
		}
		got, err = openAll(sealed[:i])
		if !errors.Is(err, ErrTruncated) || !bytes.HasPrefix(data, got) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	_, err := openAll(append(bytes.Clone(sealed), 1))
	wantErr(t, err, ErrDamaged)
	var se *StreamError
	if !errors.As(err, &se) || se.Offset != int64(len(sealed)) {
		t.Fatalf("%v", err)
	}
}

func TestSealedStreamReorderedDroppedRepeated(t *testing.T) {
	sealed := sealAll(t, testState(90), 30, 60)
	h, c := sealed[:streamHeader], chunkHead+30+tagSize
	x, y, z := sealed[streamHeader:streamHeader+c], sealed[streamHeader+c:streamHeader+2*c], sealed[streamHeader+2*c:]
	for name, parts := range map[string][][]byte{
		"swapped": {h, y, x, z}, "dropped": {h, x, z}, "repeated": {h, x, x, y, z}, "only the last": {h, z}, "last first": {h, z, x, y},
	} {
		if _, err := openAll(bytes.Join(parts, nil)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []struct {
		key   []byte
		label string
	}{{fixedKey().Subkey(labelSnapshot), "t"}, {fixedKey().Subkey(LabelOutputs), "u"}} {
		r, err := NewSealReader(bytes.NewReader(sealed), bad.key, bad.label)
		must(t, err)
		_, err = io.ReadAll(r)
		wantErr(t, err, ErrDamaged)
	}
	_, err := NewSealWriter(io.Discard, []byte("short"), "t")
	if err == nil {
		t.Fatal("a short key was taken")
	}
}

func TestSealWriterKeepsItsError(t *testing.T) {
	broken := errors.New("no space left")
	w, err := NewSealWriter(&failAfter{n: 1, err: broken}, fixedKey().Subkey(LabelOutputs), "t")
	must(t, err)
	_, err = w.Write(make([]byte, 2*ChunkSize))
	wantErr(t, err, broken)
	wantErr(t, w.Flush(), broken)
	wantErr(t, w.Close(), broken)
}

type failAfter struct {
	n   int
	err error
}

func (f *failAfter) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// Any offset of any stream, however it was cut into chunks, reads the same.
func TestFollowerAtAnyOffset(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := testState(rapid.IntRange(0, 3*ChunkSize).Draw(rt, "n"))
		var buf bytes.Buffer
		w, err := NewSealWriter(&buf, fixedKey().Subkey(LabelOutputs), "t")
		must(t, err)
		for rest := data; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "write")
			_, err := w.Write(rest[:n])
			must(t, err)
			must(t, w.Flush())
			rest = rest[n:]
		}
		finished := rapid.Bool().Draw(rt, "finished")
		want := error(ErrNotYet)
		if finished {
			must(t, w.Close())
			want = io.EOF
		}
		f := NewSealFollower(bytes.NewReader(buf.Bytes()), fixedKey().Subkey(LabelOutputs), "t")
		for range 10 {
			off := rapid.IntRange(0, len(data)+5).Draw(rt, "off")
			p := make([]byte, rapid.IntRange(1, ChunkSize).Draw(rt, "p"))
			n, err := f.ReadAt(p, int64(off))
			if off >= len(data) {
				if n != 0 || !errors.Is(err, want) {
					rt.Fatalf("behind the end: %d, %v", n, err)
				}
				continue
			}
			if err != nil || n == 0 || !bytes.Equal(p[:n], data[off:off+n]) {
				rt.Fatalf("offset %d: %d, %v", off, n, err)
			}
		}
	})
}

func TestFollowerNoticesDamage(t *testing.T) {
	sealed := sealAll(t, testState(90), 30, 60)
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1 << (i % 8)
		f := NewSealFollower(bytes.NewReader(b), fixedKey().Subkey(LabelOutputs), "t")
		var got []byte
		var err error
		for p, n := make([]byte, 100), 0; err == nil; got = append(got, p[:n]...) {
			n, err = f.ReadAt(p, int64(len(got)))
		}
		if errors.Is(err, io.EOF) || !bytes.HasPrefix(testState(90), got) {
			t.Fatalf("flip at %d: %d bytes, %v", i, len(got), err)
		}
		// A seek over damaged heads must not land on wrong bytes either.
		p := make([]byte, 100)
		if n, err := NewSealFollower(bytes.NewReader(b), fixedKey().Subkey(LabelOutputs), "t").ReadAt(p, 70); err == nil && !bytes.Equal(p[:n], testState(90)[70:70+n]) {
			t.Fatalf("flip at %d: wrong bytes at an offset", i)
		}
	}
}

// One goroutine appends to a file, several read what is flushed, to the end.
func TestFollowersWhileWriting(t *testing.T) {
	path := filepath.Join(privateDir(t), "out")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	data := testState(400_000)
	more := make(chan struct{}) // closed when the writer is done
	var wg sync.WaitGroup
	for start := range 3 {
		wg.Go(func() {
			r := NewSealFollower(f, fixedKey().Subkey(LabelOutputs), "t")
			off, p := int64(start*100_000), make([]byte, 7000)
			for {
				finished := false
				select {
				case <-more:
					finished = true
				default:
				}
				n, err := r.ReadAt(p, off)
				if errors.Is(err, io.EOF) {
					break
				}
				if errors.Is(err, ErrNotYet) {
					if finished {
						t.Error("not yet, though all is written")
						return
					}
					continue
				}
				if err != nil || !bytes.Equal(p[:n], data[off:off+int64(n)]) {
					t.Errorf("offset %d: %v", off, err)
					return
				}
				off += int64(n)
			}
			if off != int64(len(data)) {
				t.Errorf("ended at %d", off)
			}
		})
	}
	w, err := NewSealWriter(f, fixedKey().Subkey(LabelOutputs), "t")
	must(t, err)
	for i := 0; i < len(data); i += 1000 {
		_, err := w.Write(data[i : i+1000])
		must(t, err)
		must(t, w.Flush())
	}
	must(t, w.Close())
	close(more)
	wg.Wait()
}

func FuzzSealedStream(f *testing.F) {
	f.Add(sealAll(f, testState(90), 30, 60))
	f.Add([]byte(streamMagic))
	good := testState(90)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _ := openAll(b); !bytes.HasPrefix(good, got) {
			t.Fatal("unauthenticated bytes")
		}
		_, _ = NewSealFollower(bytes.NewReader(b), fixedKey().Subkey(LabelOutputs), "t").ReadAt(make([]byte, 10), 20)
	})
}
