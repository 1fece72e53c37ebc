package storage

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestIdentityIsBoundToTheStore(t *testing.T) {
	o := options(privateDir(t))
	_, err := Open(o)
	wantErr(t, err, ErrNoStore)
	if !NeedsRejoin(err) {
		t.Fatal("an empty folder with a known ID must rejoin")
	}
	s := create(t, o)
	if id := s.Identity(); id.NodeID != o.NodeID || id.ClusterID != o.ClusterID || len(id.StoreID) != 32 {
		t.Fatalf("%+v", id)
	}
	_, err = Open(o)
	wantErr(t, err, ErrInUse)
	must(t, s.Close())
	_, err = Create(o)
	wantErr(t, err, ErrStoreExists)

	other := o
	other.NodeID = "node-b"
	_, err = Open(other)
	wantErr(t, err, ErrIdentityMismatch)
	other = o
	other.ClusterID = "cluster-2"
	_, err = Open(other)
	wantErr(t, err, ErrIdentityMismatch)
	if NeedsRejoin(err) {
		t.Fatal("a wrong folder is for the operator")
	}
	other = o
	other.Key = Key{b: [32]byte{1}}
	_, err = Open(other)
	wantErr(t, err, ErrDamaged)
	must(t, mustOpen(t, o).Close()) // nothing above held the lock or broke it
}

// guards the rule that a node which lost its promises does not vote under its
// old identity: every part of the folder that can vanish is missed.
func TestLostPartsAreMissed(t *testing.T) {
	cases := map[string]func(dir string) error{
		"identity":  func(d string) error { return os.Remove(filepath.Join(d, identityFile)) },
		"log":       func(d string) error { return os.Remove(filepath.Join(d, logFile)) },
		"log empty": func(d string) error { return os.Truncate(filepath.Join(d, logFile), 0) },
		"log new": func(d string) error {
			must(t, os.Remove(filepath.Join(d, logFile)))
			b, err := OpenBolt(filepath.Join(d, logFile))
			return errors.Join(err, b.Close())
		},
		"everything": func(d string) error {
			return errors.Join(os.Remove(filepath.Join(d, identityFile)), os.Remove(filepath.Join(d, logFile)))
		},
	}
	for name, lose := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(privateDir(t))
			s := create(t, o)
			must(t, s.Logs().StoreLogs(entries(1, 3, 1)))
			must(t, s.Close())
			must(t, lose(o.Dir))
			_, err := Open(o)
			wantErr(t, err, ErrNoStore)
			if !NeedsRejoin(err) {
				t.Fatal(err)
			}
		})
	}
	t.Run("another store's log", func(t *testing.T) {
		o, p := options(privateDir(t)), options(privateDir(t))
		must(t, create(t, o).Close())
		must(t, create(t, p).Close())
		must(t, os.Rename(filepath.Join(p.Dir, logFile), filepath.Join(o.Dir, logFile)))
		_, err := Open(o)
		wantErr(t, err, ErrDamaged)
		if !NeedsRejoin(err) {
			t.Fatal(err)
		}
	})
}

func TestCreateAfterAnUnfinishedCreate(t *testing.T) {
	o := options(privateDir(t))
	s := create(t, o)
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(o.Dir, identityFile))) // as if killed before the last step
	s = create(t, o)
	must(t, s.Logs().StoreLog(entry(1, 1)))
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(o.Dir, identityFile)))
	_, err := Create(o) // this one was in use
	wantErr(t, err, ErrDamaged)
}

func TestEveryFlipOfTheIdentityIsDetected(t *testing.T) {
	id, err := newIdentity("node-a", "cluster-1", standing, &countingRand{})
	must(t, err)
	good, err := id.encode(fixedKey())
	must(t, err)
	if got, err := decodeIdentity(good, fixedKey()); err != nil || got != id {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := decodeIdentity(b, fixedKey()); err == nil {
				t.Fatalf("flip of byte %d bit %d not noticed", i, bit)
			}
		}
	}
	for n := range len(good) {
		if _, err := decodeIdentity(good[:n], fixedKey()); err == nil {
			t.Fatalf("cut at %d not noticed", n)
		}
	}
}

func TestPermissions(t *testing.T) {
	for _, name := range []string{".", identityFile, logFile, snapshotsDir} {
		o := options(privateDir(t))
		must(t, create(t, o).Close())
		p := filepath.Join(o.Dir, name)
		st, err := os.Stat(p)
		must(t, err)
		if st.Mode().Perm()&0o077 != 0 {
			t.Fatalf("%s was made %v", name, st.Mode())
		}
		must(t, os.Chmod(p, st.Mode().Perm()|0o040))
		_, err = Open(o)
		wantErr(t, err, ErrPermissions)
	}
}

func TestKeyFile(t *testing.T) {
	dir := privateDir(t)
	for name, pass := range map[string][]byte{"plain": nil, "wrapped": []byte("correct horse")} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			_, err := LoadKey(path, pass)
			wantErr(t, err, fs.ErrNotExist)
			k, err := LoadOrCreateKey(path, pass)
			must(t, err)
			again, err := LoadOrCreateKey(path, pass)
			must(t, err)
			if k != again || k == (Key{}) {
				t.Fatal("another key")
			}
			st, err := os.Stat(path)
			must(t, err)
			if st.Mode().Perm() != fileMode {
				t.Fatalf("mode %v", st.Mode())
			}
			wrong := []byte("wrong")
			if _, err := LoadKey(path, wrong); !errors.Is(err, ErrPassphrase) {
				t.Fatal(err)
			}
			if pass != nil {
				_, err := LoadKey(path, nil)
				wantErr(t, err, ErrPassphrase)
			}
			must(t, os.Chmod(path, 0o640))
			_, err = LoadKey(path, pass)
			wantErr(t, err, ErrPermissions)
		})
	}
}

func TestEveryFlipOfAPlainKeyFileIsDetected(t *testing.T) {
	good, err := encodeKey(fixedKey(), nil, nil)
	must(t, err)
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := decodeKey(b, nil); err == nil {
				t.Fatalf("flip of byte %d bit %d not noticed", i, bit)
			}
		}
	}
}

func TestKeysStayOutOfMessages(t *testing.T) {
	if s := fixedKey().String() + fixedKey().GoString(); bytes.Contains([]byte(s), []byte("42")) {
		t.Fatal(s)
	}
	if _, err := NewKey(make([]byte, KeySize)); err == nil {
		t.Fatal("the zero key was taken")
	}
	if bytes.Equal(fixedKey().Subkey("a"), fixedKey().Subkey("b")) {
		t.Fatal("labels do not separate")
	}
}
