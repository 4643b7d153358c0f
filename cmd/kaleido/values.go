package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// number is the value of a flag that is an integer with bounds.
type number struct {
	value    *int
	min, max int
}

func numberVarP(flags *pflag.FlagSet, p *int, name, short string, fallback, least, most int, usage string) {
	*p = fallback
	flags.VarP(&number{p, least, most}, name, short, usage)
}

// String is the number in digits.
func (n *number) String() string { return strconv.Itoa(*n.value) }

// Type names the value in help texts.
func (n *number) Type() string { return "int" }

// Set parses digits.
func (n *number) Set(text string) error {
	v, err := strconv.Atoi(text)
	if err != nil || v < n.min || v > n.max {
		if n.max == math.MaxInt {
			return fmt.Errorf("want a number, at least %d", n.min)
		}
		return fmt.Errorf("want a number from %d to %d", n.min, n.max)
	}
	*n.value = v
	return nil
}

// period is the value of a flag that is a time, and not negative.
type period time.Duration

func periodVar(flags *pflag.FlagSet, p *time.Duration, name string, fallback time.Duration, usage string) {
	*p = fallback
	flags.Var((*period)(p), name, usage)
}

// String is the time with its unit.
func (p *period) String() string { return time.Duration(*p).String() }

// Type names the value in help texts.
func (p *period) Type() string { return "duration" }

// Set parses 90s, 1m30s.
func (p *period) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("want a time with its unit, such as 90s or 5m")
	}
	*p = period(d)
	return nil
}

// choice is the value of a flag that is one of some words.
type choice struct {
	value *string
	words []string
}

func choiceVar(flags *pflag.FlagSet, p *string, name, fallback, usage string, words ...string) {
	*p = fallback
	flags.Var(&choice{p, words}, name, usage)
}

// String is the word.
func (c *choice) String() string { return *c.value }

// Type names the value in help texts.
func (c *choice) Type() string { return "string" }

// Set takes one of the words.
func (c *choice) Set(text string) error {
	if !slices.Contains(c.words, text) {
		last := len(c.words) - 1
		return fmt.Errorf("want %s or %s", strings.Join(c.words[:last], ", "), c.words[last])
	}
	*c.value = text
	return nil
}
