package outputs

import "testing"

func TestExceededIsToldOnce(t *testing.T) {
	s := open(t, Config{})
	o := create(t, s, 1, 10)
	told := 0
	o.OnExceeded(func() { told++ })
	put(t, o.Stdout(), "12345")
	put(t, o.Stderr(), "67890")
	if told != 0 {
		t.Error("told at the limit, want beyond it")
	}
	put(t, o.Stderr(), "x")
	put(t, o.Stdout(), "y")
	if sum := o.Finish(); told != 1 || !sum.Truncated || sum.StdoutBytes+sum.StderrBytes != 10 {
		t.Errorf("told %d times, %+v", told, sum)
	}
	// A folder that is full is not the task's limit.
	small := open(t, Config{MaxBytes: 1})
	o = create(t, small, 2, 10)
	o.OnExceeded(func() { t.Error("told of the folder's bound") })
	put(t, o.Stdout(), "12345")
	o.(*recorder).flushNow() // finds no room
	put(t, o.Stdout(), "6")
	o.Finish()
}
