package api

import (
	"time"
	"unicode/utf8"

	"holdfast/client"
	"holdfast/client/frames"
)

// scan reads the usual subset of CBOR from a string: definite lengths, no
// tags, floats or null. The general library spends most of a submission's time
// in reflection and copies; here strings alias the input. Whatever is unusual
// sets odd and is left to the library, so that there is one judge of what is
// right, and what is wrong with it.
type scan struct {
	s   string
	off int
	odd bool
}

// CBOR's major types (RFC 8949, section 3.1).
const (
	cborUint     = 0
	cborNegative = 1
	cborBytes    = 2
	cborText     = 3
	cborArray    = 4
	cborMap      = 5
	cborTrue     = 0xf5
)

// maxOdd bounds the maps and arrays that are read here, below every bound of
// the library's decoders.
const maxOdd = 1000

// head reads the head of an item of a major type, and gives its value.
func (c *scan) head(major byte) uint64 {
	if c.odd || c.off >= len(c.s) || c.s[c.off]>>5 != major {
		c.odd = true
		return 0
	}
	info := c.s[c.off] & 31
	c.off++
	if info < 24 {
		return uint64(info)
	}
	size := 1 << (info - 24)
	if info > 27 || len(c.s)-c.off < size {
		c.odd = true
		return 0
	}
	var v uint64
	for _, b := range []byte(c.s[c.off : c.off+size]) {
		v = v<<8 | uint64(b)
	}
	c.off += size
	return v
}

func (c *scan) span(n uint64) string {
	if c.odd || n > uint64(len(c.s)-c.off) {
		c.odd = true
		return ""
	}
	at := c.off
	c.off += int(n)
	return c.s[at:c.off]
}

func (c *scan) text() string {
	s := c.span(c.head(cborText))
	c.odd = c.odd || !utf8.ValidString(s)
	return s
}

func (c *scan) bytes() string { return c.span(c.head(cborBytes)) }

// int reads an integer that is not negative.
func (c *scan) int() int64 {
	v := c.head(cborUint)
	if v > 1<<62 {
		c.odd = true
		return 0
	}
	return int64(v)
}

// size reads the head of an array or a map.
func (c *scan) size(major byte) int {
	n := c.head(major)
	if n > maxOdd || n > uint64(len(c.s)-c.off) {
		c.odd = true
		return 0
	}
	return int(n)
}

// skip walks over a map and everything in it: what the specs of a request are
// before they are read.
func (c *scan) skip(depth int) {
	if depth == 0 || c.off >= len(c.s) {
		c.odd = true
		return
	}
	switch major := c.s[c.off] >> 5; major {
	case cborUint:
		c.head(major)
	case cborBytes, cborText:
		c.span(c.head(major))
	case cborArray, cborMap:
		n := c.size(major)
		if major == cborMap {
			n *= 2
		}
		for i := 0; i < n && !c.odd; i++ {
			c.skip(depth - 1)
		}
	default:
		// Negative numbers, true and false are rare enough.
		c.odd = true
	}
}

// seen counts the keys of a map: one that comes twice is odd.
type seen uint32

func (k *seen) once(bit uint, c *scan) {
	if *k&(1<<bit) != 0 {
		c.odd = true
	}
	*k |= 1 << bit
}

// request reads a frame's body, and tells whether nothing was odd.
func (c *scan) request(q *fastRequest) bool {
	var keys seen
	for n := c.size(cborMap); n > 0 && !c.odd; n-- {
		key := c.head(cborUint)
		if key == 0 || key > 4 {
			c.odd = true // of a later release
			break
		}
		keys.once(uint(key), c)
		switch key {
		case 1:
			q.number = c.head(cborUint)
		case 2:
			v := c.head(cborUint)
			c.odd = c.odd || v > 255
			q.method = frames.Method(v)
		case 3:
			for k := c.size(cborArray); k > 0 && !c.odd; k-- {
				at := c.off
				c.skip(8)
				q.specs = append(q.specs, c.s[at:c.off])
			}
		case 4:
			q.key = c.text()
		}
	}
	return !c.odd && c.off == len(c.s)
}

// scanSpec reads a spec as client.DecodeSpec does, and tells whether nothing
// was odd.
func scanSpec(s string, t *client.TaskSpec) bool {
	c := scan{s: s}
	var keys seen
	for n := c.size(cborMap); n > 0 && !c.odd; n-- {
		switch c.text() {
		case "command":
			keys.once(0, &c)
			t.Command = c.texts()
		case "name":
			keys.once(1, &c)
			t.Name = c.text()
		case "env":
			keys.once(2, &c)
			t.Env = c.pairs()
		case "work_dir":
			keys.once(3, &c)
			t.WorkDir = c.text()
		case "stdin":
			keys.once(4, &c)
			t.Stdin = c.text()
		case "stdin_base64":
			keys.once(5, &c)
			t.StdinBase64 = []byte(c.bytes())
		case "resources":
			keys.once(6, &c)
			c.resources(&t.Resources)
		case "priority":
			keys.once(7, &c)
			p := int(c.int())
			t.Priority = &p
		case "labels":
			keys.once(8, &c)
			t.Labels = c.pairs()
		case "abilities":
			keys.once(9, &c)
			t.Abilities = c.texts()
		case "placement":
			keys.once(10, &c)
			t.Placement = c.text()
		case "timeouts":
			keys.once(11, &c)
			c.timeouts(&t.Timeouts)
		case "retry":
			keys.once(12, &c)
			c.retry(&t.Retry)
		case "on_lost":
			keys.once(13, &c)
			t.OnLost = c.text()
		case "output_limit_bytes":
			keys.once(14, &c)
			t.OutputLimit = c.int()
		case "on_output_limit":
			keys.once(15, &c)
			t.OnOutputLimit = c.text()
		case "scratch":
			keys.once(16, &c)
			t.Scratch = new(client.Scratch)
			c.scratch(t.Scratch)
		case "secrets":
			keys.once(17, &c)
			c.secrets(t)
		case "network":
			keys.once(18, &c)
			t.Network = c.text()
		default:
			c.odd = true
		}
	}
	return !c.odd && c.off == len(s)
}

func (c *scan) texts() []string {
	n := c.size(cborArray)
	list := make([]string, 0, n)
	for ; n > 0 && !c.odd; n-- {
		list = append(list, c.text())
	}
	return list
}

func (c *scan) pairs() map[string]string {
	n := c.size(cborMap)
	m := make(map[string]string, n)
	for range n {
		k := c.text()
		m[k] = c.text()
	}
	c.odd = c.odd || len(m) != n // a key came twice
	return m
}

func (c *scan) resources(r *client.Resources) {
	var keys seen
	for n := c.size(cborMap); n > 0 && !c.odd; n-- {
		switch c.text() {
		case "cpu_millis":
			keys.once(0, c)
			r.CPUMillis = int(c.int())
		case "memory_bytes":
			keys.once(1, c)
			r.MemoryBytes = c.int()
		case "pids":
			keys.once(2, c)
			r.PIDs = int(c.int())
		case "io_weight":
			keys.once(3, c)
			r.IOWeight = int(c.int())
		case "io_read_bps":
			keys.once(4, c)
			r.IOReadBPS = c.int()
		case "io_write_bps":
			keys.once(5, c)
			r.IOWriteBPS = c.int()
		default:
			c.odd = true
		}
	}
}

func (c *scan) timeouts(t *client.Timeouts) {
	var keys seen
	for n := c.size(cborMap); n > 0 && !c.odd; n-- {
		switch c.text() {
		case "queue":
			keys.once(0, c)
			t.Queue = c.duration()
		case "run":
			keys.once(1, c)
			t.Run = c.duration()
		case "grace":
			keys.once(2, c)
			t.Grace = c.duration()
		case "cpu":
			keys.once(3, c)
			t.CPU = c.duration()
		default:
			c.odd = true
		}
	}
}

func (c *scan) secrets(t *client.TaskSpec) {
	n := c.size(cborArray)
	t.Secrets = make([]client.Secret, n)
	for i := range t.Secrets {
		s, keys := &t.Secrets[i], seen(0)
		for k := c.size(cborMap); k > 0 && !c.odd; k-- {
			switch c.text() {
			case "name":
				keys.once(0, c)
				s.Name = c.text()
			case "value":
				keys.once(1, c)
				s.Value = c.text()
			case "value_base64":
				keys.once(2, c)
				s.ValueBase64 = []byte(c.bytes())
			default:
				c.odd = true
			}
		}
	}
}

func (c *scan) scratch(s *client.Scratch) {
	var keys seen
	for n := c.size(cborMap); n > 0 && !c.odd; n-- {
		switch c.text() {
		case "target":
			keys.once(0, c)
			s.Target = c.text()
		case "bytes":
			keys.once(1, c)
			s.Bytes = c.int()
		case "inodes":
			keys.once(2, c)
			s.Inodes = int(c.int())
		default:
			c.odd = true
		}
	}
}

func (c *scan) retry(r *client.Retry) {
	var keys seen
	for n := c.size(cborMap); n > 0 && !c.odd; n-- {
		switch c.text() {
		case "limit":
			keys.once(0, c)
			r.Limit = int(c.int())
		case "backoff":
			keys.once(1, c)
			r.Backoff = c.duration()
		default:
			c.odd = true
		}
	}
}

func (c *scan) duration() client.Duration {
	d, err := time.ParseDuration(c.text())
	c.odd = c.odd || err != nil || d < 0 // client.Duration has a meaning for it, or says what is wrong
	return client.Duration(d)
}
