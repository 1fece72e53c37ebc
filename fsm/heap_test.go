package fsm

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

type heapThing struct{ v, pos int }

func (a *heapThing) less(b *heapThing) bool { return a.v < b.v }
func (a *heapThing) setPos(p int)           { a.pos = p }

func TestHeap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var h minHeap[*heapThing]
		var all []*heapThing
		fresh := 0
		value := func() int { fresh++; return rapid.IntRange(0, 100).Draw(rt, "v")*1000 + fresh }
		rt.Repeat(map[string]func(*rapid.T){
			"push": func(*rapid.T) {
				x := &heapThing{v: value()}
				all = append(all, x)
				h.push(x)
			},
			"remove": func(*rapid.T) {
				if len(all) == 0 {
					rt.Skip()
				}
				i := rapid.IntRange(0, len(all)-1).Draw(rt, "i")
				h.remove(all[i].pos)
				if all[i].pos != 0 {
					rt.Fatal("a removed item knows a position")
				}
				all = slices.Delete(all, i, i+1)
			},
			"fix": func(*rapid.T) {
				if len(all) == 0 {
					rt.Skip()
				}
				x := all[rapid.IntRange(0, len(all)-1).Draw(rt, "i")]
				x.v = value()
				h.fix(x.pos)
			},
			"": func(*rapid.T) {
				var want, got []int
				for i, x := range h.items {
					if x.pos != i+1 {
						rt.Fatalf("item %d knows position %d", i+1, x.pos)
					}
				}
				for _, x := range all {
					want = append(want, x.v)
				}
				slices.Sort(want)
				k := min(len(want), 5)
				h.ascend(func(x *heapThing) bool {
					got = append(got, x.v)
					return len(got) < k
				})
				if !slices.Equal(got, want[:min(k, len(got))]) || len(got) < k {
					rt.Fatalf("least %v of %v", got, want)
				}
			},
		})
	})
}

// The table finds what is there, in order, whatever is removed.
func TestTaskTable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tbl taskTable
		var ids []TaskID
		last := TaskID(rapid.IntRange(0, 1000).Draw(rt, "start"))
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(*rapid.T) {
				for range rapid.IntRange(1, 400).Draw(rt, "n") {
					last += TaskID(rapid.SampledFrom([]int{1, 1, 1, 1, 500}).Draw(rt, "gap"))
					tbl.put(&task{id: last})
					ids = append(ids, last)
				}
			},
			"remove": func(*rapid.T) {
				if len(ids) == 0 {
					rt.Skip()
				}
				from := rapid.IntRange(0, len(ids)-1).Draw(rt, "from")
				to := min(len(ids), from+rapid.IntRange(1, 600).Draw(rt, "n"))
				for _, id := range ids[from:to] {
					tbl.remove(tbl.get(id))
				}
				ids = slices.Delete(ids, from, to)
			},
			"": func(*rapid.T) {
				var up, down []TaskID
				tbl.ascend(0, len(tbl.pages), func(x *task) bool { up = append(up, x.id); return true })
				tbl.descend(maxTaskID, len(tbl.pages), func(x *task) bool { down = append(down, x.id); return true })
				slices.Reverse(down)
				if !slices.Equal(up, ids) || !slices.Equal(down, ids) || tbl.n != len(ids) {
					rt.Fatalf("%d up, %d down, want %d", len(up), len(down), len(ids))
				}
				for i, id := range ids {
					if tbl.get(id) == nil || tbl.get(id).id != id {
						rt.Fatalf("%s is not found", id)
					}
					if i > 0 && id > ids[i-1]+1 && tbl.get(id-1) != nil {
						rt.Fatalf("%s is found", id-1)
					}
				}
			},
		})
	})
}
