package fsm

import (
	"fmt"
	"time"
	"unicode/utf8"
)

// Validate checks a shape against the bounds. Every replica applies the same.
func (s *Shape) Validate() error {
	switch {
	case s.Priority > maxPriority:
		return fmt.Errorf("priority %d is over %d", s.Priority, maxPriority)
	case s.CPUMillis > maxCPUMillis:
		return fmt.Errorf("%d CPU millis are over %d", s.CPUMillis, maxCPUMillis)
	case s.MemoryBytes > maxMemoryBytes:
		return fmt.Errorf("%d bytes of memory are over %d", s.MemoryBytes, uint64(maxMemoryBytes))
	case s.Placement > Pack:
		return fmt.Errorf("unknown placement %d", s.Placement)
	case s.OnLost > OnLostFail:
		return fmt.Errorf("unknown on_lost %d", s.OnLost)
	case s.RetryLimit > maxRetryLimit:
		return fmt.Errorf("retry limit %d is over %d", s.RetryLimit, maxRetryLimit)
	case len(s.Constraints) > maxConstraints:
		return fmt.Errorf("%d constraints are over %d", len(s.Constraints), maxConstraints)
	}
	for _, d := range []time.Duration{s.QueueTimeout, s.RunTimeout, s.RetryBackoff} {
		if d < 0 || d > MaxDuration {
			return fmt.Errorf("duration %v is out of range, at most %v", d, MaxDuration)
		}
	}
	for i := range s.Constraints {
		if err := s.Constraints[i].validate(); err != nil {
			return err
		}
	}
	if err := validateAbilities(s.Abilities); err != nil {
		return err
	}
	return validateLabels(s.Labels)
}

func (c *Constraint) validate() error {
	if err := validateText("constraint's key", c.Key, 1, maxKeyBytes); err != nil {
		return err
	}
	switch c.Op {
	case In, NotIn:
		if len(c.Values) == 0 || len(c.Values) > maxConstraintValues {
			return fmt.Errorf("constraint on %q has %d values, want 1 to %d", c.Key, len(c.Values), maxConstraintValues)
		}
	case Exists, NotExists:
		if len(c.Values) != 0 {
			return fmt.Errorf("constraint on %q takes no values", c.Key)
		}
	default:
		return fmt.Errorf("constraint on %q has the unknown operator %d", c.Key, c.Op)
	}
	for _, v := range c.Values {
		if err := validateText("constraint's value", v, 0, maxValueBytes); err != nil {
			return err
		}
	}
	return nil
}

func validateAbilities(abilities []string) error {
	if len(abilities) > maxAbilities {
		return fmt.Errorf("%d abilities are over %d", len(abilities), maxAbilities)
	}
	for _, a := range abilities {
		if err := validateText("ability", a, 1, maxKeyBytes); err != nil {
			return err
		}
	}
	return nil
}

func validateLabels(labels []Label) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels are over %d", len(labels), maxLabels)
	}
	for i, l := range labels {
		if err := validateText("label's key", l.Key, 1, maxKeyBytes); err != nil {
			return err
		}
		if err := validateText("label's value", l.Value, 0, maxValueBytes); err != nil {
			return err
		}
		if i > 0 && labels[i-1].Key >= l.Key {
			return fmt.Errorf("labels are not sorted by key: %q before %q", labels[i-1].Key, l.Key)
		}
	}
	return nil
}

func validateText(what, s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return fmt.Errorf("%s has %d bytes, want %d to %d", what, len(s), least, most)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", what)
	}
	return nil
}

func (id NodeID) validate() error { return validateText("node ID", string(id), 1, maxKeyBytes) }

func (n *Node) validate() error {
	if err := n.ID.validate(); err != nil {
		return err
	}
	for _, f := range []struct{ what, s string }{
		{"node's name", n.Name}, {"node's address", n.Addr}, {"node's version", n.Version},
	} {
		if err := validateText(f.what, f.s, 0, maxNameBytes); err != nil {
			return err
		}
	}
	switch {
	case n.CPUMillis > maxCPUMillis:
		return fmt.Errorf("%d CPU millis are over %d", n.CPUMillis, maxCPUMillis)
	case n.MemoryBytes > maxMemoryBytes:
		return fmt.Errorf("%d bytes of memory are over %d", n.MemoryBytes, uint64(maxMemoryBytes))
	case n.Incarnation == 0:
		return fmt.Errorf("the incarnation is missing")
	}
	if err := validateAbilities(n.Abilities); err != nil {
		return err
	}
	if len(n.Weaker) > maxWeaker {
		return fmt.Errorf("%d walls that are done without are over %d", len(n.Weaker), maxWeaker)
	}
	for _, w := range n.Weaker {
		if err := validateText("wall that is done without", w, 1, maxWeakerBytes); err != nil {
			return err
		}
	}
	return validateLabels(n.Labels)
}

// Matches reports whether a node with these labels (sorted or not) satisfies
// the constraint. A missing label is in no list of values.
func (c *Constraint) Matches(labels []Label) bool {
	value, found := "", false
	for i := range labels {
		if labels[i].Key == c.Key {
			value, found = labels[i].Value, true
			break
		}
	}
	in := false
	for _, v := range c.Values {
		in = in || found && v == value
	}
	switch c.Op {
	case In:
		return in
	case NotIn:
		return !in
	case Exists:
		return found
	case NotExists:
		return !found
	}
	return false
}

// Fits reports whether a worker with these labels and abilities may run tasks
// of the shape, capacity aside. The scheduler asks the same question.
func (s *Shape) Fits(labels []Label, abilities []string) bool {
	for i := range s.Constraints {
		if !s.Constraints[i].Matches(labels) {
			return false
		}
	}
need:
	for _, want := range s.Abilities {
		for _, have := range abilities {
			if have == want {
				continue need
			}
		}
		return false
	}
	return true
}
