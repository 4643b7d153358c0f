package check

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"rsc.io/script"
)

// condition is a guard of the language.
type condition struct {
	summary string
	prefix  bool
	check   func(suffix string) error // whether the suffix makes sense
	eval    func(f Facts, suffix string) bool
}

// conditions are all guards, by name.
var conditions = map[string]condition{
	"kvm":  {"the guest runs under KVM", false, nil, func(f Facts, _ string) bool { return f.KVM }},
	"arch": {"the guest's machine, as uname -m says it", true, notEmpty, func(f Facts, s string) bool { return f.Arch == s }},
	"config": {"the kernel has CONFIG_NAME=y or =m", true, configName, func(f Facts, s string) bool {
		v := f.Config[strings.TrimPrefix(s, "CONFIG_")]
		return v == "y" || v == "m"
	}},
	"kernel": {"the kernel's version compares so, as in [kernel:>=6.12]", true, kernelOp, func(f Facts, s string) bool {
		m := kernelRE.FindStringSubmatch(s)
		return m != nil && versionFits(f.Release, m[1], m[2])
	}},
}

var (
	configRE = regexp.MustCompile(`^[A-Z0-9_]+$`)
	kernelRE = regexp.MustCompile(`^(>=|<=|==|!=|>|<)([0-9]+(?:\.[0-9]+){0,2})$`)
)

func notEmpty(s string) error {
	if s == "" {
		return fmt.Errorf("a name is missing")
	}
	return nil
}

func configName(s string) error {
	if !configRE.MatchString(s) {
		return fmt.Errorf("%q is no name of a configuration symbol", s)
	}
	return nil
}

func kernelOp(s string) error {
	if !kernelRE.MatchString(s) {
		return fmt.Errorf("%q is not like >=6.12", s)
	}
	return nil
}

// versionFits compares as many numbers as the wanted version has, so that ==6.1 is true of 6.1.192.
func versionFits(release, op, want string) bool {
	have := strings.FieldsFunc(release, func(c rune) bool { return c < '0' || c > '9' })
	order := 0
	for i, w := range strings.Split(want, ".") {
		h := "0"
		if i < len(have) {
			h = have[i]
		}
		// Both are digits; one too long for an int is as good as the largest.
		hn, _ := strconv.Atoi(h)
		wn, _ := strconv.Atoi(w)
		if hn != wn {
			order = hn - wn
			break
		}
	}
	switch op {
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	case "!=":
		return order != 0
	}
	return order == 0
}

// live returns the condition as the engine takes it.
func (c condition) live(f Facts) script.Cond {
	if c.prefix {
		return script.PrefixCondition(c.summary, func(_ *script.State, suffix string) (bool, error) { return c.eval(f, suffix), nil })
	}
	return script.Condition(c.summary, func(*script.State) (bool, error) { return c.eval(f, ""), nil })
}

// static returns a condition that only looks at its suffix and gives the answer it is told.
func (c condition) static(answer func() bool) script.Cond {
	if c.prefix {
		return script.PrefixCondition(c.summary, func(_ *script.State, suffix string) (bool, error) {
			return answer(), c.check(suffix)
		})
	}
	return script.Condition(c.summary, func(*script.State) (bool, error) { return answer(), nil })
}
