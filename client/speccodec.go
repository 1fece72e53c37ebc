package client

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// specEnc and specDec carry a TaskSpec over the pipelined RPC: CBOR maps with
// the names of the JSON, byte strings for bytes, Go duration strings for
// durations. The decoder is as strict as the HTTP API.
var (
	specEnc = mustMode(cbor.EncOptions{Sort: cbor.SortBytewiseLexical, TextMarshaler: cbor.TextMarshalerTextString}.EncMode())
	specDec = mustMode(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 8, MaxArrayElements: 4096, MaxMapPairs: 4096,
		UTF8: cbor.UTF8RejectInvalid, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		TextUnmarshaler: cbor.TextUnmarshalerTextString,
	}.DecMode())
)

// UnmarshalCBOR reads the string form and nothing else: the library would
// take a number as nanoseconds, past every check.
func (d *Duration) UnmarshalCBOR(b []byte) error {
	var s string
	if err := cbor.Unmarshal(b, &s); err != nil {
		return err
	}
	return d.UnmarshalText([]byte(s))
}

// mustMode is for options that are constants of this package: its tests would
// fail at once.
func mustMode[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// EncodeSpec encodes a spec for [Fast.SubmitEncoded]. The same spec always
// gives the same bytes.
func EncodeSpec(spec TaskSpec) ([]byte, error) {
	b, err := specEnc.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode a task spec: %w", err)
	}
	return b, nil
}

// DecodeSpec decodes what EncodeSpec made. Unknown and duplicate fields,
// wrong types and bytes after the end are errors.
func DecodeSpec(b []byte) (TaskSpec, error) {
	var spec TaskSpec
	if err := specDec.Unmarshal(b, &spec); err != nil {
		return TaskSpec{}, fmt.Errorf("decode a task spec: %w", err)
	}
	return spec, nil
}
