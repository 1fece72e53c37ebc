package consensus

// CommitIndex is the index of the last entry that this node knows to be
// committed; it may not be applied yet.
func (g *Group) CommitIndex() uint64 { return g.raft.CommitIndex() }
