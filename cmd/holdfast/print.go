package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Colours as SGR parameters.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	bold   = "1"
)

var stateColour = map[string]string{
	"succeeded": green, "failed": red, "expired": red, "cancelled": yellow, "running": blue,
	"ready": green, "draining": yellow, "lost": red, "removed": red, "leader": bold,
	"held": green, "escaped": red, "not tried": yellow,
}

// paint colours s if tty is a terminal and nobody asked for none
// (https://no-color.org).
func (a *app) paint(tty bool, colour, s string) string {
	if no, _ := a.env("NO_COLOR"); !tty || no != "" || a.noColor || colour == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// clean makes text from elsewhere safe for a terminal: control characters,
// which could rewrite the screen, become spaces or U+FFFD.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// table prints aligned columns. States are coloured on a terminal.
type table struct {
	app  *app
	rows [][]string
}

func (a *app) table(head ...string) *table { return &table{a, [][]string{head}} }

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		cells[i] = strings.ReplaceAll(clean(c), "\n", " ")
	}
	t.rows = append(t.rows, cells)
}

func (t *table) print(w io.Writer) {
	rows := t.rows
	if t.app.quiet {
		rows = rows[1:] // no heading
	}
	width := make([]int, len(t.rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for n, r := range rows {
		var b strings.Builder
		for i, c := range r {
			colour := stateColour[c]
			if n == 0 && !t.app.quiet {
				colour = bold
			}
			b.WriteString(t.app.paint(t.app.outTTY, colour, c))
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c)+2))
			}
		}
		fmt.Fprintln(w, b.String())
	}
}

// fields prints names and values, one a line; empty values are left out.
func (a *app) fields(pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, len(pairs[i]))
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if v := clean(pairs[i+1]); v != "" {
			v = strings.ReplaceAll(strings.TrimRight(v, "\n"), "\n", "\n"+strings.Repeat(" ", width+2))
			fmt.Fprintf(a.out, "%-*s  %s\n", width, pairs[i], a.paint(a.outTTY, stateColour[v], v))
		}
	}
}

func labels(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

func stamp(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// size prints bytes in binary units.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d %s", int64(v), units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
