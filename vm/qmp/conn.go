package qmp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	goqemu "github.com/digitalocean/go-qemu/qmp"
)

// message is anything QEMU sends: the greeting, a reply, or an event.
type message struct {
	QMP *struct{ Version goqemu.Version }
	ID  string
	Event
}

// read handles everything QEMU sends until the connection ends.
func (m *Monitor) read() {
	dec := json.NewDecoder(m.conn)
	for {
		var text json.RawMessage
		if err := dec.Decode(&text); err != nil {
			m.end(readError(err))
			return
		}
		var msg message
		if err := json.Unmarshal(text, &msg); err != nil {
			m.end(fmt.Errorf("read qmp: %w", err))
			return
		}
		m.handle(&msg, text)
	}
}

// readError tells a peer that went away from one that talks rubbish.
func readError(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrGone
	case errors.As(err, &syntax):
		return fmt.Errorf("read qmp: %w", err)
	}
	return fmt.Errorf("%w: %w", ErrGone, err) // ECONNRESET when QEMU was killed
}

// handle gives one message to whom it concerns. An event is counted and queued
// before any reply that follows it is handed out.
func (m *Monitor) handle(msg *message, text json.RawMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case msg.QMP != nil:
		if m.version == (goqemu.Version{}) {
			m.version = msg.QMP.Version
			close(m.hello)
		}
	case msg.Event.Event != "":
		m.counts[msg.Event.Event]++
		for s := range m.subs {
			s.put(msg.Event)
		}
	default:
		if answer, ok := m.waiting[msg.ID]; ok {
			delete(m.waiting, msg.ID)
			answer <- text
		}
	}
}

// write sends commands one by one until the connection ends. It has a goroutine
// of its own so that a QEMU that does not read holds nobody past its context.
func (m *Monitor) write() {
	for {
		select {
		case line := <-m.out:
			if _, err := m.conn.Write(line); err != nil {
				// Replies and events sent before the end are still to be read;
				// the reader meets the same end and reports it.
				<-m.done
				return
			}
		case <-m.done:
			return
		}
	}
}

// end closes the connection for the reason err, once.
func (m *Monitor) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return
	}
	m.err = err
	m.conn.Close() // nothing is lost: QMP has no half of a message worth keeping
	close(m.done)
	for s := range m.subs {
		s.finish(err)
	}
	clear(m.subs)
}
