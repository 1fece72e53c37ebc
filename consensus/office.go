package consensus

import (
	"encoding/binary"
	"errors"

	"github.com/hashicorp/raft"
)

// An entry is bound to its office.
//
// What a leader decides rests on what it knows in its office: that a worker was
// silent for its whole lease, above all. The naive design appends the decision
// whenever this node leads. It breaks when a node loses its office and gains
// the next but one while a proposal waits, in the proposer's queue or in the
// library's channel: meanwhile another leader may have renewed that worker's
// lease, and two attempts of one task run side by side.
//
// So the proposer refuses what an earlier office left, and each entry carries
// the term of its office in the field that the library keeps for such things.
// If the library appended it in another term all the same, every replica sees
// the two differ and applies no command of it.

// errOtherOffice is the outcome of an entry that was appended in another term
// than its office's. None of its commands took effect, on any replica.
var errOtherOffice = errors.New("consensus: the entry was appended after its office had ended")

// bind is what an entry carries of its office.
func bind(term uint64) []byte { return binary.AppendUvarint(nil, term) }

// otherOffice reports whether an entry was appended in another term than it is
// bound to. Entries that carry nothing are bound to none.
func otherOffice(l *raft.Log) bool {
	if len(l.Extensions) == 0 {
		return false
	}
	term, n := binary.Uvarint(l.Extensions)
	return n != len(l.Extensions) || term != l.Term
}
