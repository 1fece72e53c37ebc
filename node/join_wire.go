package node

// joinRequest is what a new node sends on its one stream of class join. Its
// key never leaves it.
type joinRequest struct {
	TokenID string   `cbor:"1,keyasint"`
	Secret  string   `cbor:"2,keyasint"`
	CSR     []byte   `cbor:"3,keyasint"` // DER
	Names   []string `cbor:"4,keyasint"` // host names and IPs for clients, into the certificate
}

// joinAnswer admits the node or says why not.
type joinAnswer struct {
	Problem string            `cbor:"1,keyasint,omitempty"`
	Code    string            `cbor:"2,keyasint,omitempty"` // problem code of the API
	Cert    []byte            `cbor:"3,keyasint,omitempty"` // DER
	CACert  []byte            `cbor:"4,keyasint,omitempty"` // DER
	Peers   map[string]string `cbor:"5,keyasint,omitempty"` // node ID to host:port
}

// Methods of class rpc. The names are on the wire.
const (
	methodForward   = "forward"    // stream of commands to the leader
	methodReadIndex = "read_index" // leader: none -> indexAnswer
	methodRegister  = "register"   // leader: registerRequest -> none
	methodRenew     = "renew"      // any: renewRequest -> renewAnswer
	methodWorker    = "worker"     // leader: stream of the worker protocol
	methodTransfer  = "transfer"   // leader: none -> none
	methodRemove    = "remove"     // leader: removeRequest -> none
	methodMembers   = "members"    // leader: none -> []memberInfo
	methodOutput    = "output"     // worker: outputRequest -> stream of bytes
	methodRestore   = "restore"    // leader: stream of a portable snapshot
)

type indexAnswer struct {
	Index uint64 `cbor:"1,keyasint"`
}
