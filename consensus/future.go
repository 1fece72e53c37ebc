package consensus

import (
	"reflect"

	"github.com/hashicorp/raft"
)

// releasable makes a future of the library give up (with raft.ErrRaftShutdown)
// when stop is closed.
//
// The obvious way, to wait for Error, hangs for ever in two cases: an entry
// that was committed but still on its way to the state machine when raft shut
// down is never answered, and neither is one whose write hangs in a stuck disk.
// The library's futures have the field for it, ShutdownCh, but most calls leave
// it nil and offer no way to set it. It is read only in Error, so to set it
// before that races with nothing. A test holds the library to this.
func releasable[F raft.Future](f F, stop chan struct{}) F {
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return f // an error that is already known
	}
	field := v.Elem().FieldByName("ShutdownCh")
	if field.IsValid() && field.CanSet() && field.Type() == reflect.TypeFor[chan struct{}]() {
		field.Set(reflect.ValueOf(stop))
	}
	return f
}
