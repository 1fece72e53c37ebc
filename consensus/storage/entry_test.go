package storage

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/s2"
	"pgregory.net/rapid"
)

func genLog(t *rapid.T) *raft.Log {
	l := &raft.Log{
		Index: rapid.Uint64().Draw(t, "index"), Term: rapid.Uint64().Draw(t, "term"),
		Type:       raft.LogType(rapid.Byte().Draw(t, "type")),
		Data:       rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "data"),
		Extensions: rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "ext"),
	}
	if rapid.Bool().Draw(t, "compressible") {
		l.Data = bytes.Repeat(append(l.Data, 'x'), rapid.IntRange(1, 400).Draw(t, "times"))
	}
	if rapid.Bool().Draw(t, "timed") {
		l.AppendedAt = time.Unix(rapid.Int64Range(-1e12, 1e12).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	}
	return l
}

func testCodec() *codec { return newCodec(fixedKey().Subkey(labelLog), [16]byte{9}, &countingRand{}) }

func TestEntryRoundTripAndEveryFlip(t *testing.T) {
	c := newCodec(fixedKey().Subkey(labelLog), [16]byte{9}, &countingRand{})
	rapid.Check(t, func(t *rapid.T) {
		l := genLog(t)
		sealed, err := c.seal(make([]byte, 0, sealedSize(l)), l)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > sealedSize(l) {
			t.Fatalf("%d bytes, promised at most %d", len(sealed), sealedSize(l))
		}
		got := raft.Log{Index: l.Index, Term: l.Term, Type: l.Type}
		if err := c.open(bytes.Clone(sealed), &got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Data, l.Data) || !bytes.Equal(got.Extensions, l.Extensions) || !got.AppendedAt.Equal(l.AppendedAt) {
			t.Fatalf("got %+v, want %+v", got, l)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "byte")
		bad := bytes.Clone(sealed)
		bad[i] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if c.open(bad, &raft.Log{Index: l.Index, Term: l.Term, Type: l.Type}) == nil {
			t.Fatalf("flip of byte %d not noticed", i)
		}
		if c.open(bytes.Clone(sealed[:i]), &raft.Log{Index: l.Index, Term: l.Term, Type: l.Type}) == nil {
			t.Fatalf("cut at %d not noticed", i)
		}
		for _, as := range []raft.Log{
			{Index: l.Index + 1, Term: l.Term, Type: l.Type},
			{Index: l.Index, Term: l.Term + 1, Type: l.Type},
			{Index: l.Index, Term: l.Term, Type: l.Type + 1},
		} {
			if c.open(bytes.Clone(sealed), &as) == nil {
				t.Fatalf("taken for %+v", as)
			}
		}
	})
}

func TestEveryFlipOfOneEntry(t *testing.T) {
	c := testCodec()
	l := &raft.Log{Index: 7, Term: 3, Data: bytes.Repeat([]byte("abc"), 500), Extensions: []byte("e"), AppendedAt: standing}
	sealed, err := c.seal(make([]byte, 0, sealedSize(l)), l)
	must(t, err)
	if len(sealed) > 200 {
		t.Fatalf("%d bytes: not compressed", len(sealed))
	}
	for i := range sealed {
		for bit := range 8 {
			b := bytes.Clone(sealed)
			b[i] ^= 1 << bit
			if c.open(b, &raft.Log{Index: 7, Term: 3}) == nil {
				t.Fatalf("byte %d bit %d", i, bit)
			}
		}
	}
	other := newCodec(fixedKey().Subkey(labelLog), [16]byte{8}, &countingRand{}) // another store, same key
	if other.open(bytes.Clone(sealed), &raft.Log{Index: 7, Term: 3}) == nil {
		t.Fatal("an entry of another store was taken")
	}
}

func TestKeyGenerations(t *testing.T) {
	c := newCodec(fixedKey().Subkey(labelLog), [16]byte{9}, rand.Reader)
	var sealed [][]byte
	seen := map[string]bool{}
	for i := range uint64(maxGenerations + 3) {
		b, err := c.seal(nil, entry(i+1, 1))
		must(t, err)
		seen[string(b[1:1+genSize])] = true
		sealed = append(sealed, b)
		if i > 0 {
			c.used = maxPerGeneration // spent
		}
	}
	if len(seen) != maxGenerations+2 {
		t.Fatalf("%d generations", len(seen))
	}
	for i, b := range sealed {
		got := raft.Log{Index: uint64(i + 1), Term: 1}
		must(t, c.open(b, &got))
		if !bytes.Equal(got.Data, entry(got.Index, 1).Data) {
			t.Fatal("another entry")
		}
	}
	if len(c.gens) > maxGenerations {
		t.Fatalf("%d subkeys cached", len(c.gens))
	}
}

// Even with the right key, a plaintext that claims too much is refused.
func TestDecodeEntryBounds(t *testing.T) {
	bomb := s2.Encode(nil, make([]byte, maxEntry+1))
	small := s2.Encode(nil, make([]byte, 5000))
	uv := func(n uint64) []byte {
		var b []byte
		for ; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		return append(b, byte(n))
	}
	cases := map[string][]byte{
		"empty":           {},
		"unknown flag":    {8, 0},
		"time cut":        {flagTime, 1, 2},
		"time absurd":     append([]byte{flagTime}, bytes.Repeat([]byte{0xff}, 13)...),
		"extensions long": {flagExt, 200, 1, 0},
		"no length":       {0},
		"data short":      {0, 5, 1},
		"data long":       {0, 1, 1, 1},
		"huge":            append([]byte{0}, uv(1<<40)...),
		"bomb":            append(append([]byte{flagS2}, uv(maxEntry+1)...), bomb...),
		"bomb, lying":     append(append([]byte{flagS2}, uv(10)...), bomb...),
		"s2 garbage":      append(append([]byte{flagS2}, uv(5000)...), small[:len(small)-1]...),
	}
	for name, b := range cases {
		if decodeEntry(b, &raft.Log{}) == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte{0, 1, 1})
	f.Add(append([]byte{flagS2, 0x90, 0x4e}, s2.Encode(nil, make([]byte, 10000))...))
	f.Add([]byte{flagExt | flagTime, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l raft.Log
		if decodeEntry(b, &l) == nil && len(l.Data) > maxEntry {
			t.Fatal("bound passed")
		}
		_ = testCodec().open(b, &raft.Log{Index: 1})
	})
}

// The ring agrees with a plain map of what was put and not dropped, as far as
// it answers at all.
func TestRingAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slots, maxBytes = 8, 100
		r := newRing(slots, maxBytes)
		model := map[uint64]*raft.Log{}
		last := uint64(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "op") {
			case 0, 1, 2:
				var ls []*raft.Log
				for range rapid.IntRange(1, 12).Draw(t, "n") {
					last++
					l := &raft.Log{Index: last, Term: uint64(len(model)), Data: make([]byte, rapid.IntRange(0, 120).Draw(t, "size"))}
					ls, model[last] = append(ls, l), l
				}
				r.put(ls)
			case 3: // compaction
				to := rapid.Uint64Range(0, last).Draw(t, "to")
				r.drop(0, to)
				for i := range to + 1 {
					delete(model, i)
				}
			case 4: // conflict
				from := rapid.Uint64Range(1, last+1).Draw(t, "from")
				r.drop(from, last)
				for i := from; i <= last; i++ {
					delete(model, i)
				}
				last = from - 1
			case 5: // gap
				last += rapid.Uint64Range(1, 20).Draw(t, "gap")
			}
			var bytes int64
			held := 0
			for i := range last + 2 {
				var got raft.Log
				if !r.get(i, &got) {
					continue
				}
				held++
				bytes += size(&got)
				if w := model[i]; w == nil || got.Index != i || got.Term != w.Term || len(got.Data) != len(w.Data) {
					t.Fatalf("entry %d: got %+v, want %+v", i, got, w)
				}
			}
			if held > slots || bytes > maxBytes || bytes != r.bytes {
				t.Fatalf("%d entries, %d bytes (counted %d)", held, bytes, r.bytes)
			}
		}
	})
}

func TestRingKeepsTheNewest(t *testing.T) {
	r := newRing(4, 1<<20)
	r.put(entries(1, 9, 1))
	var l raft.Log
	for i := uint64(6); i <= 9; i++ {
		if !r.get(i, &l) {
			t.Fatalf("entry %d is gone", i)
		}
	}
	r.put([]*raft.Log{entry(8, 2)}) // overwrites 8 and ends there
	if !r.get(8, &l) || l.Term != 2 || r.get(9, &l) || !r.get(7, &l) {
		t.Fatal("an overwritten tail is still served")
	}
}
