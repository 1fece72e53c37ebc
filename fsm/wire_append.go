package fsm

// appendHead appends a data item's head in its shortest form.
func appendHead(b []byte, major byte, v uint64) []byte {
	m := major << 5
	switch {
	case v < 24:
		return append(b, m|byte(v))
	case v < 1<<8:
		return append(b, m|24, byte(v))
	case v < 1<<16:
		return append(b, m|25, byte(v>>8), byte(v))
	case v < 1<<32:
		return append(b, m|26, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return append(b, m|27, byte(v>>56), byte(v>>48), byte(v>>40), byte(v>>32),
		byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// fieldWriter writes a map with unsigned keys, leaving out zero values, as the
// library does with omitempty. The head is written first with the greatest
// number of pairs that the record can have (below 24, so one byte) and
// corrected at the end.
type fieldWriter struct {
	b    []byte
	head int
	n    byte
}

func newFieldWriter(b []byte) fieldWriter {
	return fieldWriter{b: append(b, majorMap<<5), head: len(b)}
}

func (f *fieldWriter) key(k uint64) {
	f.b = appendHead(f.b, majorUint, k)
	f.n++
}

func (f *fieldWriter) uint(k, v uint64) {
	if v != 0 {
		f.key(k)
		f.b = appendHead(f.b, majorUint, v)
	}
}

func (f *fieldWriter) int(k uint64, v int64) {
	if v != 0 {
		f.key(k)
		f.b = appendInt(f.b, v)
	}
}

func (f *fieldWriter) text(k uint64, v string) {
	if v != "" {
		f.key(k)
		f.b = append(appendHead(f.b, majorText, uint64(len(v))), v...)
	}
}

func (f *fieldWriter) bytes(k uint64, v []byte) {
	if len(v) > 0 {
		f.key(k)
		f.b = append(appendHead(f.b, majorBytes, uint64(len(v))), v...)
	}
}

func (f *fieldWriter) texts(k uint64, list []string) {
	if len(list) == 0 {
		return
	}
	f.key(k)
	f.b = appendHead(f.b, majorArray, uint64(len(list)))
	for _, v := range list {
		f.b = append(appendHead(f.b, majorText, uint64(len(v))), v...)
	}
}

func (f *fieldWriter) bool(k uint64, v bool) {
	if v {
		f.key(k)
		f.b = append(f.b, majorOther<<5|21)
	}
}

// done corrects the head and returns the buffer.
func (f *fieldWriter) done() []byte {
	f.b[f.head] = majorMap<<5 | f.n
	return f.b
}

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, majorNeg, uint64(-1-v))
	}
	return appendHead(b, majorUint, uint64(v))
}
