package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The files of a run's folder.
const (
	RunFile     = "run.json"
	EventsFile  = "history.jsonl"
	EffectsFile = "ledger/effects"
)

// Run says what ran, on what, and what it must hold.
type Run struct {
	Scenario string    `json:"scenario"`
	Seed     uint64    `json:"seed"`
	Tier     string    `json:"tier"` // T0 to T3
	Started  time.Time `json:"started"`
	// Boot is the host's boot clock at the start: the kernel's log has it.
	Boot time.Duration `json:"boot_ns,omitempty"`
	// Command repeats the run.
	Command string            `json:"command,omitempty"`
	Nodes   []string          `json:"nodes"` // names, in order
	Version string            `json:"version,omitempty"`
	Binary  string            `json:"binary_sha256,omitempty"`
	Machine map[string]string `json:"machine,omitempty"`
	Bounds  []Bound           `json:"bounds,omitempty"`
	Limits  Limits            `json:"limits"`
	// Stopped is why the run ended before its schedule did; empty if not.
	Stopped string `json:"stopped,omitempty"`
}

// Bound is what the time without acknowledged writes after a fault may be, in
// nanoseconds; zero is no bound.
type Bound struct {
	Fault string        `json:"fault"` // a fault's type; "*" is any without its own
	P99   time.Duration `json:"p99_ns,omitempty"`
	Max   time.Duration `json:"max_ns,omitempty"`
}

// Limits are what the cluster under test promises by its configuration. A
// checker whose limit is zero takes the shipped default.
type Limits struct {
	// FinishedKept is how many ended tasks the cluster remembers: older ones
	// may be unknown to it.
	FinishedKept int `json:"finished_kept,omitempty"`
	// Remembered is for how many requests a key takes effect once.
	Remembered int `json:"remembered,omitempty"`
	// MaxLost is after how many lost attempts a task fails.
	MaxLost int `json:"max_lost,omitempty"`
	// Healthy is how long all must go well after the last heal.
	Healthy time.Duration `json:"healthy_ns,omitempty"`
	// LateProbes is the share of the probes that may miss their time-out
	// meanwhile, and Silence the longest pause between acknowledged writes.
	LateProbes float64       `json:"late_probes,omitempty"`
	Silence    time.Duration `json:"silence_ns,omitempty"`
	// Operations is the least number of acknowledged writes that a verdict
	// may rest on.
	Operations int `json:"operations,omitempty"`
}

// Save writes run.json whole or not at all.
func (r *Run) Save(dir string) (err error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the run: %w", err)
	}
	f, err := os.CreateTemp(dir, ".run-*")
	if err != nil {
		return fmt.Errorf("save the run: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("save the run: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, RunFile))
}

// LoadRun reads run.json of a run's folder.
func LoadRun(dir string) (*Run, error) {
	b, err := os.ReadFile(filepath.Join(dir, RunFile))
	if err != nil {
		return nil, fmt.Errorf("read the run: %w; name the folder that a chaos run kept", err)
	}
	var r Run
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, RunFile), err)
	}
	return &r, nil
}
