package run

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/chaos/check"
	"holdfast/chaos/history"
	"holdfast/chaos/report"
	"holdfast/chaos/scenario"
)

// judge has the history judged, and adds what is not in it.
func (r *runner) judge() error {
	var torn history.Torn
	j, err := check.Judge(r.meta, history.Read(r.opt.Out, r.meta, &torn), check.Options{})
	if err != nil {
		return err
	}
	t := r.tap
	t.mu.Lock()
	defer t.mu.Unlock()
	r.res.Judgement, r.res.Acked, r.res.Elections = j, j.Acked, t.changes
	r.res.Injected, r.res.Bit, r.res.Skipped, r.res.Violations = t.injected, t.bit, t.skipped, t.violations
	r.res.Code = r.code(j.Code())
	var faults []string
	for _, f := range scenario.Faults {
		if slices.Contains(f.Tiers, scenario.Live) {
			faults = append(faults, f.Name)
		}
	}
	page, err := report.New(r.meta, j, func() iter.Seq2[*history.Event, error] { return history.Read(r.opt.Out, r.meta, nil) },
		report.Options{Faults: faults, Torn: torn, Code: r.res.Code, Why: slices.Concat(r.res.Violations, r.res.Why)})
	if err != nil {
		return err
	}
	r.res.Report = filepath.Join(r.opt.Out, report.HTMLFile)
	return page.Save(r.opt.Out)
}

// code is the exit code: what a reader must hear first.
func (r *runner) code(judged int) int {
	b := r.scn.Bounds
	late := b.Elections != nil && r.res.Elections > *b.Elections
	if late {
		r.res.Why = append(r.res.Why, fmt.Sprintf("the leader changed %d times, at most %d are allowed", r.res.Elections, *b.Elections))
	}
	few := r.res.Bit < b.MinBites
	if few {
		r.res.Why = append(r.res.Why, fmt.Sprintf("%d faults bit, at least %d must", r.res.Bit, b.MinBites))
	}
	switch {
	case len(r.res.Violations) > 0 || judged == check.CodeSafety:
		return check.CodeSafety
	case r.meta.Stopped == "halted":
		return CodeHalted
	case late || judged == check.CodeBound:
		return check.CodeBound
	case judged != check.CodeHeld:
		return judged
	case few || r.meta.Stopped != "":
		return check.CodeInconclusive
	}
	return check.CodeHeld
}

// machine is what a figure cannot be read without.
func machine() map[string]string {
	m := map[string]string{"cores": fmt.Sprint(runtime.NumCPU()), "go": runtime.Version()}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m["memory"] = fmt.Sprintf("%d MiB", uint64(info.Totalram)*uint64(info.Unit)>>20)
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m["kernel"] = "Linux " + unix.ByteSliceToString(name.Release[:])
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m["load average before"] = strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return m
}

func hashOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the binary: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read the binary: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
