package gameday

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// entry is a line of the journal: what was asked, what was answered, and what
// was done and undone. It is written and synced before the deed.
type entry struct {
	Time   time.Time `json:"time"`
	What   string    `json:"what"` // refused, act, heal, healed, not-healed
	Why    string    `json:"why,omitempty"`
	Order  *Order    `json:"order,omitempty"`
	Target *target   `json:"target,omitempty"`
	TookMS int64     `json:"took_ms,omitempty"`
}

// target is a process, told from a later one with the same number by its start.
type target struct {
	PID   int    `json:"pid"`
	Start string `json:"start"`
}

// journal is the guardian's memory: orders that were used, and a fault that
// may still be in force.
type journal struct {
	f    *os.File
	used map[string]time.Time // nonces, until they expire
	open *entry               // an act without a heal
}

// openJournal reads what is there. A half line at the end, of a crash, had no
// deed behind it.
func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the guardian's journal: %w", err)
	}
	j := &journal{f: f, used: map[string]time.Time{}}
	in := bufio.NewReader(f)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				_, err = f.WriteString("\n")
			} else {
				err = nil
			}
			return j, err
		}
		var e entry
		if err == nil && json.Unmarshal(line, &e) == nil {
			j.note(&e)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read %s line %d: %w", path, n, err), f.Close())
		}
	}
}

func (j *journal) note(e *entry) {
	if e.Order != nil {
		j.used[e.Order.Nonce] = e.Order.Expires
	}
	switch e.What {
	case "act":
		j.open = e
	case "healed":
		j.open = nil
	}
}

// write adds a line and returns once it is on the disk.
func (j *journal) write(e entry) error {
	e.Time = time.Now().UTC()
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.f.Write(append(b, '\n'))
	if err = errors.Join(err, j.f.Sync()); err != nil {
		return fmt.Errorf("write the guardian's journal: %w", err)
	}
	j.note(&e)
	return nil
}

// fresh reports whether a nonce was not used before, and forgets old ones.
func (j *journal) fresh(nonce string, now time.Time) bool {
	for n, until := range j.used {
		if now.After(until.Add(time.Minute)) {
			delete(j.used, n)
		}
	}
	_, used := j.used[nonce]
	return !used
}
