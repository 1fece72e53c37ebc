package fsm

import (
	"fmt"
	"strconv"
	"strings"
)

// TaskID numbers tasks in the order in which the state machine accepted them,
// from 1. Its text form is "t" and the decimal number, as in t1042.
type TaskID uint64

// String returns the text form.
func (id TaskID) String() string { return "t" + strconv.FormatUint(uint64(id), 10) }

// ParseTaskID reads the text form. Zero is no task.
func ParseTaskID(s string) (TaskID, error) {
	digits, ok := strings.CutPrefix(s, "t")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || n == 0 || digits[0] == '0' || digits[0] == '+' {
		return 0, fmt.Errorf("task id %q: want t and a number, as in t1042", s)
	}
	return TaskID(n), nil
}

// NodeID is the fingerprint of a node's public key (see transport/pki).
type NodeID string

// RequestID makes a retried command take effect once. The zero value asks for
// no such protection.
type RequestID [16]byte
