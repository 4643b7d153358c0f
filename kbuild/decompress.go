package kbuild

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// decompress returns the plain content of a compressed tarball, which its first bytes tell
// from the others: .xz (https://tukaani.org/xz/xz-file-format.txt), .gz (RFC 1952), .zst
// (RFC 8878) or none. Close ends the work; cancelling ctx does so too.
func decompress(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	magic, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return decompressXZ(ctx, in)
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		return gzip.NewReader(in)
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		d, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(1<<27))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case len(magic) < 6:
		return nil, errors.New("not a tarball: too short")
	}
	return io.NopCloser(in), nil
}

// decompressXZ has the xz program do it on all cores, and a library on one where that is
// missing, five times slower.
func decompressXZ(ctx context.Context, in io.Reader) (io.ReadCloser, error) {
	program, err := exec.LookPath("xz")
	if err != nil {
		r, err := xz.NewReader(in)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &xzProgram{cancel: cancel, cmd: exec.CommandContext(ctx, program, "--decompress", "--stdout", "--threads=0")}
	p.cmd.Stdin, p.cmd.Stderr, p.cmd.WaitDelay = in, &p.stderr, time.Second
	if p.stdout, err = p.cmd.StdoutPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return p, nil
}

// xzProgram is a running xz. At the end of its output it has been waited for, and Read
// returns its error in place of io.EOF.
type xzProgram struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	stdout io.Reader
	stderr bytes.Buffer
	ended  error // what Read returns from now on
}

func (p *xzProgram) Read(b []byte) (int, error) {
	if p.ended != nil {
		return 0, p.ended
	}
	n, err := p.stdout.Read(b)
	if err == nil {
		return n, nil
	}
	p.ended = err
	if werr := p.cmd.Wait(); err == io.EOF && werr != nil {
		p.ended = fmt.Errorf("xz: %w: %s", werr, strings.TrimSpace(p.stderr.String()))
	}
	return n, p.ended
}

// Close kills xz if it has not ended, and waits for it.
func (p *xzProgram) Close() error {
	p.cancel()
	if p.ended == nil {
		p.ended = io.ErrClosedPipe
		_ = p.cmd.Wait()
	}
	return nil
}
