package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth bounds nesting. The deepest request of the API needs 5; the rest is
// room, and small enough that the walk's recursion costs nothing.
const MaxDepth = 16

// Error says what is wrong with a document, and where.
type Error struct {
	Path    string // as in tasks[3].command; empty for the document itself
	Message string
}

// Error gives path and message.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Message
	}
	return e.Path + ": " + e.Message
}

// Decode checks data against the type of v, which must be a pointer, and fills
// it. Every error is an *Error. After an error, v is in no defined state.
func Decode(data []byte, v any) error {
	t := reflect.TypeOf(v)
	if t == nil || t.Kind() != reflect.Pointer {
		return &Error{Message: fmt.Sprintf("cannot decode into %T: want a pointer", v)}
	}
	if !utf8.Valid(data) {
		return &Error{Message: "the document is not valid UTF-8"}
	}
	w := walker{data: data}
	if err := w.document(shapeOf(t.Elem())); err != nil {
		err.Path = strings.TrimPrefix(err.Path, ".")
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return translate(err)
	}
	return nil
}

// translate turns what encoding/json still finds into an Error: numbers that
// do not fit, and texts that their type refuses.
func translate(err error) *Error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return &Error{Path: wrong.Field, Message: fmt.Sprintf("%s does not fit: want %s", wrong.Value, plain(wrong.Type))}
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return &Error{Message: fmt.Sprintf("not JSON at byte %d: %s", syntax.Offset, syntax.Error())}
	}
	return &Error{Message: err.Error()}
}

// plain names a Go type for people who do not write Go.
func plain(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number of at most " + strconv.Itoa(t.Bits()) + " bits"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number from 0 of at most " + strconv.Itoa(t.Bits()) + " bits"
	}
	return shapeOf(t).kind.String()
}
