// Package auth goes from a credential to a principal.
//
// Two credentials exist. A token ("hf_", ten letters of ID, "_", 52 letters of
// secret) makes the principal token:<id> with the token's role; only the
// SHA-256 of the secret is stored. A connection over the unix socket from root
// or the owner of the data folder makes local:<uid>, an admin; the kernel says
// who is there. A token on the unix socket counts before the connection, so
// that roles can be tried there.
//
// Rules:
//   - An unknown ID costs the same comparison as a wrong secret.
//   - That a token has expired is said only to who holds its secret.
//   - Failures are counted per source address. A source that fails too often
//     gets ErrTooMany for further failures, and they are not reported to the
//     audit one by one. A valid token is never held up by the failures of
//     others behind the same address: secrets have 256 bits, so that the limit
//     bounds load and noise, and need not stop guessing.
//   - The table of sources is bounded; beyond it, new sources share one limit.
//
// Join tokens ("hfj_") are for joining nodes and are no credential of the API.
//
// Authenticator is safe for concurrent use; its one lock guards the table of
// sources and is held for map operations only. The package starts no
// goroutines.
package auth
