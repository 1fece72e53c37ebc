package fsm

type meta struct{ LastTask TaskID }
type Snapshot struct {
	gen      uint32
	meta     meta
	nextPage uint64
}

func (s *Snapshot) keep(*task) {}
