package node

import (
	"testing"
	"time"
)

func TestBusyWhileEntriesAreApplied(t *testing.T) {
	applied, now := uint64(7), time.Unix(100, 0)
	busy := busyWhile(func() uint64 { return applied }, func() time.Time { return now })
	if !busy() {
		t.Error("an entry was just seen for the first time")
	}
	now = now.Add(busySpan)
	if busy() {
		t.Error("nothing was applied for the whole span")
	}
	applied++
	if !busy() {
		t.Error("an entry was applied")
	}
}
