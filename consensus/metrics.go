package consensus

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the group's collectors. They belong to one Group; nothing is
// registered globally.
type Metrics struct {
	proposals      prometheus.Counter
	entries        prometheus.Counter
	batchCommands  prometheus.Histogram
	commitSeconds  prometheus.Histogram
	applySeconds   prometheus.Histogram
	queueBytes     prometheus.Gauge
	refusals       *prometheus.CounterVec // reason
	elections      *prometheus.CounterVec // cause: timer, evidence, transfer
	evidence       *prometheus.CounterVec // kind, outcome
	readRounds     prometheus.Counter
	reads          prometheus.Counter
	leaderChanges  prometheus.Counter
	installs       prometheus.Counter
	installRepeats prometheus.Counter
	snapshots      *prometheus.CounterVec // outcome: ok, error
	transfers      *prometheus.CounterVec // outcome: ok, failed
	membership     *prometheus.CounterVec // action
}

func newMetrics(reg prometheus.Registerer) (*Metrics, error) {
	const ns, sub = "holdfast", "consensus"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help, Buckets: buckets})
	}
	latency := prometheus.ExponentialBuckets(50e-6, 2, 18) // 50 µs to 6.6 s
	m := &Metrics{
		proposals:     counter("proposals_total", "Commands taken into the queue."),
		entries:       counter("entries_total", "Raft entries proposed."),
		batchCommands: histogram("batch_commands", "Commands per raft entry.", prometheus.ExponentialBuckets(1, 2, 14)),
		commitSeconds: histogram("commit_seconds", "From the append of an entry to its result.", latency),
		applySeconds:  histogram("apply_seconds", "Time the state machine took for one entry.", latency),
		queueBytes: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "queue_bytes",
			Help: "Bytes of commands waiting for the next entry."}),
		refusals:       vec("refusals_total", "Proposals that were not appended, or whose outcome is unknown.", "reason"),
		elections:      vec("elections_total", "Elections this node started.", "cause"),
		evidence:       vec("evidence_total", "Evidence against the leader, and what came of it.", "kind", "outcome"),
		readRounds:     counter("read_rounds_total", "Rounds that confirmed the leader for reads."),
		reads:          counter("reads_total", "Linearizable reads, coalesced into rounds."),
		leaderChanges:  counter("leader_changes_total", "Changes of leader seen by this node."),
		installs:       counter("snapshot_installs_total", "Snapshots that a leader sent to this node."),
		installRepeats: counter("snapshot_install_repeats_total", "Installs of the snapshot that was installed before."),
		snapshots:      vec("snapshots_total", "Snapshots taken.", "outcome"),
		transfers:      vec("transfers_total", "Leadership transfers.", "outcome"),
		membership:     vec("membership_changes_total", "Changes of the configuration by this leader.", "action"),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.proposals, m.entries, m.batchCommands, m.commitSeconds, m.applySeconds, m.queueBytes, m.refusals,
		m.elections, m.evidence, m.readRounds, m.reads, m.leaderChanges, m.installs, m.installRepeats,
		m.snapshots, m.transfers, m.membership,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
