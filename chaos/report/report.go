package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/chaos/check"
	"holdfast/chaos/history"
)

// The files of a report.
const (
	HTMLFile  = "report.html"
	JSONFile  = "report.json"
	JUnitFile = "junit.xml"
)

// Options are what the history does not tell.
type Options struct {
	// Faults are all that the tool could have injected: those that the run did
	// not are listed as not covered.
	Faults []string
	// Smallest is the smallest schedule that shows the violation, as YAML.
	Smallest string
	// Torn says what of the history could not be used.
	Torn history.Torn
	// Code is the run's exit code where the runner knows worse than the
	// history shows, and Why says what.
	Code int
	Why  []string
	// Patience is that of the checkers; zero is their default.
	Patience time.Duration
}

// Make judges the history in a run's folder and saves the report beside it.
func Make(dir string, opt Options) (*Report, error) {
	run, err := history.LoadRun(dir)
	if err != nil {
		return nil, err
	}
	j, err := check.Judge(run, history.Read(dir, run, &opt.Torn), check.Options{Patience: opt.Patience})
	if err != nil {
		return nil, err
	}
	r, err := New(run, j, func() iter.Seq2[*history.Event, error] { return history.Read(dir, run, nil) }, opt)
	if err != nil {
		return nil, err
	}
	return r, r.Save(dir)
}

// Report is the whole of a run's result, as report.json has it.
type Report struct {
	Run       *history.Run     `json:"run"`
	Code      int              `json:"code"` // as the command line ends with
	Verdict   string           `json:"verdict"`
	Why       []string         `json:"why,omitempty"`
	Judgement *check.Judgement `json:"judgement"`
	Uncovered []string         `json:"not_covered,omitempty"`
	Lives     []*life          `json:"lives,omitempty"` // of the tasks in violations
	Smallest  string           `json:"smallest_schedule,omitempty"`
	Torn      history.Torn     `json:"torn"`

	pictures []picture
	timeline *timeline
}

// picture is porcupine's, of one task.
type picture struct{ Task, Page string }

// mostPictures bounds the page: each holds a script of its own.
const mostPictures = 3

// New makes the report of a run. Events gives its history, as often as it is
// called.
func New(run *history.Run, j *check.Judgement, events func() iter.Seq2[*history.Event, error], opt Options) (*Report, error) {
	r := &Report{Run: run, Code: j.Code(), Judgement: j, Smallest: opt.Smallest, Torn: opt.Torn, Lives: broken(j)}
	if opt.Code != 0 {
		r.Code = opt.Code
	}
	r.Why = opt.Why
	r.Verdict = verdictText(r.Code)
	r.timeline = newTimeline(j.Duration, run.Nodes)
	if err := r.timeline.read(events()); err != nil {
		return nil, fmt.Errorf("draw the run: %w", err)
	}
	if len(r.Lives) > 0 {
		if err := tell(r.Lives, events()); err != nil {
			return nil, fmt.Errorf("tell the lives of tasks: %w", err)
		}
	}
	if err := r.draw(events); err != nil {
		return nil, err
	}
	r.uncovered(opt.Faults)
	return r, nil
}

func (r *Report) draw(events func() iter.Seq2[*history.Event, error]) error {
	v := r.Judgement.Verdict("linearizable")
	if v == nil {
		return nil
	}
	for i, x := range v.Violations {
		if i == mostPictures {
			break
		}
		var page bytes.Buffer
		if err := check.Picture(r.Run, events(), x.Task, x.Key, &page); err != nil {
			return fmt.Errorf("draw the operations of task %s: %w", x.Task, err)
		}
		r.pictures = append(r.pictures, picture{x.Task, page.String()})
	}
	return nil
}

// uncovered lists what this run says nothing of.
func (r *Report) uncovered(known []string) {
	for _, v := range r.Judgement.Verdicts {
		if v.Outcome == check.NotExercised || v.Outcome == check.Undecided {
			r.Uncovered = append(r.Uncovered, fmt.Sprintf("%s: %s", v.Check, v.Why))
		}
	}
	bit := map[string]bool{}
	for _, f := range r.Judgement.Faults {
		bit[f.Fault.Type] = bit[f.Fault.Type] || f.Bit > 0
	}
	var missing []string
	for _, name := range known {
		if !bit[name] {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		r.Uncovered = append(r.Uncovered, fmt.Sprintf("faults that did not bite in this run: %v", missing))
	}
	if r.Torn != (history.Torn{}) {
		r.Uncovered = append(r.Uncovered, fmt.Sprintf("lines that were not written whole: %d of the history, %d of the ledger", r.Torn.Events, r.Torn.Effects))
	}
	if r.Run.Stopped != "" {
		r.Uncovered = append(r.Uncovered, "the run ended early: "+r.Run.Stopped)
	}
}

func verdictText(code int) string {
	switch code {
	case check.CodeHeld:
		return "held"
	case check.CodeSafety:
		return "safety violated"
	case check.CodeBound:
		return "bound violated"
	case check.CodeNotHealed:
		return "heal not verified"
	case check.CodeInconclusive:
		return "inconclusive"
	}
	return "ended early"
}

// Save writes the three files into a run's folder.
func (r *Report) Save(dir string) error {
	var errs []error
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{{HTMLFile, r.HTML}, {JSONFile, r.JSON}, {JUnitFile, r.JUnit}} {
		var b bytes.Buffer
		if err := f.write(&b); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		errs = append(errs, os.WriteFile(filepath.Join(dir, f.name), b.Bytes(), 0o644))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("save the report: %w", err)
	}
	return nil
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// HTML writes the report for people.
func (r *Report) HTML(w io.Writer) error {
	return page.Execute(w, struct {
		*Report
		Drawing  template.HTML
		Pictures []picture
	}{r, r.timeline.draw(), r.pictures})
}
