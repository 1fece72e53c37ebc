package node

import (
	"fmt"
	"io"
	"os"

	"github.com/DeRuina/timberjack"
	"github.com/hashicorp/go-hclog"
)

// NewLogger makes the node's logger. The closer ends the log file, if one is
// configured; standard error has nothing to close.
func NewLogger(c LogConfig) (hclog.Logger, io.Closer, error) {
	var out io.Writer = os.Stderr
	var closer io.Closer = io.NopCloser(nil)
	if c.File != "" {
		f := &timberjack.Logger{Filename: c.File, MaxSize: c.MaxMiB, MaxBackups: c.Keep, FileMode: 0o600}
		// timberjack opens at the first line; a folder that cannot be written
		// must be an error at start, not a silent loss of every line.
		if _, err := f.Write(nil); err != nil {
			return nil, nil, fmt.Errorf("log file %s: %w", c.File, err)
		}
		out, closer = f, f
	}
	l := hclog.New(&hclog.LoggerOptions{
		Name:       "holdfast",
		Level:      hclog.LevelFromString(c.Level),
		Output:     out,
		JSONFormat: c.Format == "json",
		// Text without a terminal goes to journald, which stamps it.
		IncludeLocation: c.Level == "trace",
	})
	return l, closer, nil
}
