// Package sealed is the file format in which snapshots leave a cluster:
// encrypted and authenticated by the client before they reach a disk.
//
// A file is a header of 70 bytes and chunks. All numbers are big-endian.
//
//	magic      8  "HFSEAL1\n"
//	kind       1  1 passphrase, 2 random key
//	time       4  argon2id passes; 0 for a random key
//	memory     4  argon2id memory in KiB; 0 for a random key
//	threads    1  argon2id lanes; 0 for a random key
//	salt      32  random
//	reserved   4  zero
//	check     16  AES-256-GCM tag over the header before it, under the file key
//
// The file key is HKDF-SHA256(secret, salt, "holdfast sealed file v1"), where
// secret is argon2id(passphrase, salt) or the random key. Each chunk is
// AES-256-GCM over 64 KiB of the text, the last over 0 to 64 KiB, with the
// nonce: 11 bytes of the chunk's number from 1, and one byte that is 1 in the
// last chunk. So a chunk cannot be moved, dropped or repeated, and a file that
// was cut, even between two chunks, has no last chunk and is refused. Number 0
// belongs to the header's check, which tells a wrong secret from a damaged
// file. The salt makes the file key, and with it every nonce, unique.
package sealed
