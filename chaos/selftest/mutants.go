package selftest

// Mutant is the product without one safeguard.
type Mutant struct {
	Name string
	Lost string // what it does not do any more
	File string // relative to the module
	Old  string // the exact text, there once
	New  string
}

// Mutants are all of them, in the order of the table.
func Mutants() []Mutant {
	return append(consensusMutants(), taskMutants()...)
}

func consensusMutants() []Mutant {
	return []Mutant{
		{Name: "no-fsync", Lost: "a write is answered before it is synced",
			File: "node/sim/disk.go", // the simulated disk stands for the store
			Old:  "	for _, f := range d.pending {\n		f(&d.synced)\n	}\n	d.pending = nil\n	return nil\n",
			New:  "	return nil\n"},
		{Name: "vote-forgotten", Lost: "the vote of a term is not kept",
			File: "node/sim/store.go",
			Old:  "	value := bytes.Clone(v)\n",
			New:  "	value := bytes.Clone(v)\n	if string(k) == \"LastVoteTerm\" || string(k) == \"LastVoteCand\" {\n		return nil\n	}\n"},
		{Name: "emptied-voter-votes", Lost: "a node that has lost its store comes back under its old identity",
			File: "node/sim/host.go",
			Old:  "	if h.runs > 0 && !h.disk.identified() {\n",
			New:  "	if false {\n"},
		{Name: "local-read", Lost: "a read is called linearizable without asking a majority",
			File: "consensus/read.go",
			Old:  "	for !g.contacts.confirmed(g.id, servers, of.term, mark) {\n		select {\n",
			New:  "	for false {\n		select {\n"},
		{Name: "read-without-barrier", Lost: "a new leader reads before it has applied what came before its term",
			File: "consensus/leadership.go",
			Old:  "		err := releasable(g.raft.Apply(entry, g.cfg.Timing.Election), g.dead).Error()\n",
			New:  "		err := error(nil)\n		_ = entry\n"},
		{Name: "acknowledged-before-commit", Lost: "an entry of unknown outcome is answered as done",
			File: "consensus/proposer.go",
			Old:  "			return delivery{err: p.classify(err)}\n",
			New:  "			if !errors.Is(err, raft.ErrNotLeader) {\n				return delivery{results: make([]fsm.Result, len(cmds))}\n			}\n			return delivery{err: p.classify(err)}\n"},
		{Name: "applied-before-durable", Lost: "a leader applies and answers what its own disk does not hold yet, and tells its followers to",
			File: "consensus/overlap.go",
			Old:  "func (o *overlap) applicable(index uint64) error {\n	if o.mutants.noApplyWait {\n",
			New:  "func (o *overlap) applicable(index uint64) error {\n	if true {\n"},
		{Name: "429-applied", Lost: "what is refused for overload is proposed all the same",
			File: "consensus/proposer.go",
			Old:  "	if err != nil {\n		p.mu.Unlock()\n		p.refused(err, 1)\n",
			New:  "	if err != nil {\n		if errors.Is(err, ErrOverloaded) {\n			p.queue = append(p.queue, call{cmds, size, func([]fsm.Result, uint64, error) {}})\n			p.bytes, p.commands = p.bytes+size, p.commands+len(cmds)\n		}\n		p.mu.Unlock()\n		p.refused(err, 1)\n"},
		{Name: "stale-age-zero", Lost: "a stale read says that it is fresh",
			File: "consensus/read.go",
			Old:  "	return max(0, g.cfg.Now().Sub(at)), true\n",
			New:  "	return 0, true\n"},
		{Name: "time-stands-still", Lost: "the state's time waits for a leader's clock that is behind",
			File: "consensus/stamp.go",
			Old:  "next := max(wall, s.last+passed-passed/10)",
			New:  "next := max(wall, s.last)"},
	}
}

func taskMutants() []Mutant {
	return []Mutant{
		{Name: "stale-attempt", Lost: "the report of a superseded attempt ends the current one",
			File: "fsm/attempt.go",
			Old:  "		if t == nil || t.state != Running || t.node != n || t.attempt != r.Attempt {\n",
			New:  "		if t == nil || t.state != Running {\n"},
		{Name: "result-overwritten", Lost: "a late report replaces the result of a task that has ended",
			File: "fsm/attempt.go",
			Old:  "		if m.clearZombie(n, r.Task, r.Attempt) {\n",
			New:  "		if t := m.tasks.get(r.Task); t != nil && t.state.Terminal() {\n			result := r.Result\n			m.touch(t)\n			t.result = &result\n		}\n		if m.clearZombie(n, r.Task, r.Attempt) {\n"},
		{Name: "request-ids-forgotten", Lost: "a repeated request takes effect again",
			File: "fsm/machine.go",
			Old:  "	if r.Code == OK && e.requestID != (RequestID{}) {\n",
			New:  "	if false {\n"},
		{Name: "snapshot-without-a-table", Lost: "a restored state has no remembered requests",
			File: "fsm/restore.go",
			Old:  "		m.requests.add(e, m.limits.RequestIDsKept)\n",
			New:  ""},
		{Name: "map-order", Lost: "lost attempts are requeued in the order of a map",
			File: "fsm/node.go",
			Old:  "	for _, t := range n.runningByID() {\n",
			New:  "	byID := map[TaskID]*task{}\n	for _, t := range n.runningByID() {\n		byID[t.id] = t\n	}\n	for _, t := range byID {\n"},
		{Name: "lease-granted-early", Lost: "a new leader declares workers lost before their lease is over",
			File: "node/worker/lease/keeper.go",
			Old:  "			k.entries[w.Node] = &entry{incarnation: w.Incarnation, heard: now}\n",
			New:  "			k.entries[w.Node] = &entry{incarnation: w.Incarnation, heard: now.Add(-k.cfg.Duration * 9 / 10)}\n"},
		{Name: "expiry-by-wall-clock", Lost: "leases are measured by a clock that jumps",
			File: "node/worker/lease/keeper.go",
			Old:  "	return &Keeper{cfg: cfg, wake: make(chan struct{}, 1), entries: map[fsm.NodeID]*entry{}}\n",
			New:  "	now := cfg.Now\n	cfg.Now = func() time.Time { return now().Round(0) }\n	return &Keeper{cfg: cfg, wake: make(chan struct{}, 1), entries: map[fsm.NodeID]*entry{}}\n"},
		{Name: "no-self-fencing", Lost: "a worker that cannot renew its lease goes on",
			File: "node/worker/fence.go",
			Old:  "	until := sent.Add(w.lease - w.lease/marginParts)\n",
			New:  "	until := sent.Add(1000*w.lease - w.lease/marginParts)\n"},
	}
}
