package kbuild

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// sumsName is the file beside kernel.org's tarballs that has their SHA-256: lines of
// "SUM  NAME" in an OpenPGP clear-signed message (RFC 9580, section 7).
const sumsName = "sha256sums.asc"

// maxSums bounds the sums file; v6.x has some 300 kB.
const maxSums = 16 << 20

// sum returns the SHA-256 of a version's tarball as the mirror's sums file states it. That
// file is kept, so that a version fetched once needs no network again.
func (f *fetcher) sum(ctx context.Context, version string) (string, error) {
	from := f.url(version, sumsName)
	h := cache.NewHash(cache.Sources)
	h.String("sums of", from)
	h.String("version", version)
	var fresh []byte
	e, _, err := f.cacheFor("verify").Ensure(ctx, cache.Sources, "sums-"+h.Sum(), sumsName+" with linux "+version, func(ctx context.Context, dir string) error {
		var err error
		if fresh, err = f.getSums(ctx, from); err != nil {
			return err
		}
		if _, err := f.findSum(fresh, from, version); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, sumsName), fresh, 0o666)
	})
	if err != nil {
		return "", fetchError("download", from, err)
	}
	data, err := os.ReadFile(filepath.Join(e.Path, sumsName))
	if err != nil {
		return "", fetchError("verify", from, err)
	}
	if encrypted := f.base.Scheme == "https"; f.Keyring == "" && (fresh != nil || !encrypted) {
		f.Progress(Update{Stage: "verify", Note: untrusted(encrypted, from), Warning: !encrypted})
	}
	return f.findSum(data, from, version)
}

// untrusted says what the sums are worth without a signature.
func untrusted(encrypted bool, from string) string {
	if encrypted {
		return fmt.Sprintf("the signature of %s was not checked, for want of a keyring: its sums rest on https", from)
	}
	return fmt.Sprintf("the signature of %s was not checked, for want of a keyring, and it came unencrypted: its sums prove nothing", from)
}

// getSums downloads the sums file.
func (f *fetcher) getSums(ctx context.Context, from string) ([]byte, error) {
	resp, err := f.client.get(ctx, from, http.Header{})
	if err != nil {
		return nil, &FetchError{Op: "download", URL: from, Err: err, Hint: "check the network, the version and the mirror"}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxSums))
	if err != nil {
		return nil, fetchError("download", from, err)
	}
	return data, nil
}

// findSum checks the sums file's signature, if there is a keyring, and finds a version in it.
func (f *fetcher) findSum(data []byte, from, version string) (string, error) {
	text, err := signedText(data, f.Keyring)
	if err != nil {
		return "", fetchError("verify", from, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 || strings.TrimPrefix(fields[1], "*") != tarballName(version) {
			continue
		}
		if sum, err := hex.DecodeString(fields[0]); err == nil && len(sum) == sha256.Size {
			return hex.EncodeToString(sum), nil
		}
	}
	return "", &FetchError{Op: "verify", URL: from, Err: fmt.Errorf("no sum of %s in it", tarballName(version)), Hint: "check the version"}
}

// signedText returns the text of a clear-signed message, and only what is signed of it. If
// keyring is not "", one of the keys in that file must have signed it.
func signedText(data []byte, keyring string) ([]byte, error) {
	block, _ := clearsign.Decode(data)
	if keyring == "" {
		if block == nil {
			return data, nil
		}
		return block.Plaintext, nil
	}
	if block == nil {
		return nil, errors.New("not a signed message")
	}
	keys, err := readKeyring(keyring)
	if err != nil {
		return nil, err
	}
	if _, err := block.VerifySignature(keys, nil); err != nil {
		return nil, fmt.Errorf("signature by a key of %s: %w", keyring, err)
	}
	return block.Plaintext, nil
}

// readKeyring reads a file of public keys, armored or not.
func readKeyring(name string) (openpgp.EntityList, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	read := openpgp.ReadKeyRing
	if bytes.Contains(data, []byte("-----BEGIN PGP")) {
		read = openpgp.ReadArmoredKeyRing
	}
	keys, err := read(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read keyring %s: %w", name, err)
	}
	return keys, nil
}

// sumFile returns a file's SHA-256 in hexadecimal.
func sumFile(ctx context.Context, name string, progress func(Update)) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	t := throttle{every: progressEvery}
	buf := make([]byte, 1<<20)
	for done := int64(0); ctx.Err() == nil; {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		t.do(func() { progress(Update{Stage: "verify", Done: done, Total: info.Size(), Unit: "bytes"}) })
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", ctx.Err()
}

// fileSum returns the SHA-256 of a local tarball whose identity is id. It is remembered: to
// hash 130 MB takes longer than all the rest of a start.
func (f *fetcher) fileSum(ctx context.Context, name, id string) (string, error) {
	h := cache.NewHash(cache.Sources)
	h.String("file", id)
	e, _, err := f.cacheFor("verify").Ensure(ctx, cache.Sources, "sum-"+h.Sum(), "sha256 of "+name, func(ctx context.Context, dir string) error {
		sum, err := sumFile(ctx, name, f.Progress)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "sha256"), []byte(sum), 0o666)
	})
	if err != nil {
		return "", err
	}
	sum, err := os.ReadFile(filepath.Join(e.Path, "sha256"))
	return string(sum), err
}

// statID tells a file from others, and from itself before a change, without reading it.
func statID(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", name)
	}
	return fmt.Sprintf("%s dev %d inode %d size %d mtime %d ctime %d.%d",
		name, st.Dev, st.Ino, st.Size, info.ModTime().UnixNano(), st.Ctim.Sec, st.Ctim.Nsec), nil
}
