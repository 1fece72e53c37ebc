package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// The measures of the drawing, in pixels.
const (
	drawWidth = 1180
	labels    = 130 // room for the lanes' names
	right     = 60  // room for the scales
	rowHeight = 18
	plot      = 64 // height of a curve
	space     = 14 // between lanes
)

// canvas draws lanes from top to bottom on one time axis.
type canvas struct {
	t *timeline
	b strings.Builder
	y float64
}

func itoa[N int | int64 | uint64](n N) string { return fmt.Sprint(n) }

func (c *canvas) x(at int64) float64 {
	return labels + float64(at)/float64(c.t.end)*(drawWidth-labels-right)
}

func (c *canvas) f(format string, args ...any) { fmt.Fprintf(&c.b, format, args...) }

// draw is the whole timeline as SVG.
func (t *timeline) draw() template.HTML {
	c := &canvas{t: t, y: 4}
	c.row(lane{name: "phase", spans: t.phases}, true)
	for i, l := range t.faults {
		if i == 0 {
			l.name = "faults"
		}
		c.row(l, true)
	}
	if len(t.faults) == 0 {
		c.row(lane{name: "faults"}, false)
	}
	c.y += space
	for _, l := range t.nodes {
		c.row(l, false)
	}
	c.y += space
	c.row(lane{name: "no write acked", spans: t.gaps}, false)
	c.y += space
	c.curves("writes per second", []curve{{"acknowledged", "acked", t.acked, 0}, {"refused", "refused", t.refused, 0}, {"unknown", "unknown", t.lost, 0}}, false)
	c.curves("write latency, ms", []curve{{"max", "worst", t.worst, bridgeWrites}, {"p99", "p99", t.p99, bridgeWrites}, {"p50", "p50", t.p50, bridgeWrites}}, true)
	c.curves("queue depth", []curve{{"queued", "queued", t.queued, bridgeSamples}}, false)
	c.curves("leases (running)", []curve{{"running", "running", t.running, bridgeSamples}}, false)
	c.axis()
	head := fmt.Sprintf(`<svg role="img" aria-label="The run on one time axis" viewBox="0 0 %d %.0f" width="100%%">`, drawWidth, c.y+4)
	return template.HTML(head + c.b.String() + "</svg>") //nolint:gosec // every text in it is escaped
}

// row draws a lane of spans, with their texts inside where there is room.
func (c *canvas) row(l lane, inside bool) {
	c.label(l.name, c.y+rowHeight-5)
	for _, s := range l.spans {
		x, w := c.x(s.from), max(c.x(s.to)-c.x(s.from), 1.5)
		text := s.text
		if text != "" {
			text += ", "
		}
		text += seconds(s.from) + " to " + seconds(s.to) + " (" + seconds(s.to-s.from) + ")"
		c.f(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d"><title>%s</title></rect>`, s.class, x, c.y, w, rowHeight-3, html.EscapeString(text))
		if inside && w > 6.2*float64(len(s.text)) && s.text != "" {
			c.f(`<text class="in" x="%.1f" y="%.1f">%s</text>`, x+3, c.y+rowHeight-6.5, html.EscapeString(s.text))
		}
	}
	c.y += rowHeight
}

func (c *canvas) label(text string, y float64) {
	c.f(`<text class="label" x="%d" y="%.1f">%s</text>`, labels-8, y, html.EscapeString(text))
}

// curve is one line of a plot. It goes on over buckets without a value for at
// most so long: nodes are asked more seldom than clients write.
type curve struct {
	name, class string
	values      []float64
	bridge      int64
}

const (
	bridgeWrites  = 250e6
	bridgeSamples = 3e9
)

// curves plots values on one scale, logarithmic if they span decades.
func (c *canvas) curves(name string, list []curve, logarithmic bool) {
	top := 0.0
	for _, l := range list {
		for _, v := range l.values {
			if !math.IsNaN(v) {
				top = max(top, v)
			}
		}
	}
	bottom := 0.0
	if logarithmic {
		bottom = 0.5 // below half a millisecond there is nothing to see
	}
	top = max(nice(top), 1)
	height := func(v float64) float64 {
		if logarithmic {
			return math.Log(max(v, bottom)/bottom) / math.Log(top/bottom) * plot
		}
		return v / top * plot
	}
	c.label(name, c.y+12)
	for i, l := range list {
		c.f(`<text class="label key %s" x="%d" y="%.1f">%s</text>`, l.class, labels-8, c.y+26+float64(12*i), html.EscapeString(l.name))
	}
	base := c.y + plot
	c.f(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`,
		labels, drawWidth-right, base, base, labels, drawWidth-right, c.y, c.y)
	c.f(`<text class="scale" x="%d" y="%.1f">%s</text><text class="scale" x="%d" y="%.1f">%s</text>`,
		drawWidth-right+4, c.y+8, short(top), drawWidth-right+4, base, short(bottom))
	for _, l := range list {
		c.line(l, base, height)
	}
	c.y = base + space
}

// line draws one curve; where nothing is known it is broken.
func (c *canvas) line(l curve, base float64, height func(float64) float64) {
	var path strings.Builder
	last := int64(-1)
	for i, v := range l.values {
		if math.IsNaN(v) {
			continue
		}
		at := min(int64(i)*c.t.width+c.t.width/2, c.t.end)
		pen := "L"
		if last < 0 || at-last > max(l.bridge, c.t.width+1) {
			pen = "M"
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", pen, c.x(at), base-height(v))
		if pen == "M" {
			path.WriteString("h0.1") // a single point can be seen
		}
		last = at
	}
	c.f(`<path class="line %s" d="%s"/>`, l.class, path.String())
}

func (c *canvas) axis() {
	step := nice(float64(c.t.end) / 1e9 / 12)
	for i := 0; float64(i)*step*1e9 <= float64(c.t.end); i++ {
		s := float64(i) * step
		x := c.x(int64(s * 1e9))
		c.f(`<line class="tick" x1="%.1f" x2="%.1f" y1="0" y2="%.1f"/><text class="time" x="%.1f" y="%.1f">%s s</text>`, x, x, c.y-space+4, x, c.y, short(s))
	}
	c.y += 6
}

// nice rounds up to 1, 2 or 5 times a power of ten.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5, 10} {
		if v <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

func short(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

func seconds(ns int64) string { return fmt.Sprintf("%.3f s", float64(ns)/1e9) }
