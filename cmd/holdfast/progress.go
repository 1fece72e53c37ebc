package main

import (
	"fmt"
	"strings"
	"time"
)

// progress is a line on a terminal that counts what was done. On anything else
// it prints nothing. One goroutine uses it.
type progress struct {
	app   *app
	what  string
	on    bool
	shown time.Time
	begin time.Time
	now   func() time.Time
}

// redraw is often enough to look alive and too rare to cost anything.
const redraw = 100 * time.Millisecond

func (a *app) progress(what string) *progress {
	p := &progress{app: a, what: what, on: a.errTTY && !a.quiet, now: time.Now}
	p.begin = p.now()
	return p
}

// bar shows done and refused of total; total below 1 is unknown.
func (p *progress) bar(done, refused, total int) {
	if !p.on || p.now().Sub(p.shown) < redraw {
		return
	}
	p.shown = p.now()
	rate := float64(done) / max(p.now().Sub(p.begin).Seconds(), 0.001)
	line := fmt.Sprintf("%s %d", p.what, done)
	if total > 0 {
		const cells = 30
		full := cells * min(done, total) / total
		line = fmt.Sprintf("%s [%s%s] %d/%d", p.what, strings.Repeat("=", full), strings.Repeat(" ", cells-full), done, total)
	}
	if refused > 0 {
		line += fmt.Sprintf(", %d refused", refused)
	}
	fmt.Fprintf(p.app.err, "\r\x1b[K%s  %.0f/s", line, rate)
}

// clear removes the line.
func (p *progress) clear() {
	if p.on && !p.shown.IsZero() {
		fmt.Fprint(p.app.err, "\r\x1b[K")
		p.shown = time.Time{}
	}
}
