package storage

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// goldenForms writes each on-disk form with a fixed key and fixed randomness.
func goldenForms(t *testing.T) map[string][]byte {
	t.Helper()
	forms := map[string][]byte{}
	c := testCodec()
	full := &raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration, Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: standing}
	for name, l := range map[string]*raft.Log{"entry-full": full, "entry-empty": {Index: 1, Term: 1}} {
		c.rand, c.aead = &countingRand{}, nil
		b, err := c.seal(nil, l)
		must(t, err)
		forms[name] = b
	}
	forms["stream"] = sealAll(t, []byte("first second third"), 6, 13)
	id, err := newIdentity("node-a", "cluster-1", standing, &countingRand{})
	must(t, err)
	forms["identity"], err = id.encode(fixedKey())
	must(t, err)
	forms["key-plain"], err = encodeKey(fixedKey(), nil, nil)
	must(t, err)
	forms["key-wrapped"], err = encodeKey(fixedKey(), []byte("pass"), &countingRand{})
	must(t, err)
	forms["snapshot-meta"], err = json.Marshal(snapshotMeta{
		Format: 1, ID: "2-5-1767323045000", Version: 1, Index: 5, Term: 2, ConfigurationIndex: 3, Size: 9, Sealed: 69, SHA256: []byte{1, 2},
		Configuration: raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Nonvoter, ID: "node-a", Address: "127.0.0.1:1"}}},
	})
	must(t, err)
	m, err := openMark(filepath.Join(t.TempDir(), "m"), fixedKey().Subkey(labelMark), [16]byte{9})
	must(t, err)
	must(t, m.raise(12))
	forms["mark"] = make([]byte, markSize)
	_, err = m.f.ReadAt(forms["mark"], 0)
	must(t, err)
	must(t, m.close())
	d := newJournalDisk(256)
	j, _, err := readJournal(d, journalID)
	must(t, err)
	record, _ := j.encode(nil, 0, []*raft.Log{{Index: 7, Term: 3, Type: raft.LogNoop, Data: []byte("sealed")}, {Index: 8, Term: 3, Data: []byte("too")}})
	must(t, j.append(record))
	must(t, j.check(1))
	forms["journal"] = slices.Concat(d.durable[:48], d.durable[checkAt:checkAt+checkSize], d.durable[journalBlock+256:][:len(record)])
	return forms
}

// guards P11: the forms on the disk do not change by accident. s2 and zstd are
// left out: their encoders may improve, their formats are fixed elsewhere.
func TestGoldenForms(t *testing.T) {
	for name, got := range goldenForms(t) {
		path := filepath.Join("testdata", "golden", name+".hex")
		if *update {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644))
		}
		b, err := os.ReadFile(path)
		must(t, err)
		want, err := hex.DecodeString(strings.TrimSpace(string(b)))
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the form on the disk has changed\n got %x\nwant %x", name, got, want)
		}
		goldenReads(t, name, want)
	}
}

// goldenReads checks that today's readers take yesterday's bytes.
func goldenReads(t *testing.T, name string, b []byte) {
	t.Helper()
	var err error
	switch name {
	case "entry-full":
		l := raft.Log{Index: 7, Term: 3, Type: raft.LogConfiguration}
		if err = testCodec().open(b, &l); err == nil && (string(l.Data) != "data" || string(l.Extensions) != "ext" || !l.AppendedAt.Equal(standing)) {
			t.Errorf("%s: %+v", name, l)
		}
	case "entry-empty":
		err = testCodec().open(b, &raft.Log{Index: 1, Term: 1})
	case "stream":
		var got []byte
		if got, err = openAll(b); err == nil && string(got) != "first second third" {
			t.Errorf("%s: %q", name, got)
		}
	case "identity":
		_, err = decodeIdentity(b, fixedKey())
	case "key-plain", "key-wrapped":
		var pass []byte
		if name == "key-wrapped" {
			pass = []byte("pass")
		}
		var k Key
		if k, err = decodeKey(b, pass); err == nil && k != fixedKey() {
			t.Errorf("%s: another key", name)
		}
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	id, err := newIdentity("n", "c", standing, &countingRand{})
	must(f, err)
	b, err := id.encode(fixedKey())
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := decodeIdentity(in, fixedKey()); err == nil && !bytes.Equal(in, b) {
			t.Fatal("forged")
		}
	})
}

func FuzzDecodeKey(f *testing.F) {
	b, err := encodeKey(fixedKey(), nil, nil)
	must(f, err)
	f.Add(b)
	f.Add([]byte("holdfast-key 1 argon2id 1 8 1 00000000000000000000000000000000 000000000000000000000000 00\n"))
	f.Add([]byte("holdfast-key 1 \n"))
	f.Fuzz(func(t *testing.T, in []byte) { _, _ = decodeKey(in, nil) })
}
