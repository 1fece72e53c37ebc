package scenario

import "time"

// The aims that many faults share.
var (
	oneOrMore = []string{"leader", "follower", "holder(task)", "minority", "majority", "all", "node(n)", "any"}
	oneNode   = []string{"leader", "follower", "holder(task)", "node(n)", "any"}
	links     = []string{"any", "link(a,b)", "leader", "follower", "holder(task)", "minority", "all", "node(n)"}
	whole     = []string{Nothing}

	everywhere = []Tier{Sim, Live}
	liveOnly   = []Tier{Live}
)

const sec = Duration(time.Second)

func ratio(name, value, about string) Param { return Param{name, Ratio, value, nil, about} }
func span(name, value, about string) Param  { return Param{name, Time, value, nil, about} }
func count(name, value, about string) Param { return Param{name, Count, value, nil, about} }
func choice(name, about string, of ...string) Param {
	return Param{name, Choice, of[0], of, about}
}

// Faults is the catalogue.
var Faults = []Fault{
	// Process.
	{"kill", "process", "kill -9, and a start at the heal", oneOrMore, 2 * sec, nil, everywhere, nil},
	{"kill-during", "process", "kill -9 at a moment of the node's own work", oneNode, 2 * sec,
		[]Param{choice("moment", "what it is in the middle of", "append", "apply", "snapshot", "report")}, liveOnly, nil},
	{"pause", "process", "SIGSTOP, and SIGCONT at the heal", oneOrMore, 3 * sec, nil, everywhere, nil},
	{"freeze", "process", "the cgroup freezer: node and tasks stand still together", oneOrMore, 2 * sec, nil, liveOnly, []Need{NeedCgroup}},
	{"restart-loop", "process", "kill -9 and start again, over and over", oneNode, 8 * sec,
		[]Param{span("every", "1s", "from one kill to the next")}, everywhere, nil},
	{"oom", "process", "the memory limit falls below what the node uses: the kernel kills it", oneNode, 3 * sec, nil, liveOnly, []Need{NeedCgroup}},
	{"starve-descriptors", "process", "no further file descriptor for the node", oneNode, 5 * sec, nil, liveOnly, nil},
	{"starve-cpu", "process", "a small share of one CPU", oneOrMore, 5 * sec,
		[]Param{ratio("share", "5%", "of one CPU")}, liveOnly, []Need{NeedCgroup}},

	// Network.
	{"isolate", "network", "the target cannot reach the other nodes, nor they it", oneOrMore, 4 * sec, nil, everywhere, []Need{NeedSwitch}},
	{"partition", "network", "the nodes fall into parts", whole, 4 * sec,
		[]Param{choice("shape", "halves; a ring, where each reaches its two neighbours; or two halves with one node that reaches both", "halves", "ring", "bridge")}, everywhere, []Need{NeedSwitch}},
	{"deaf", "network", "the target sends and does not hear", oneOrMore, 4 * sec, nil, everywhere, []Need{NeedSwitch}},
	{"mute", "network", "the target hears and is not heard", oneOrMore, 4 * sec, nil, everywhere, []Need{NeedSwitch}},
	{"flap", "network", "cut off and back, over and over", oneOrMore, 6 * sec,
		[]Param{span("up", "300ms", "with a network"), span("down", "300ms", "without")}, everywhere, []Need{NeedSwitch}},
	{"cut-clients", "network", "no client reaches the target; the nodes reach each other", oneOrMore, 4 * sec, nil, everywhere, []Need{NeedSwitch}},
	{"loss", "network", "packets are lost", links, 5 * sec, []Param{ratio("share", "20%", "of the packets")}, everywhere, []Need{NeedSwitch}},
	{"delay", "network", "packets come later", links, 5 * sec,
		[]Param{span("by", "100ms", "each"), span("jitter", "0s", "up to so much more")}, everywhere, []Need{NeedSwitch}},
	{"duplicate", "network", "packets come twice", links, 5 * sec, []Param{ratio("share", "30%", "of the packets")}, everywhere, []Need{NeedSwitch}},
	{"reorder", "network", "packets overtake each other", links, 5 * sec,
		[]Param{ratio("share", "30%", "of the packets are late"), span("by", "20ms", "so late")}, everywhere, []Need{NeedSwitch}},
	{"corrupt", "network", "a bit of a packet flips", links, 5 * sec, []Param{ratio("share", "5%", "of the packets")}, liveOnly, []Need{NeedSwitch}},
	{"throttle", "network", "little bandwidth, with a short queue", links, 5 * sec, []Param{count("kbit", "512", "per second")}, everywhere, []Need{NeedSwitch}},
	{"mtu", "network", "larger packets vanish, as in a broken tunnel", links, 5 * sec, []Param{count("bytes", "600", "the largest IP packet that passes")}, liveOnly, []Need{NeedSwitch}},

	// Disk.
	{"disk-full", "disk", "no free block", oneNode, 4 * sec, nil, everywhere, []Need{NeedDisk}},
	{"disk-write-error", "disk", "writes fail with EIO", oneNode, 4 * sec, nil, everywhere, []Need{NeedCalls}},
	{"disk-sync-error", "disk", "fsync fails with EIO", oneNode, 4 * sec,
		[]Param{count("nth", "0", "only this one from now on; 0: every one")}, everywhere, []Need{NeedCalls}},
	{"disk-slow", "disk", "every fsync takes longer", oneOrMore, 5 * sec, []Param{span("by", "50ms", "each")}, everywhere, []Need{NeedCalls}},
	{"disk-hang", "disk", "writes do not come back until the heal", oneNode, 5 * sec, nil, everywhere, []Need{NeedDisk}},
	{"power", "disk", "power failure: what was not synced is gone, and the process with it", oneOrMore, 2 * sec, nil, everywhere, []Need{NeedDisk}},
	{"flip-byte", "disk", "the node ends; a byte of its log flips; it starts", oneNode, 2 * sec, nil, liveOnly, nil},
	{"truncate", "disk", "the node ends; its log loses its end; it starts", oneNode, 2 * sec, nil, liveOnly, nil},
	{"lose-folder", "disk", "the node ends and its folder is emptied; it must not vote under its old identity", oneNode, 2 * sec, nil, liveOnly, nil},
	{"lose-log", "disk", "the node ends and loses its log, but not its keys; it must not vote under its old identity", oneNode, 2 * sec, nil, everywhere, nil},
	{"damage-snapshot", "disk", "the node ends; a byte of its newest snapshot flips; it starts", oneNode, 2 * sec, nil, liveOnly, nil},

	// Clock.
	{"clock-jump", "clock", "the wall clock of the node's process jumps, and back at the heal", oneOrMore, 5 * sec,
		[]Param{span("by", "1h", "negative: back")}, everywhere, []Need{NeedClock}},
	{"clock-strobe", "clock", "the wall clock jumps to and fro", oneOrMore, 5 * sec,
		[]Param{span("by", "10s", "each way"), span("every", "200ms", "from one jump to the next")}, everywhere, []Need{NeedClock}},

	// Cluster.
	{"transfer", "cluster", "the leader hands its office over", whole, 0, []Param{count("times", "1", "one after the other")}, everywhere, nil},
	{"join", "cluster", "a new node joins, and is removed at the heal", whole, 6 * sec, nil, everywhere, nil},
	{"leave", "cluster", "the target leaves for good; a new node takes its place at the heal", oneNode, 3 * sec, nil, everywhere, nil},
	{"replace", "cluster", "the target dies for good and is removed; a new node joins at the heal", oneNode, 3 * sec, nil, everywhere, nil},
	{"promote-during-snapshot", "cluster", "a new node joins while snapshots are made and sent", whole, 6 * sec, nil, liveOnly, nil},
	{"rolling-restart", "cluster", "every node in turn ends and starts", whole, 0, nil, everywhere, nil},
	{"rolling-upgrade", "cluster", "every node in turn starts with this build, from the previous one", whole, 0, nil, liveOnly, []Need{NeedBuild}},
	{"rolling-rollback", "cluster", "every node in turn starts with the previous build", whole, 0, nil, liveOnly, []Need{NeedBuild}},
	{"twin", "cluster", "a second process on the target's folder; it must be refused", oneNode, 5 * sec, nil, liveOnly, nil},

	// Worker.
	{"zombie", "worker", "the node of a running task stands still past its lease and wakes", oneNode, 14 * sec, nil, everywhere, nil},
	{"report-cut", "worker", "the connection ends in the middle of a task's report", oneNode, 3 * sec, nil, liveOnly, []Need{NeedSwitch}},
	{"report-twice", "worker", "the answers to reports are lost, so that they come again", oneNode, 4 * sec, nil, everywhere, []Need{NeedSwitch}},
	{"report-late", "worker", "a report comes so much later", oneNode, 10 * sec, nil, everywhere, []Need{NeedSwitch}},

	// Client.
	{"client-twice", "client", "every write is sent twice, to two nodes", []string{Clients}, 6 * sec, nil, everywhere, nil},
	{"client-deaf", "client", "answers to clients are lost after the request has gone out", []string{Clients}, 5 * sec,
		[]Param{ratio("share", "50%", "of the answers")}, everywhere, []Need{NeedSwitch}},
	{"herd", "client", "many clients at once", []string{Clients}, 4 * sec, []Param{count("clients", "200", "at a time")}, everywhere, nil},
}
