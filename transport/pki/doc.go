// Package pki makes and reads the certificates of a cluster.
//
// Invariants:
//
//   - A node's key is made on the node and never leaves it; the CA sees a
//     signing request only.
//   - A node's ID is a function of its public key ([NodeID]). A certificate
//     whose SPIFFE ID names another key's fingerprint is refused even if the
//     CA signed it, so a stolen or careless CA signature cannot give one node
//     the name of another one that holds a different key.
//   - A node certificate carries exactly one URI SAN,
//     spiffe://<cluster ID>/node/<node ID>, and the DNS SAN [ServerName].
//   - Names in a signing request are ignored: the signer decides them.
//   - A joining node trusts one thing, the [Pin] of the CA's key. Servers
//     therefore send the CA certificate along with their leaf.
//
// Nothing here has a goroutine. [Holder] is the one mutable value; it is an
// atomic pointer, so a renewed certificate takes effect with the next
// handshake and needs no restart.
package pki
