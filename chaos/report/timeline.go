package report

import (
	"iter"
	"math"
	"slices"

	"holdfast/chaos/history"
)

const (
	// buckets is how finely a run is drawn, whatever its length: one bar is a
	// bit more than a pixel.
	buckets = 600
	// minBucket keeps the bars of a short run from holding one answer each.
	minBucket = 100e6
	// shownGap is the shortest time without an acknowledged write that has a
	// mark of its own.
	shownGap = 250e6
)

// span is a part of the time axis.
type span struct {
	from, to int64
	class    string // of its drawing
	text     string
}

// lane is a named row of spans.
type lane struct {
	name  string
	spans []span
}

// timeline is a run on one time axis. The slices hold one value per bucket;
// NaN is nothing known.
type timeline struct {
	end, width           int64
	phases               []span
	faults               []lane
	nodes                []lane
	gaps                 []span
	acked, refused, lost []float64 // per second
	p50, p99, worst      []float64 // of acknowledged writes, milliseconds
	queued, running      []float64
	latencies            [][]float64
	lastAck              int64
	pending              map[int64]int64 // beginnings of writes by ID
	open                 map[int64]*span // faults in force, by ID
	order                []*span
	lastSample           map[string]*span
	sampled              map[string]int64
	named                []string
	phase                *span
	asked                int64 // when the last write was sent
}

func newTimeline(end int64, nodes []string) *timeline {
	t := &timeline{
		end: max(end, 1), pending: map[int64]int64{}, open: map[int64]*span{}, lastSample: map[string]*span{},
		sampled: map[string]int64{}, named: slices.Clone(nodes), lastAck: -1,
	}
	t.width = max(t.end/buckets, minBucket)
	n := int(t.end/t.width) + 1
	for _, s := range []*[]float64{&t.acked, &t.refused, &t.lost} {
		*s = make([]float64, n)
	}
	for _, s := range []*[]float64{&t.p50, &t.p99, &t.worst, &t.queued, &t.running} {
		*s = slices.Repeat([]float64{math.NaN()}, n)
	}
	t.latencies = make([][]float64, n)
	for _, name := range nodes {
		t.nodes = append(t.nodes, lane{name: name})
	}
	return t
}

// read draws a history.
func (t *timeline) read(events iter.Seq2[*history.Event, error]) error {
	for e, err := range events {
		if err != nil {
			return err
		}
		t.see(e)
	}
	t.finish()
	return nil
}

func (t *timeline) bucket(at int64) int { return int(min(max(at, 0), t.end) / t.width) }

func (t *timeline) see(e *history.Event) {
	switch e.Kind {
	case history.Enter:
		if t.phase != nil {
			t.phase.to = e.At
			t.phases = append(t.phases, *t.phase)
		}
		t.phase = &span{from: e.At, class: "phase", text: string(e.Phase)}
	case history.Invoke:
		if writes(e.Op) {
			t.pending[e.ID] = e.At
			t.asked = e.At
		}
	case history.OK, history.Refused, history.Unknown:
		t.ended(e)
	case history.Inject, history.Bit, history.Heal, history.Healed:
		t.fault(e)
	case history.Sample:
		t.sample(e)
	}
}

func writes(op history.Op) bool {
	return op == history.Submit || op == history.Probe || op == history.Cancel
}

func (t *timeline) ended(e *history.Event) {
	begun, write := t.pending[e.ID]
	if !write {
		return
	}
	delete(t.pending, e.ID)
	b := t.bucket(e.At)
	perSecond := 1e9 / float64(t.width)
	switch e.Kind {
	case history.OK:
		t.acked[b] += perSecond
		t.latencies[b] = append(t.latencies[b], float64(e.At-begun)/1e6)
		if t.lastAck >= 0 && e.At-t.lastAck >= shownGap {
			t.gaps = append(t.gaps, span{from: t.lastAck, to: e.At, class: "gap"})
		}
		t.lastAck = e.At
	case history.Refused:
		t.refused[b] += perSecond
	default:
		t.lost[b] += perSecond
	}
}

func (t *timeline) fault(e *history.Event) {
	s := t.open[e.ID]
	switch {
	case e.Kind == history.Inject:
		s = &span{from: e.At, to: -1, class: "toothless"}
		if e.Fault != nil {
			s.text = faultText(e.Fault)
		}
		t.open[e.ID] = s
		t.order = append(t.order, s)
	case s == nil:
	case e.Kind == history.Bit:
		s.class = "fault"
	case e.Kind == history.Heal && s.to < 0:
		s.to = e.At
	}
}

func faultText(f *history.Fault) string {
	text := f.Type
	if f.Role != "" {
		text += " " + f.Role
	}
	for i, n := range f.Targets {
		if i == 0 {
			text += ":"
		}
		text += " " + n
	}
	return text
}

func (t *timeline) sample(e *history.Event) {
	if e.State == nil {
		return
	}
	s := e.State
	if !slices.Contains(t.named, e.Node) {
		t.named = append(t.named, e.Node)
		t.nodes = append(t.nodes, lane{name: e.Node})
	}
	at := slices.Index(t.named, e.Node)
	class, text := "voter", s.Role
	switch {
	case s.Down:
		class, text = "down", "no answer"
	case s.Role == "leader":
		class = "leader"
	case s.Leader == "":
		class, text = "lost", s.Role+", knows no leader"
	}
	if s.Term > 0 {
		text += ", term " + itoa(s.Term)
	}
	if last := t.lastSample[e.Node]; last != nil {
		last.to = e.At
	}
	if last := t.lastSample[e.Node]; last == nil || last.text != text {
		t.nodes[at].spans = append(t.nodes[at].spans, span{from: e.At, to: e.At, class: class, text: text})
		t.lastSample[e.Node] = &t.nodes[at].spans[len(t.nodes[at].spans)-1]
	}
	if s.Down {
		return
	}
	// The highest counts of a bucket: what each node knows differs a little.
	b := t.bucket(e.At)
	t.queued[b] = higher(t.queued[b], float64(s.Queued))
	t.running[b] = higher(t.running[b], float64(s.Running))
}

func higher(a, b float64) float64 {
	if math.IsNaN(a) {
		return b
	}
	return max(a, b)
}

func (t *timeline) finish() {
	if t.phase != nil {
		t.phase.to = t.end
		t.phases = append(t.phases, *t.phase)
	}
	for b, list := range t.latencies {
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		t.p50[b], t.p99[b], t.worst[b] = nearest(list, 0.5), nearest(list, 0.99), list[len(list)-1]
	}
	t.latencies = nil
	if t.lastAck >= 0 && t.asked-t.lastAck >= shownGap {
		t.gaps = append(t.gaps, span{from: t.lastAck, to: t.asked, class: "gap"})
	}
	// Each fault goes to the first row that has room at its time.
	var busy []int64
	for _, s := range t.order {
		if s.to < 0 {
			s.to = t.end
		}
		row := slices.IndexFunc(busy, func(until int64) bool { return until <= s.from })
		if row < 0 {
			row = len(busy)
			busy = append(busy, 0)
			t.faults = append(t.faults, lane{})
		}
		busy[row] = s.to
		t.faults[row].spans = append(t.faults[row].spans, *s)
	}
}

func nearest(sorted []float64, q float64) float64 {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}
