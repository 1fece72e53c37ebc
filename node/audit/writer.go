package audit

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
)

// writer owns the open file and the end of the chain.
type writer struct {
	cfg  *Config
	mac  hash.Hash
	head Head
	f    handle
	size int64 // of whole records; what lies beyond is a failed write's
	torn bool  // and could not be taken away yet
}

// handle is what the writer does with an *os.File.
type handle interface {
	io.Writer
	Sync() error
	Truncate(size int64) error
	Close() error
}

// open finds the end of the chain and a file to go on with.
func (w *writer) open() error {
	files, err := list(w.cfg.Dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return w.create(1)
	}
	last := files[len(files)-1]
	// Only the last file is read: reading all is Verify's, and takes long.
	head, err := scan(last, w.cfg.Key, Head{})
	w.head = head
	var fault *Fault
	switch {
	case err == nil:
		return w.reopen(last, -1, "")
	case !errors.As(err, &fault):
		return err
	case errors.Is(err, errTorn) && errors.Is(err, io.EOF):
		return w.cut(last, head)
	}
	if head.Seq == 0 {
		// Nothing of this file is good, so its name must do: the new file
		// must come after it.
		w.head = Head{Seq: last.first, Hash: genesis}
	}
	return w.breakOff(fault)
}

// cut takes off the half record that a crash left.
func (w *writer) cut(last file, head Head) error {
	b, err := os.ReadFile(last.path)
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	end := len(b)
	for end > 0 && b[end-1] != '\n' {
		end--
	}
	if head.Seq == 0 {
		w.head = Head{}
		if last.first > 1 {
			// An empty file after a rotation: the one before has the hash.
			if err := w.before(last); err != nil {
				return err
			}
		}
	}
	return w.reopen(last, int64(end), fmt.Sprintf("%d bytes of half a record in %s", len(b)-end, filepath.Base(last.path)))
}

// before takes the chain's end from the file before an empty one.
func (w *writer) before(last file) error {
	files, err := list(w.cfg.Dir)
	if err != nil {
		return err
	}
	if len(files) < 2 {
		w.head = Head{Seq: last.first - 1, Hash: genesis}
		return nil
	}
	w.head, err = scan(files[len(files)-2], w.cfg.Key, Head{})
	return err
}

// reopen goes on in the last file, cut to size if that is not negative.
func (w *writer) reopen(last file, size int64, was string) error {
	if w.head.Seq == 0 && last.first > 1 {
		if err := w.before(last); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(last.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	if size >= 0 {
		if err := f.Truncate(size); err != nil {
			return errors.Join(fmt.Errorf("cut the audit log: %w", err), f.Close())
		}
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("size of the audit log: %w", err), f.Close())
	}
	w.f, w.size = w.cfg.wrap(f), info.Size()
	if was == "" {
		return nil
	}
	return w.write([]Record{{Time: w.cfg.Now(), Action: "audit.cut", Target: was, Outcome: "ok"}})
}

// breakOff leaves a broken file as it is and goes on in a new one.
func (w *writer) breakOff(fault *Fault) error {
	if err := w.create(w.head.Seq + 1); err != nil {
		return err
	}
	return w.write([]Record{{Time: w.cfg.Now(), Action: "audit.broken", Target: fault.Error(), Outcome: "ok"}})
}

// create starts a file whose first record will be first.
func (w *writer) create(first uint64) error {
	f, err := os.OpenFile(pathOf(w.cfg.Dir, first), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("start an audit file: %w", err)
	}
	if err := syncDir(w.cfg.Dir); err != nil {
		return errors.Join(err, f.Close())
	}
	w.f, w.size = w.cfg.wrap(f), 0
	return nil
}

// write appends records: all of them or, on an error, none.
func (w *writer) write(records []Record) error {
	if w.torn {
		if err := w.f.Truncate(w.size); err != nil {
			return fmt.Errorf("take half a record off the audit log: %w", err)
		}
		w.torn = false
	}
	if w.size >= w.cfg.MaxBytes {
		if err := w.rotate(); err != nil {
			return err
		}
	}
	head := w.head
	var b []byte
	for _, r := range records {
		r.Seq, r.Prev = head.Seq+1, head.Hash
		if r.Seq == 1 {
			r.Prev = genesis
		}
		line, err := r.seal(w.mac)
		if err != nil {
			return err
		}
		b = append(b, line...)
		if head.First == 0 {
			head.First = r.Seq
		}
		head.Seq, head.Hash = r.Seq, r.Hash
	}
	if _, err := w.f.Write(b); err != nil {
		// Half of it may be there: take it away, or the next write would
		// follow half a record.
		cut := w.f.Truncate(w.size)
		w.torn = cut != nil
		return errors.Join(fmt.Errorf("write the audit log: %w", err), cut)
	}
	w.size += int64(len(b))
	w.head = head
	return nil
}

// rotate goes on in a new file and deletes the oldest beyond MaxFiles.
func (w *writer) rotate() error {
	if err := w.sync(); err != nil {
		return err
	}
	old := w.f
	if err := w.create(w.head.Seq + 1); err != nil {
		return err
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("close an audit file: %w", err)
	}
	if w.cfg.MaxFiles <= 0 {
		return nil
	}
	files, err := list(w.cfg.Dir)
	if err != nil {
		return err
	}
	for len(files) > w.cfg.MaxFiles {
		if err := os.Remove(files[0].path); err != nil {
			return fmt.Errorf("delete the oldest audit file: %w", err)
		}
		files = files[1:]
	}
	return nil
}

func (w *writer) sync() error {
	if err := w.f.Sync(); err != nil {
		return fmt.Errorf("sync the audit log: %w", err)
	}
	return nil
}

func (w *writer) close() error {
	return errors.Join(w.sync(), w.f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open the audit folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
