package sandbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Examination is what one look at this machine found.
type Examination struct {
	Abilities []Ability // the last says whether tasks can run
	Proof     Proof
	Weaker    []string          // what it lacks and is allowed to
	Cannot    *ErrCannotIsolate // nil when tasks can run
}

// Lacks lists what is used where it is there, and is not there: nothing
// required, or Cannot would say so.
func (e Examination) Lacks() []Ability {
	return slices.DeleteFunc(slices.Clone(e.Abilities), func(a Ability) bool {
		return !a.lacking() || a.Need != NeedExplicit && a.Need != NeedOptional
	})
}

// Examine looks at the machine with a Runtime that is thrown away: it starts a
// launcher, proves the isolation as a node does, and removes everything. A
// machine that cannot isolate is no error. It needs no node; without root it
// tells what it sees, and nothing is tried.
func Examine(ctx context.Context, cfg Config) (Examination, error) {
	allowCoreLimit()
	return examineOn(ctx, readHostFacts(), cfg, 0)
}

func examineOn(ctx context.Context, host hostFacts, cfg Config, off control) (e Examination, err error) {
	r, err := newRuntimeOn(host, cfg, off)
	if err != nil {
		return e, err
	}
	defer func() {
		if cerr := r.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("remove what the examination made: %w", cerr))
		}
	}()
	e.Proof, err = r.Prove(ctx)
	if errors.As(err, &e.Cannot) {
		err = nil
	}
	if err != nil {
		return e, err
	}
	e.Abilities, e.Weaker = r.Abilities(), r.Weaker()
	if e.Cannot != nil {
		for i := range e.Abilities { // nothing runs, so nothing is in force
			e.Abilities[i].Enforced = false
		}
	}
	return e, nil
}
