package guest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

type parsed struct {
	typ     frameType
	channel uint8
	stream  uint32
	payload string
}

func readAll(t testing.TB, r io.Reader) (frames []parsed, garbage int64) {
	t.Helper()
	fr := newFrameReader(r)
	for {
		f, err := fr.next()
		if err == io.EOF {
			return frames, fr.garbage.Load()
		}
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, parsed{f.typ, f.channel, f.stream, string(f.payload)})
	}
}

func data(stream uint32, payload []byte) []byte {
	return seal(append(newFrame(len(payload)), payload...), typeData, chanOut, stream)
}

func TestFrameRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var wire []byte
	var want []parsed
	for i := range 200 {
		p := make([]byte, rnd.IntN(maxPayload+1))
		for j := range p {
			p[j] = byte(rnd.Uint32())
		}
		wire = append(wire, data(uint32(i), p)...)
		want = append(want, parsed{typeData, chanOut, uint32(i), string(p)})
	}
	for name, r := range map[string]io.Reader{
		"whole":   bytes.NewReader(wire),
		"halves":  iotest.HalfReader(bytes.NewReader(wire)),
		"dataErr": iotest.DataErrReader(bytes.NewReader(wire)),
	} {
		got, garbage := readAll(t, r)
		if len(got) != len(want) || garbage != 0 {
			t.Fatalf("%s: %d frames, %d garbage; want %d, 0", name, len(got), garbage, len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s: frame %d differs", name, i)
			}
		}
	}
}

func TestFrameResync(t *testing.T) {
	a, b := data(1, []byte("first")), data(2, []byte("second"))
	flip := func(i int) []byte {
		c := bytes.Clone(a)
		c[i] ^= 0x10
		return c
	}
	whole := int64(len(a))
	for name, tt := range map[string]struct {
		wire    []byte
		frames  int // of which the last is b
		garbage int64
	}{
		"none":             {nil, 2, 0},
		"text between":     {[]byte("Kernel panic"), 2, 12},
		"padding between":  {make([]byte, 1000), 2, 0},
		"magic only":       {magic, 2, 4},
		"magic's start":    {magic[:3], 2, 3},
		"header cut":       {a[:10], 2, 10},
		"payload cut":      {a[:22], 2, 22},
		"crc cut":          {a[:len(a)-1], 2, whole - 1},
		"header bit flip":  {flip(13), 2, whole},
		"payload bit flip": {flip(21), 2, whole},
		"crc bit flip":     {flip(len(a) - 1), 2, whole},
		"huge length":      {seal(make([]byte, maxPayload+100), typeData, 0, 1)[:headerSize], 2, headerSize},
	} {
		wire := append(append(bytes.Clone(a), tt.wire...), b...)
		got, garbage := readAll(t, iotest.OneByteReader(bytes.NewReader(wire)))
		if len(got) != tt.frames || got[len(got)-1].payload != "second" || garbage != tt.garbage {
			t.Errorf("%s: %v, garbage %d; want %d frames, garbage %d", name, got, garbage, tt.frames, tt.garbage)
		}
	}
}

// A frame cut short swallows at most maxFrame bytes: so the padding a client
// sends makes way for its reset.
func TestPaddingEndsCutFrame(t *testing.T) {
	cut := data(1, make([]byte, maxPayload))[:headerSize+1]
	wire := append(append(cut, make([]byte, maxFrame)...), data(2, []byte("reset"))...)
	r, w := io.Pipe()
	defer w.Close()
	go w.Write(wire)
	f, err := newFrameReader(r).next() // the stream does not end
	if err != nil || string(f.payload) != "reset" {
		t.Errorf("got %q, %v", f.payload, err)
	}
}

func TestReaderWithoutProgress(t *testing.T) {
	_, err := newFrameReader(nothing{}).next()
	if !errors.Is(err, errNoProgress) {
		t.Errorf("got %v", err)
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

func FuzzFrameReader(f *testing.F) {
	f.Add([]byte("garbage"), []byte("payload"))
	f.Add(magic, []byte{})
	f.Add(data(1, []byte("x"))[:20], magic)
	f.Fuzz(func(t *testing.T, garbage, payload []byte) {
		if len(payload) > maxPayload {
			payload = payload[:maxPayload]
		}
		wire := append(bytes.Clone(garbage), make([]byte, maxFrame)...)
		wire = append(wire, data(77, payload)...)
		frames, skipped := readAll(t, bytes.NewReader(wire))
		if len(frames) == 0 {
			t.Fatal("frame after garbage not found")
		}
		if last := frames[len(frames)-1]; last.stream != 77 || last.payload != string(payload) {
			t.Fatalf("last frame %+v", last)
		}
		total := skipped
		for _, f := range frames {
			total += int64(headerSize + len(f.payload) + trailerSize)
		}
		if total > int64(len(wire)) {
			t.Fatalf("%d bytes accounted for of %d", total, len(wire))
		}
	})
}

// Neither end may be harmed by any payload of any valid frame.
func FuzzServer(f *testing.F) {
	f.Add(uint8(typeRequest), uint8(0), uint32(1), []byte(`{"op":"hello"}`))
	f.Add(uint8(typeReset), uint8(9), uint32(0), []byte(`{"nonce":5}`))
	f.Add(uint8(typeCredit), uint8(1), uint32(1), []byte{1, 2, 3, 4})
	f.Add(uint8(typeReply), uint8(1), uint32(1), []byte(`{"error":{}}`))
	f.Fuzz(func(t *testing.T, typ, channel uint8, stream uint32, payload []byte) {
		if bytes.Contains(payload, []byte("run")) || bytes.Contains(payload, []byte("put")) || len(payload) > maxPayload {
			return // these would do what they are told on this machine
		}
		host, guest := socketPair(t)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- NewServer(guest, ServerOptions{Console: "/dev/null"}).Serve(ctx) }()
		c := NewClient(host)
		stream |= 1 << 31 // not one that the Hello below has
		b := seal(append(newFrame(len(payload)), payload...), frameType(typ), channel, stream)
		_ = c.link.send(ctx, bytes.Clone(b))
		c.deliver(frame{frameType(typ), channel, stream, payload})
		if frameType(typ) != typeReset {
			if _, err := c.Hello(ctx); err != nil {
				t.Error(err)
			}
		}
		c.Close()
		cancel()
		<-done
	})
}

func TestCreditNeverExceedsWindow(t *testing.T) {
	c := newCredit()
	c.addFrame([]byte{0xff, 0xff, 0xff, 0xff})
	c.addFrame([]byte{1})
	if n, err := c.take(t.Context(), 10*window); n != window || err != nil {
		t.Errorf("take() = %d, %v", n, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errReset)
	if _, err := c.take(ctx, 1); err != errReset {
		t.Errorf("take() of nothing = %v", err)
	}
}

func TestInboxOverrun(t *testing.T) {
	b := newInbox()
	for range window / 1024 {
		b.push(make([]byte, 1024))
	}
	got, err := b.take(t.Context(), nil)
	if len(got) != window || err != nil {
		t.Fatalf("take() = %d bytes, %v", len(got), err)
	}
	b.push([]byte{1}) // nothing was released
	if _, err := b.take(t.Context(), nil); err != errOverrun {
		t.Errorf("take() after an overrun: %v", err)
	}
}

func TestRecordWriter(t *testing.T) {
	var got []string
	w := &recordWriter{fn: func(s string) { got = append(got, s) }}
	for _, b := range []byte("6,1,2,-;a\n\x004,2,3,-;b\n K=v\n\x00rest") {
		w.Write([]byte{b})
	}
	w.Write([]byte("\n\x00x\n\x00"))
	want := []string{"6,1,2,-;a", "4,2,3,-;b\n K=v", "rest", "x"}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("record %d = %q, want %q", i, got[i], want[i])
		}
	}
	if recordSeq([]byte(got[1])) != 2 || recordSeq(nil) != 0 {
		t.Error("recordSeq")
	}
}
