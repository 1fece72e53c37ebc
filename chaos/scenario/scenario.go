package scenario

import "time"

// Scenario is one file.
type Scenario struct {
	Name     string   `yaml:"name"`
	About    string   `yaml:"about"`
	Guards   []string `yaml:"guards"` // promises: P1 to P12
	Seed     uint64   `yaml:"seed"`   // 0: the runner draws one and says which
	Tiers    []Tier   `yaml:"tiers"`  // default: every tier that has all the faults
	Cluster  Cluster  `yaml:"cluster"`
	Workload Workload `yaml:"workload"`
	Steady   Steady   `yaml:"steady"`
	Schedule []Step   `yaml:"schedule"`
	Random   *Random  `yaml:"random"` // beside or instead of the schedule
	Bounds   Bounds   `yaml:"bounds"`
	Stop     Stop     `yaml:"stop"`
}

// Tier is where a scenario runs.
type Tier string

// The tiers.
const (
	Sim  Tier = "sim"  // T0: a simulated cluster under synctest
	Live Tier = "live" // T1 and T2: processes of the shipped binary on this machine
)

// Cluster is what runs before the first fault.
type Cluster struct {
	Nodes  int               `yaml:"nodes"`  // default 3
	Config string            `yaml:"config"` // text of every node's configuration file; live only
	Env    map[string]string `yaml:"env"`    // further environment of every node; live only
	// Disk is the size of each node's own file system, if a fault needs one;
	// default 384 MiB, of which
	// only what is used is taken from the host's disk.
	DiskMiB int `yaml:"disk_mib"`
	// Draw lets a simulation draw time-outs, batch sizes and thresholds from
	// the seed; default true.
	Draw *bool `yaml:"draw"`
}

// Workload is the load, and what is recorded of it.
type Workload struct {
	For     Duration       `yaml:"for"`     // length of the part with faults; default 30s
	Clients int            `yaml:"clients"` // recording clients; default 4
	Rate    float64        `yaml:"rate"`    // operations per second of all clients together; default 40
	Mix     map[string]int `yaml:"mix"`     // weights by operation, see Operations
	Tasks   map[string]int `yaml:"tasks"`   // weights by kind, see TaskKinds
	Prober  Prober         `yaml:"prober"`
}

// Prober writes to every node, whether or not the last write was answered.
type Prober struct {
	Every   Duration `yaml:"every"`   // default 50ms
	Timeout Duration `yaml:"timeout"` // default 200ms
}

// Operations are what a recording client does.
var Operations = []string{
	"submit", "batch", "get", "stale", "list", "cancel", "wait",
	"twice",   // one write under one key, sent to two nodes
	"abandon", // a write whose client does not wait for the answer
}

// TaskKinds are the tasks that the load submits. All but "cheap" write every
// attempt's effects to the ledger.
var TaskKinds = []string{
	"cheap",    // never runs: no node fits, and it expires
	"effect",   // takes effect and succeeds at once
	"long",     // takes effect for two seconds
	"stubborn", // the same, and ignores SIGTERM
	"flaky",    // fails once and may be retried
	"hopeless", // fails more often than it may be retried
	"deadline", // would run for longer than its run time-out
}

// Steady is the hypothesis: what must hold before the first fault and again
// after the last heal.
type Steady struct {
	For      Duration `yaml:"for"`       // default 2s
	Within   Duration `yaml:"within"`    // time to get there; default 60s
	MinRate  float64  `yaml:"min_rate"`  // acknowledged writes per second; default a quarter of the rate
	MaxError float64  `yaml:"max_error"` // share of probes without an answer; default 0.05
	MaxPause Duration `yaml:"max_pause"` // between acknowledged writes; default 1s
	After    Duration `yaml:"after"`     // all must go well for so long after the last heal; default 60s
}

// Step is one fault: a fixed one of the schedule, or a choice of Random.
type Step struct {
	At     Duration `yaml:"at"`     // since the load is steady; schedule only
	Fault  string   `yaml:"fault"`  // see Faults
	On     Target   `yaml:"on"`     // default: the fault's
	For    Duration `yaml:"for"`    // until the heal; default: the fault's
	With   Params   `yaml:"with"`   // the fault's parameters
	Weight int      `yaml:"weight"` // random only; default 1
}

// Random draws steps until the load ends.
type Random struct {
	Every  Duration `yaml:"every"`   // from one beginning to the next; default 5s
	Jitter Duration `yaml:"jitter"`  // up to this much later
	AtOnce int      `yaml:"at_once"` // most faults at a time; default 1
	Pick   []Step   `yaml:"pick"`
}

// Bounds must hold. Safety is not among them: it always must.
type Bounds struct {
	// NoWrites is the longest time in which no node acknowledged a probe while
	// a majority could have.
	NoWrites Duration `yaml:"no_writes"` // default 10s
	// FailoverP99 bounds the time from a fault to the next acknowledged write,
	// over the faults of one kind.
	FailoverP99 Duration `yaml:"failover_p99"`
	// Elections is how often the leader may change; not given: any number.
	Elections *int `yaml:"elections"`
	// Recover is the time from the last heal to the steady state.
	Recover Duration `yaml:"recover"` // default 60s
	// Below these the run shows nothing, and its verdict is "inconclusive".
	MinAcknowledged int `yaml:"min_acknowledged"` // default 20
	MinBites        int `yaml:"min_bites"`        // default 1 if there are faults
}

// Stop ends a run early.
type Stop struct {
	After Duration `yaml:"after"` // the whole run; default 10m and twice the load
}

// Duration is a time.Duration that is a Go duration string in YAML.
type Duration time.Duration

// D is the plain duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalText reads "1.5s".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes the string form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
