package storage

import (
	"errors"
	"fmt"
)

var (
	// ErrNoStore: the folder holds no store, or one whose log is gone. A node
	// that expects an identity here must not vote; it rejoins as a new node.
	ErrNoStore = errors.New("no store")
	// ErrStoreExists: Create found a store and leaves it alone.
	ErrStoreExists = errors.New("a store already exists")
	// ErrIdentityMismatch: the store belongs to another node or cluster.
	ErrIdentityMismatch = errors.New("the store belongs to another node or cluster")
	// ErrDamaged is wrapped by every *DamageError.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrInUse: another process (or another Open in this one) holds the folder.
	ErrInUse = errors.New("the data folder is in use")
	// ErrFormat: the store was written by a release with a format unknown here.
	ErrFormat = errors.New("unknown format version")
	// ErrPermissions: group or others may read what only the owner may.
	ErrPermissions = errors.New("permissions are too open")
	// ErrPassphrase: the key file is wrapped and the passphrase is missing or wrong.
	ErrPassphrase = errors.New("wrong or missing passphrase")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrTooLarge: one entry, value or snapshot metadata exceeds its bound.
	ErrTooLarge = errors.New("too large to store")
	// ErrNotYet: a follower of a sealed stream has read all that was flushed.
	ErrNotYet = errors.New("no more data yet")
	// ErrTruncated: a sealed stream ends before its final chunk.
	ErrTruncated = errors.New("the stream ends before its final chunk")
	// ErrTailInUse: DropTail was asked to delete entries that may be committed.
	ErrTailInUse = errors.New("the log's tail may hold committed entries")

	// ErrKeyNotFound is what a stable store answers for an absent key. raft
	// compares the text, not the value, so it must read exactly like this.
	ErrKeyNotFound = errors.New("not found")
)

// DamageError says that bytes on the disk are not those that were written.
type DamageError struct {
	File  string // path of the file
	Where string // "entry 17", "offset 65580", "key CurrentTerm"
	Err   error  // what was noticed
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: %s: %v (%v): it is not served; rebuild this node from its peers, "+
		"or restore the folder and its key from the same backup", e.File, e.Where, ErrDamaged, e.Err)
}

// Unwrap lets errors.Is find ErrDamaged and the cause.
func (e *DamageError) Unwrap() []error { return []error{ErrDamaged, e.Err} }

// NeedsRejoin tells whether err, from Open, means that what this node promised
// under its identity (its vote, its acknowledged entries) is gone or cannot be
// trusted: the node must not vote under that identity and has to come back as
// a new one.
func NeedsRejoin(err error) bool {
	return errors.Is(err, ErrNoStore) || errors.Is(err, ErrDamaged)
}
