package kbuild

import (
	"bytes"
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

func newKey(t *testing.T) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("Autosigner", "", "autosigner@example.org", &packet.Config{DefaultHash: crypto.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, key *openpgp.Entity, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, nil)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// keyring writes a key's public part to a file.
func keyring(t *testing.T, key *openpgp.Entity, armored bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := key.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	if armored {
		var a bytes.Buffer
		w, err := armor.Encode(&a, openpgp.PublicKeyType, nil)
		if err == nil {
			_, err = w.Write(b.Bytes())
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		b = a
	}
	return writeFile(t, filepath.Join(t.TempDir(), "keyring"), b.Bytes())
}

func TestFetchSignedSums(t *testing.T) {
	key, other := newKey(t), newKey(t)
	_, sum := tarball(t, 99)
	text := strings.Repeat("0", 64) + "  linux-6.1.98.tar.xz\n" + sum + "  linux-6.1.99.tar.xz\n"
	good := sign(t, key, text)
	evil := strings.Repeat("e", 64) + "  linux-6.1.99.tar.xz\n"
	tests := []struct {
		name    string
		sums    []byte
		keyring string
		want    string // in the error; "" for none
	}{
		{"armored keyring", good, keyring(t, key, true), ""},
		{"binary keyring", good, keyring(t, key, false), ""},
		{"no keyring", good, "", ""},
		{"another's signature", sign(t, other, text), keyring(t, key, true), "signature"},
		{"tampered", bytes.Replace(good, []byte(sum[:8]), []byte("deadbeef"), 1), keyring(t, key, true), "signature"},
		{"not signed", []byte(text), keyring(t, key, true), "not a signed message"},
		{"unsigned lines before the message", append([]byte(evil), good...), keyring(t, key, true), ""},
		{"unsigned lines before the message, no keyring", append([]byte(evil), good...), "", ""},
		{"no such keyring", good, "/nonexistent/keyring", "read keyring"},
		{"keyring that is none", good, writeFile(t, filepath.Join(t.TempDir(), "k"), []byte("no keys")), "read keyring"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t)
			m.files["/v6.x/sha256sums.asc"] = tt.sums
			var n news
			opts := options(t, m.URL)
			opts.pinned, opts.Keyring, opts.Progress = map[string]string{}, tt.keyring, n.add
			src, err := Fetch(t.Context(), opts)
			if tt.want != "" {
				wantFetchError(t, err, "verify", tt.want)
				wantNothing(t, opts.Cache)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantTree(t, src, 99)
			if checked := !strings.Contains(n.notes(), "was not checked"); checked != (tt.keyring != "") {
				t.Errorf("notes = %q", n.notes())
			}
		})
	}
}

// Sums that were taken on trust are checked once there is a keyring, though all is cached.
func TestFetchKeyringLater(t *testing.T) {
	m := newMirror(t)
	opts := options(t, m.URL)
	opts.pinned = map[string]string{}
	if _, err := Fetch(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	opts.Keyring = keyring(t, newKey(t), true)
	_, err := Fetch(t.Context(), opts)
	wantFetchError(t, err, "verify", "not a signed message")
}

func TestStatIDChanges(t *testing.T) {
	name := writeFile(t, filepath.Join(t.TempDir(), "f"), []byte("one"))
	first, err := statID(name)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := statID(name); err != nil || again != first {
		t.Errorf("statID = %q, %v, want %q", again, err, first)
	}
	if err := os.WriteFile(name, []byte("two"), 0o666); err != nil {
		t.Fatal(err)
	}
	if changed, err := statID(name); err != nil || changed == first {
		t.Errorf("statID of the changed file = %q, %v", changed, err)
	}
	if _, err := statID(filepath.Dir(name)); err == nil {
		t.Error("statID of a directory: no error")
	}
}
