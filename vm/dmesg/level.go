package dmesg

import (
	"fmt"
	"slices"
	"strings"
)

// levelNames are the kernel's eight levels in the words of dmesg(1).
var levelNames = [...]string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}

// LevelName returns dmesg's word for a level, "emerg" to "debug", or "unknown".
func LevelName(level int) string {
	if level < 0 || level >= len(levelNames) {
		return "unknown"
	}
	return levelNames[level]
}

// Levels is a set of log levels, one bit each. The zero value is the empty set.
type Levels uint8

// AllLevels has every level.
const AllLevels Levels = 0xff

// ParseLevels reads a list of level names as dmesg -l takes it: names separated by commas; "warn+" is
// warn and everything more urgent, "+warn" is warn and everything less urgent. An unknown name is an
// error that lists the names.
func ParseLevels(list string) (Levels, error) {
	var set Levels
	for word := range strings.SplitSeq(list, ",") {
		levels, err := parseLevelWord(strings.TrimSpace(word))
		if err != nil {
			return 0, fmt.Errorf("parse levels %q: %w", list, err)
		}
		set |= levels
	}
	return set, nil
}

func parseLevelWord(word string) (Levels, error) {
	name, andUrgent := strings.CutSuffix(word, "+")
	name, andLess := strings.CutPrefix(name, "+")
	i := slices.Index(levelNames[:], strings.ToLower(name))
	switch {
	case i < 0:
		return 0, fmt.Errorf("no level %q, want one of %s", name, strings.Join(levelNames[:], " "))
	case andUrgent && andLess:
		return AllLevels, nil
	case andUrgent:
		return Levels(1<<(i+1) - 1), nil
	case andLess:
		return AllLevels << i, nil
	}
	return 1 << i, nil
}

// Has reports whether the level is in the set. A record of Unknown level is in every set but the empty
// one: console text tells no level, and hiding a crash would be worse than showing a line too many.
func (s Levels) Has(level int) bool {
	if level < 0 || level >= len(levelNames) {
		return s != 0
	}
	return s&(1<<level) != 0
}

// String returns the set in ParseLevels' form: "emerg,alert", or the empty string.
func (s Levels) String() string {
	var names []string
	for i, name := range levelNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
