package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress shows how the run goes: one line drawn again on a terminal, a line
// every few seconds elsewhere.
type progress struct {
	out      io.Writer
	terminal bool
	total    int

	mu       sync.Mutex
	start    time.Time
	last     time.Time
	line     string
	finished int
}

const (
	barWidth = 30
	plainGap = 3 * time.Second
)

func newProgress(out io.Writer, terminal bool, total int) *progress {
	return &progress{out: out, terminal: terminal, total: total, start: time.Now()}
}

// say prints an event on a line of its own.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	_, _ = fmt.Fprintf(p.out, "%6.2fs  %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
	p.draw()
}

func (p *progress) update(queued, running, finished int, leader string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished = finished
	if leader == "" {
		leader = "nobody"
	}
	full := min(barWidth, finished*barWidth/p.total)
	p.clear()
	p.line = fmt.Sprintf("[%s%s] %d queued, %d running, %d of %d done; %s leads",
		strings.Repeat("#", full), strings.Repeat(".", barWidth-full), queued, running, finished, p.total, leader)
	p.draw()
}

// done is how many tasks had ended when last seen.
func (p *progress) done() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finished
}

// end leaves the last state on the screen.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.line != "" {
		_, _ = fmt.Fprintln(p.out)
	}
	p.line = ""
}

func (p *progress) clear() {
	if p.terminal && p.line != "" {
		_, _ = io.WriteString(p.out, "\r\x1b[K")
	}
}

func (p *progress) draw() {
	switch {
	case p.line == "":
	case p.terminal:
		_, _ = io.WriteString(p.out, p.line)
	case time.Since(p.last) >= plainGap:
		p.last = time.Now()
		_, _ = fmt.Fprintf(p.out, "%6.2fs  %s\n", time.Since(p.start).Seconds(), p.line)
	}
}
