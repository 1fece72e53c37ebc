package node

import (
	"maps"
	"sync"
)

// addressBook remembers at which address each node was last seen: from the
// file of the last run, from the state, from gossip. It is a hint; a wrong
// address fails the certificate check of the node that is expected there.
type addressBook struct {
	mu    sync.Mutex
	addrs peerAddrs
	save  func(peerAddrs) error
	found peerAddrs // who proved to be at a configured address, just now
}

// whereabouts is who was found at the configured addresses last.
func (b *addressBook) whereabouts(node string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.found[node]
	return a, ok
}

// setFound replaces what was found before: an address that no longer answers
// counts no longer.
func (b *addressBook) setFound(found peerAddrs) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.found = found
}

func (b *addressBook) get(node string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.addrs[node]
	return a, ok
}

// set notes an address and stores the book if it is news.
func (b *addressBook) set(node, addr string) error {
	if node == "" || addr == "" {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.addrs[node] == addr {
		return nil
	}
	if b.addrs == nil {
		b.addrs = peerAddrs{}
	}
	b.addrs[node] = addr
	return b.save(b.addrs)
}

// forget drops a node that was removed.
func (b *addressBook) forget(node string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.addrs[node]; !ok {
		return nil
	}
	delete(b.addrs, node)
	return b.save(b.addrs)
}

func (b *addressBook) all() peerAddrs {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.addrs)
}
