package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/linux-kaleidoscope/kaleido/vm"
	"github.com/linux-kaleidoscope/kaleido/vm/dmesg"
)

// fill writes more into the kernel log than its 256 KiB hold.
const fill = `i=0; while [ $i -lt 4000 ]; do
echo "a record of some eighty characters, as drivers write them, number $i of 4000"
i=$((i+1)); done > /dev/kmsg; echo filled`

// ring measures how long the kernel log takes out of a guest's memory when
// its ring is full.
func (b *bench) ring(ctx context.Context) ([]measurement, error) {
	guest, err := vm.Start(ctx, b.guestConfig())
	if err != nil {
		return nil, err
	}
	defer guest.Close()
	if out, err := guest.Agent().Run(ctx, "sh", "-c", fill); err != nil || !out.Status.Success() {
		return nil, fmt.Errorf("fill the log: %v %v", out, err)
	}
	symbols, err := readSymbols(b.image.SystemMap)
	if err != nil {
		return nil, err
	}
	var took []float64
	records := 0
	for range b.runs {
		start := time.Now()
		got, err := dmesg.ReadRing(guest, symbols)
		if err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(start).Microseconds())/1000)
		records = len(got)
	}
	m := limited("kernel log out of guest memory", median(took), "ms", 50, b.runs)
	m.A = took
	m.Note = fmt.Sprintf("(%d records)", records)
	return []measurement{m}, nil
}

func readSymbols(name string) (dmesg.Symbols, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return dmesg.ParseSystemMap(f)
}
