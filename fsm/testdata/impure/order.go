package impure

import "time"

type set map[string]int

type holder struct{ byName set }

func order(h *holder, plain map[int]int, list []int) (n int) {
	for range list {
		n++
	}
	for _, v := range plain { // want "ranges over a map"
		n += v
	}
	for name := range h.byName { // want "ranges over a map"
		n += len(name)
	}
	go order(h, nil, nil)  // want "starts a goroutine"
	done := make(chan int) // want "has a channel"
	select {               // want "selects"
	case <-done:
	default:
	}
	return n
}

// A variable that is named like a package is not the package.
func shadow() int {
	time := struct{ Now int }{1}
	return time.Now
}

var _ time.Duration
