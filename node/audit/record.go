package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"
)

// Record is one line. The order of the fields is part of the format.
type Record struct {
	Seq       uint64    `json:"seq"` // from 1, without gaps
	Time      time.Time `json:"time"`
	Principal string    `json:"principal,omitempty"` // empty: no credential
	Source    string    `json:"source,omitempty"`    // address of the caller
	Action    string    `json:"action"`
	Target    string    `json:"target,omitempty"`
	Outcome   string    `json:"outcome"`
	Prev      string    `json:"prev"` // hash of record seq-1, hex; of the first, zeros
	Hash      string    `json:"hash,omitempty"`
}

// maxField bounds each text of a record; the rest is cut.
const maxField = 4 << 10

// maxLine bounds a line: five texts in which every byte takes six.
const maxLine = 6*5*maxField + 1<<10

var genesis = strings.Repeat("0", 2*sha256.Size)

// seal computes the hash and returns the line, with its newline. The hash is
// the last field and covers the record without it: one encoding serves both.
func (r *Record) seal(mac hash.Hash) ([]byte, error) {
	for _, s := range []*string{&r.Principal, &r.Source, &r.Action, &r.Target, &r.Outcome} {
		if len(*s) > maxField {
			*s = (*s)[:maxField]
		}
		*s = strings.ToValidUTF8(*s, "?")
	}
	r.Time = r.Time.UTC().Truncate(time.Microsecond)
	b, err := r.bare()
	if err != nil {
		return nil, err
	}
	r.Hash = sum(mac, b)
	b = append(b[:len(b)-1], `,"hash":"`...)
	b = append(b, r.Hash...)
	return append(b, "\"}\n"...), nil
}

// bare is the record without its hash.
func (r *Record) bare() ([]byte, error) {
	bare := *r
	bare.Hash = ""
	b, err := json.Marshal(&bare)
	if err != nil {
		return nil, fmt.Errorf("encode an audit record: %w", err)
	}
	return b, nil
}

// newMAC is the chain's hash, for one goroutine: what it has worked out of the
// key it keeps from record to record.
func newMAC(key []byte) hash.Hash {
	if len(key) > 0 {
		return hmac.New(sha256.New, key)
	}
	return sha256.New()
}

func sum(mac hash.Hash, b []byte) string {
	mac.Reset()
	_, _ = mac.Write(b) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil))
}

var (
	errLine = errors.New("the line is no record as this program writes them")
	errHash = errors.New("the record does not match its hash: it was changed, or written under another key")
)

// parse reads a line without its newline and checks its hash. It accepts only
// the exact bytes that seal makes, so that nothing can hide in a line.
func parse(line []byte, mac hash.Hash) (Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("%w: %w", errLine, err)
	}
	exact, err := json.Marshal(&r)
	if err != nil || !bytes.Equal(exact, line) {
		return r, errLine
	}
	bare, err := r.bare()
	if err != nil {
		return r, err
	}
	if !hmac.Equal([]byte(sum(mac, bare)), []byte(r.Hash)) {
		return r, errHash
	}
	return r, nil
}
