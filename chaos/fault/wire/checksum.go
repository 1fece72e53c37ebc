package wire

import "encoding/binary"

// flip changes one bit of a packet's payload. If mend is set, the checksum of
// UDP or TCP is made right again, so that the change passes the receiver's
// kernel and must be found by what reads the bytes.
func flip(b []byte, where int, mend bool) {
	head := int(b[0]&15) * 4
	skip := head
	switch {
	case len(b) < head+minIPv4:
	case b[9] == protoUDP:
		skip += 8
	case b[9] == protoTCP:
		skip += int(b[head+12]>>4) * 4
	}
	if skip >= len(b) {
		return // no payload
	}
	b[skip+where%(len(b)-skip)] ^= 1 << (where % 8)
	if !mend {
		return
	}
	at := 0
	switch b[9] {
	case protoUDP:
		at = head + 6
	case protoTCP:
		at = head + 16
	default:
		return
	}
	binary.BigEndian.PutUint16(b[at:], 0)
	binary.BigEndian.PutUint16(b[at:], checksum(b[:head], b[head:]))
}

// checksum is that of UDP and TCP over IPv4, with the pseudo header.
func checksum(ip, segment []byte) uint16 {
	sum := uint32(ip[9]) + uint32(len(segment))
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	add(ip[12:20])
	add(segment)
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	if ^uint16(sum) == 0 {
		return 0xffff // UDP: zero means none
	}
	return ^uint16(sum)
}
