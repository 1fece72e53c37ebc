package figures

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVerdicts(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		name    string
		f       Figure
		value   float64
		verdict string
	}{
		{"median of odd", Figure{Stat: Median, Bound: AtLeast, Target: 2, Samples: []float64{3, 1, 2}}, 2, Reached},
		{"median of even", Figure{Stat: Median, Bound: AtLeast, Target: 2, Samples: []float64{3, 1, 2, 0}}, 1.5, NotReached},
		{"p99 of 100", Figure{Stat: P99, Bound: AtMost, Target: 99, Samples: hundred}, 99, Reached},
		{"p99 of few is the worst", Figure{Stat: P99, Bound: AtMost, Target: 2, Samples: []float64{1, 1, 3}}, 3, NotReached},
		{"max", Figure{Stat: Max, Bound: AtMost, Target: 99, Samples: hundred}, 100, NotReached},
		{"sum", Figure{Stat: Sum, Bound: AtMost, Target: 0, Samples: []float64{0, 1}}, 1, NotReached},
		{"no target", Figure{Stat: Median, Samples: []float64{1}}, 1, NoTarget},
		{"no samples", Figure{Stat: Median, Bound: AtMost, Target: 1}, 0, NotMeasured},
	} {
		if v, _ := c.f.Value(); v != c.value || c.f.Verdict() != c.verdict {
			t.Errorf("%s: %v, %s; want %v, %s", c.name, v, c.f.Verdict(), c.value, c.verdict)
		}
	}
}

func TestSet(t *testing.T) {
	var s Set
	s.Define(Figure{ID: "a", What: "A", Stat: Median}, Figure{ID: "b"}, Figure{ID: "a", What: "again"})
	if s.Add("c", 1) == nil {
		t.Error("a sample of nothing was taken")
	}
	if s.Add("a", math.Inf(1)) == nil || s.Add("a", math.NaN()) == nil {
		t.Error("a division by zero was taken")
	}
	if err := s.Merge([]Figure{{ID: "a", Samples: []float64{1, 2}, Notes: []string{"100 %"}}, {ID: "new", Samples: []float64{3}}}); err != nil {
		t.Fatal(err)
	}
	s.Note("a", "100 %%")
	want := []Figure{{ID: "a", What: "A", Stat: Median, Samples: []float64{1, 2}, Notes: []string{"100 %"}}, {ID: "b"}, {ID: "new", Samples: []float64{3}}}
	if d := cmp.Diff(want, s.Figures()); d != "" {
		t.Error(d)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	err := WriteTable(&b, []Figure{
		{What: "commits", Unit: "/s", Stat: Median, Bound: AtLeast, Target: 50000, Samples: []float64{61234.5, 48000, 52000}},
		{What: "pause", Unit: "ms", Stat: P99, Bound: AtMost, Target: 50, Samples: []float64{7.123}, Notes: []string{"by evidence"}},
		{What: "ratio", Unit: "x", Stat: Median},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `| what | target | measured | range | n | verdict |
|---|---|---|---|---|---|
| commits | at least 50,000/s | 52,000/s | 48,000/s to 61,234/s | 3 | reached |
| pause | at most 50 ms | p99 7.12 ms | - | 1 | reached |
| ratio | - | - | - | 0 | not measured |

- pause: by evidence
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}
