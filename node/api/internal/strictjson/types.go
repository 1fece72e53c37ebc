package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// kind is what a JSON value must be.
type kind uint8

const (
	kindAny kind = iota
	kindString
	kindNumber
	kindBool
	kindObject // of named fields
	kindMap    // an object with free keys
	kindList
)

func (k kind) String() string {
	switch k {
	case kindString:
		return "a string"
	case kindNumber:
		return "a number"
	case kindBool:
		return "true or false"
	case kindObject, kindMap:
		return "an object"
	case kindList:
		return "a list"
	}
	return "a value"
}

// shape is what the walker knows of a Go type.
type shape struct {
	kind   kind
	fields map[string]*shape // kindObject
	elem   *shape            // kindMap, kindList
}

var (
	anyShape = &shape{kind: kindAny}

	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonType = reflect.TypeFor[json.Unmarshaler]()

	shapes sync.Map // reflect.Type -> *shape
)

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := build(t, map[reflect.Type]*shape{})
	shapes.Store(t, s)
	return s
}

// build makes the shape of t; open holds the types being built, so that a
// type that contains itself ends.
func build(t reflect.Type, open map[reflect.Type]*shape) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := open[t]; ok {
		return s
	}
	s := &shape{}
	open[t] = s
	ptr := reflect.PointerTo(t)
	switch {
	case ptr.Implements(textType): // first: time.Time is both
		s.kind = kindString
		return s
	case ptr.Implements(jsonType):
		return s
	}
	switch t.Kind() {
	case reflect.String:
		s.kind = kindString
	case reflect.Bool:
		s.kind = kindBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		s.kind = kindNumber
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			s.kind = kindString // base64
			break
		}
		s.kind, s.elem = kindList, build(t.Elem(), open)
	case reflect.Map:
		s.kind, s.elem = kindMap, build(t.Elem(), open)
	case reflect.Struct:
		s.kind, s.fields = kindObject, map[string]*shape{}
		addFields(s, t, open)
	}
	return s
}

func addFields(s *shape, t reflect.Type, open map[reflect.Type]*shape) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			addFields(s, f.Type, open)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		s.fields[name] = build(f.Type, open)
	}
}
