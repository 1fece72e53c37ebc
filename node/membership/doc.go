// Package membership is the cluster's gossip: who seems to be there, and at
// which address. It is hashicorp/memberlist over a transport that is given.
//
// Gossip is a hint. Nothing here changes the replicated state, and nothing
// that must be right may depend on it: it finds addresses of nodes that moved,
// feeds the failover with a suspicion, and fills a column for people.
//
// Names are node IDs. The transport checks that a name is the certificate's;
// nodes that the cluster has removed are refused by Config.Allowed, which is
// asked for each node by itself. (memberlist's merge delegate could only refuse
// the whole state of a peer because it still remembers a removed node.)
//
// # Healing
//
// memberlist gossips to the dead for 30 s and then forgets them: a partition
// that lasts longer never heals by itself. So every few seconds the nodes that
// should be there (Config.Peers: the raft configuration and the admitted nodes)
// and are not get a fresh join. The first rounds after the start go to
// everybody: a node that restarted with another address is in conflict with its
// own old entry until that is declared dead, and its peers do not tell it.
//
// # Who owns what
//
// memberlist calls the delegate with its own lock held, where calling it back
// would deadlock. The delegate therefore only notes events; run takes them, one
// goroutine that calls OnChange and OnDead in order and rejoins on a timer.
// Joins and pings block, each in at most one further goroutine. Membership.mu
// guards the table and is a leaf lock. Close waits for all of ours.
package membership
