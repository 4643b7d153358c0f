package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
)

// Hash makes a key out of all that can change a product. It is over named values, in the
// order in which they are added, each field with its length: different values never
// become the same bytes.
type Hash struct {
	h hash.Hash
}

// NewHash begins a key for an entry of that kind.
func NewHash(kind Kind) *Hash {
	h := &Hash{sha256.New()}
	h.field("kind", []byte(kind))
	return h
}

// String adds a named value.
func (h *Hash) String(name, value string) {
	h.field("s", []byte(name))
	h.field("=", []byte(value))
}

// File adds a name and the content of the file at path. The path itself is not part of the key.
func (h *Hash) File(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("hash %s: %w", name, err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("hash %s: %w", name, err)
	}
	h.field("f", []byte(name))
	h.field("=", sum.Sum(nil))
	return nil
}

// Sum returns the key of what was added so far: 40 hexadecimal digits, the first 20 bytes
// of the SHA-256.
func (h *Hash) Sum() string { return hex.EncodeToString(h.h.Sum(nil)[:20]) }

func (h *Hash) field(tag string, data []byte) {
	h.h.Write([]byte(tag))
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(data)))
	h.h.Write(n[:])
	h.h.Write(data)
}
