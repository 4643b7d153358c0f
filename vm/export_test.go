package vm

// Reads is how often guest memory was read.
func (m *Instance) Reads() int {
	m.mem.mu.Lock()
	defer m.mem.mu.Unlock()
	return m.mem.reads
}
