package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
)

// Torn says what of a history could not be used: the end of a line that a
// killed tester, or a killed task, had no time to write.
type Torn struct {
	Events  int // lines left out of the history: at most one, its last
	Effects int // lines left out of the ledger
}

// Read yields the events of a run's folder and then the effects of its ledger,
// which have their own order. A last line without its end is left out, counted
// in torn (which may be nil) when the iteration is over; damage anywhere else
// is an error, which ends the iteration.
func Read(dir string, run *Run, torn *Torn) iter.Seq2[*Event, error] {
	if torn == nil {
		torn = new(Torn)
	}
	return func(yield func(*Event, error) bool) {
		for e, err := range readFile(filepath.Join(dir, EventsFile), func(r io.Reader) iter.Seq2[*Event, error] {
			return Events(r, torn)
		}) {
			if !yield(e, err) || err != nil {
				return
			}
		}
		for e, err := range readFile(filepath.Join(dir, EffectsFile), func(r io.Reader) iter.Seq2[*Event, error] {
			return effects(r, run, torn)
		}) {
			if errors.Is(err, fs.ErrNotExist) {
				return // a run whose tasks had no effects
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func readFile(path string, read func(io.Reader) iter.Seq2[*Event, error]) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(nil, fmt.Errorf("read a history: %w", err))
			return
		}
		defer f.Close()
		for e, err := range read(f) {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// lines gives whole lines with their numbers to visit until it says false. A
// last line without its end is counted in torn.
func lines(r io.Reader, torn *int, visit func(int64, []byte) bool) error {
	in := bufio.NewReaderSize(r, 1<<20)
	for n := int64(1); ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil {
			if len(line) > 0 {
				*torn++
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if !visit(n, bytes.TrimSpace(line)) {
			return nil
		}
	}
}

// Events yields the events of one stream of lines.
func Events(r io.Reader, torn *Torn) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		err := lines(r, &torn.Events, func(n int64, line []byte) bool {
			e := new(Event)
			if err := json.Unmarshal(line, e); err != nil {
				yield(nil, fmt.Errorf("line %d: %w", n, err))
				return false
			}
			return yield(e, nil)
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// effects yields the lines of a ledger. Tasks are killed at any moment, some
// in the middle of a write to a full disk: a line that is no effect is counted
// and passed over.
func effects(r io.Reader, run *Run, torn *Torn) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		err := lines(r, &torn.Effects, func(n int64, line []byte) bool {
			e, err := ParseEffect(string(line), n, run.Started)
			if err != nil {
				torn.Effects++
				return true
			}
			return yield(&e, nil)
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// Slice is a history in memory, as one from a simulation, in the form that
// checkers take.
func Slice(events []Event) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		for i := range events {
			if !yield(&events[i], nil) {
				return
			}
		}
	}
}
