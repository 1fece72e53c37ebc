// Package gossip is a memberlist.NodeAwareTransport over package transport, on
// connections of class Gossip.
//
// Packets travel as QUIC datagrams, or as one unidirectional stream each when
// they do not fit; push/pull and reliable messages travel on streams. There is
// no memberlist encryption: QUIC has it.
//
// Invariants:
//
//   - A packet or stream to a named node goes to the node whose certificate
//     says this name, or nowhere. memberlist names are node IDs.
//   - WriteTo never dials, waits for a peer, or blocks: memberlist calls it
//     from its probe loop. It files the packet in a bounded queue; a goroutine
//     per peer dials and sends. A full queue loses packets, as UDP does.
//   - Packets and streams that come in are from nodes of the cluster; what
//     they say about others is hearsay. Gossip is a hint: only commands change
//     membership.
//
// Goroutines: one sender per peer that was written to, gone after idleSender;
// three per accepted connection. Shutdown ends and waits for all of them.
// mu guards the table of senders and is a leaf lock.
package gossip
