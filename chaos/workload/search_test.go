package workload

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSearch(t *testing.T) {
	canaries := map[string]string{"token": "hf_canary_1234", "env": "canary-env-77"}
	for name, c := range map[string]struct {
		image   []byte
		found   int
		control bool
	}{
		"nothing":               {bytes.Repeat([]byte("x"), 3<<20), 0, false},
		"the control alone":     {[]byte("aa control-9 bb"), 0, true},
		"one":                   {[]byte("control-9 hf_canary_1234"), 1, true},
		"both, once each":       {[]byte("control-9 canary-env-77 hf_canary_1234 hf_canary_1234"), 2, true},
		"across two chunks":     {append(bytes.Repeat([]byte("x"), searchChunk+7), "hf_canary_1234 control-9"...), 1, true},
		"at the end of a chunk": {append(bytes.Repeat([]byte("x"), searchChunk-5), "canary-env-77"...), 1, false},
	} {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, c.image, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, root := range []string{path, filepath.Dir(path)} {
			s, err := Search(root, canaries, "control-9")
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Found) != c.found || s.Control != c.control || s.Bytes != int64(len(c.image)) || s.Canaries != 2 {
				t.Errorf("%s: %+v", name, s)
			}
			for _, f := range s.Found {
				if !strings.Contains(f, path) {
					t.Errorf("%s: %q does not say where", name, f)
				}
			}
		}
	}
	if _, err := Search(t.TempDir(), nil, "control-9"); err == nil {
		t.Error("a search without canaries is taken for one")
	}
	if _, err := Search(t.TempDir(), map[string]string{"a": "short"}, "control-9"); err == nil {
		t.Error("a canary that is found by chance is taken")
	}
	if _, err := Search(filepath.Join(t.TempDir(), "gone"), canaries, "control-9"); err == nil {
		t.Error("a disk that is not there is searched")
	}
}

func TestLook(t *testing.T) {
	one := Look(os.Getpid(), "", "")
	if one.Descriptors < 3 || one.Memory < 1<<20 || one.Process == "" || one.Goroutines != -1 || one.Mounts != -1 || one.Cgroups != -1 {
		t.Errorf("%+v", one)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	two := Look(os.Getpid(), "no-such-group-", "/")
	if two.Descriptors <= one.Descriptors || two.Sockets <= one.Sockets || two.Process != one.Process || two.Cgroups != 0 || two.Processes != 0 || two.Mounts < 0 {
		t.Errorf("%+v, and with one more descriptor %+v", one, two)
	}
	if gone := Look(1<<30, "", ""); gone.Descriptors != -1 || gone.Process != "" {
		t.Errorf("a process that is none: %+v", gone)
	}
}
