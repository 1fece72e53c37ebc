// Package strictjson decodes JSON that must say exactly one thing.
//
// encoding/json accepts documents that two readers can understand in two ways:
// a key twice (the last wins), a key in another case ("Command" fills
// command), bytes that are not UTF-8 and lone surrogates (silently replaced),
// null (silently nothing). Whoever checks such a document before us, or audits
// it after us, may have read something else. Decode refuses all of these, and
// unknown fields, wrong kinds of value, deep nesting and trailing data, and
// says where.
//
// It walks the bytes once beside the Go type and then leaves the filling of
// the value to encoding/json. It starts no goroutines; the cache of types is
// the only state and is safe for concurrent use.
package strictjson
