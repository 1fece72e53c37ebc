package figures

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// WriteTable writes a Markdown table of figures.
func WriteTable(w io.Writer, list []Figure) error {
	b := &strings.Builder{}
	b.WriteString("| what | target | measured | range | n | verdict |\n|---|---|---|---|---|---|\n")
	for _, f := range list {
		measured, spread := "-", "-"
		if v, ok := f.Value(); ok {
			measured = Format(v, f.Unit)
			if f.Stat == P99 || f.Stat == Max {
				measured = string(f.Stat) + " " + measured
			}
			spread = Format(slices.Min(f.Samples), f.Unit) + " to " + Format(slices.Max(f.Samples), f.Unit)
			if len(f.Samples) == 1 {
				spread = "-"
			}
		}
		target := "-"
		if f.Bound != Reported {
			target = string(f.Bound) + " " + Format(f.Target, f.Unit)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %d | %s |\n", f.What, target, measured, spread, len(f.Samples), f.Verdict())
	}
	notes := ""
	for _, f := range list {
		for _, n := range f.Notes {
			notes += fmt.Sprintf("- %s: %s\n", f.What, n)
		}
	}
	if notes != "" {
		b.WriteString("\n" + notes)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Format writes a value with a sensible precision: three digits or so.
func Format(v float64, unit string) string {
	var s string
	switch a := max(v, -v); {
	case a >= 1000:
		s = thousands(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 100, v == float64(int64(v)):
		s = strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		s = strconv.FormatFloat(v, 'f', 1, 64)
	default:
		s = strconv.FormatFloat(v, 'f', 2, 64)
	}
	switch unit {
	case "":
		return s
	case "x", "%":
		return s + " " + map[string]string{"x": "times", "%": "%"}[unit]
	case "/s":
		return s + "/s"
	}
	return s + " " + unit
}

func thousands(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
