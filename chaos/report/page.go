package report

import (
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ms":      func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1e6) },
	"bound":   boundText,
	"seconds": seconds,
	"words":   func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), "_", " ") },
	"list":    func(list []string) string { return strings.Join(list, ", ") },
	"ids":     func(list []int64) string { return strings.Trim(fmt.Sprint(list), "[]") },
	"utc":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
}).Parse(pageText))

func boundText(p99, most time.Duration) string {
	var parts []string
	if p99 > 0 {
		parts = append(parts, fmt.Sprintf("p99 %.0f", float64(p99)/1e6))
	}
	if most > 0 {
		parts = append(parts, fmt.Sprintf("max %.0f", float64(most)/1e6))
	}
	return strings.Join(parts, ", ")
}
