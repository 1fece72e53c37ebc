package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDefaultsAreValid(t *testing.T) {
	c := Defaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

// Every fault is named at once, with its key.
func TestValidateNamesEveryFault(t *testing.T) {
	c := Defaults()
	c.Data, c.Listen, c.Voters, c.Log.Level = "relative", "nowhere", 4, "loud"
	c.Lease, c.Peers, c.Cgroup = Duration(time.Millisecond), []string{"no-port"}, "../up"
	err := c.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, key := range []string{"data:", "listen:", "voters:", "log.level:", "lease:", "peers:", "cgroup:"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%q is not in %q", key, err)
		}
	}
}

func TestValidateAddresses(t *testing.T) {
	for _, c := range []struct {
		listen, advertise string
		ok                bool
	}{
		{"127.0.0.1:7700", "", true},
		{"127.0.0.1:0", "", true},
		{"0.0.0.0:7700", "", false}, // which address would others use?
		{":7700", "", false},
		{"0.0.0.0:7700", "192.0.2.1:7700", true},
		{"0.0.0.0:7700", "0.0.0.0:7700", false},
		{"127.0.0.1:0", "127.0.0.1:7700", false},
		{"[::1]:7700", "", true},
		{"127.0.0.1:70000", "", false},
	} {
		cfg := Defaults()
		cfg.Listen, cfg.Advertise = c.listen, c.advertise
		if err := cfg.Validate(); (err == nil) != c.ok {
			t.Errorf("listen %q advertise %q: %v", c.listen, c.advertise, err)
		}
	}
}

func TestReadConfig(t *testing.T) {
	write := func(text string) string {
		p := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	c, err := ReadConfig(write("data: /srv/hf\nlabels: {zone: a}\nlease: 5s\nlog:\n  format: json\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Data, want.Labels, want.Lease, want.Log.Format = "/srv/hf", map[string]string{"zone": "a"}, Duration(5*time.Second), "json"
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	if c, err := ReadConfig(write("")); err != nil || !cmp.Equal(c, Defaults()) {
		t.Errorf("empty file: %v", err)
	}
	for name, text := range map[string]string{
		"unknown key":    "dta: /srv\n",
		"wrong type":     "voters: many\n",
		"duplicate key":  "name: a\nname: b\n",
		"bad duration":   "lease: soon\n",
		"not a document": "]",
		"huge":           strings.Repeat("# filler\n", 200_000),
	} {
		if _, err := ReadConfig(write(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	env := map[string]string{
		"HOLDFAST_DATA": "/srv/x", "HOLDFAST_LABELS": "zone=a,disk=ssd", "HOLDFAST_CPU_MILLIS": "1500",
		"HOLDFAST_PEERS": "192.0.2.1:7700, 192.0.2.2:7700", "HOLDFAST_DRAIN": "1m",
	}
	c := Defaults()
	if err := c.FromEnv(func(k string) (string, bool) { v, ok := env[k]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Data, want.CPUMillis, want.Drain = "/srv/x", 1500, Duration(time.Minute)
	want.Labels = map[string]string{"zone": "a", "disk": "ssd"}
	want.Peers = []string{"192.0.2.1:7700", "192.0.2.2:7700"}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
	env = map[string]string{"HOLDFAST_VOTERS": "five", "HOLDFAST_LEASE": "x", "HOLDFAST_LABELS": "novalue"}
	err := c.FromEnv(func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	for _, key := range []string{"HOLDFAST_VOTERS", "HOLDFAST_LEASE", "HOLDFAST_LABELS"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is not in %v", key, err)
		}
	}
}
