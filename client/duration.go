package client

import (
	"fmt"
	"time"
)

// Duration is a time.Duration that is a Go duration string in JSON ("1m30s").
type Duration time.Duration

// MarshalText writes the string form; zero is the empty string.
func (d Duration) MarshalText() ([]byte, error) {
	if d == 0 {
		return []byte{}, nil
	}
	return []byte(time.Duration(d).String()), nil
}

// UnmarshalText reads the string form and refuses negative durations.
func (d *Duration) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = 0
		return nil
	}
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("duration %q: want a form such as 90s or 1h30m", b)
	}
	if v < 0 {
		return fmt.Errorf("duration %q: must not be negative", b)
	}
	*d = Duration(v)
	return nil
}

// String gives the string form.
func (d Duration) String() string { return time.Duration(d).String() }
