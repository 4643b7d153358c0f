package check

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// directive is one kind of "#:" line.
type directive struct {
	args, summary string
	repeat        bool
	set           func(r *Requirements, value string) error
}

var (
	sysctlRE = regexp.MustCompile(`^([a-z0-9_]+(?:[./][A-Za-z0-9_-]+)+)\s*=\s*(\S.*)$`)
	sizeRE   = regexp.MustCompile(`^([1-9][0-9]{0,6})([MG])$`)
	moduleRE = regexp.MustCompile(`^[A-Za-z0-9_-]{1,55}$`)
)

// directives are all there are, by name.
var directives = map[string]directive{
	"cpu": {"MODEL", "QEMU's -cpu; default max", false, func(r *Requirements, v string) error {
		return word(&r.CPU, v)
	}},
	"rtc": {"TIME", "the machine's clock at power-on, as 2024-02-29T23:58:00", false, func(r *Requirements, v string) error {
		if _, err := time.Parse("2006-01-02T15:04:05", v); err != nil {
			return fmt.Errorf("%q is no time like 2024-02-29T23:58:00", v)
		}
		r.RTC = v
		return nil
	}},
	"memory": {"SIZE", "guest memory, as 512M or 1G", false, setMemory},
	"cpus": {"N", "number of processors", false, func(r *Requirements, v string) error {
		return number(&r.CPUs, v, 1, 64)
	}},
	"append": {"ARG", "a kernel argument", true, func(r *Requirements, v string) error {
		r.Append = append(r.Append, v)
		return nil
	}},
	"sysctl": {"NAME=VALUE", "a kernel parameter, set before the first step", true, func(r *Requirements, v string) error {
		m := sysctlRE.FindStringSubmatch(v)
		if m == nil {
			return fmt.Errorf("%q is not NAME=VALUE", v)
		}
		r.Sysctls = append(r.Sysctls, Sysctl{m[1], m[2]})
		return nil
	}},
	"init": {"PATH", "the name under which the agent runs as PID 1", false, func(r *Requirements, v string) error {
		if !path.IsAbs(v) || path.Clean(v) != v {
			return fmt.Errorf("%q is not an absolute path", v)
		}
		return word(&r.Init, v)
	}},
	"timeout": {"DURATION", "for the whole test, as 90s; scaled under emulation", false, func(r *Requirements, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is no duration like 90s", v)
		}
		r.Timeout = d
		return nil
	}},
	"points": {"N", "what it is worth where tests are graded", false, func(r *Requirements, v string) error {
		return number(&r.Points, v, 0, 1_000_000)
	}},
	"skip": {"REASON", "the test is skipped", false, func(r *Requirements, v string) error {
		r.Skip = v
		return nil
	}},
	"hygiene": {"off REASON", "no module is unloaded and loaded again after the last section", false, setHygiene},
	"boot": {"", "the test needs a boot of its own, never a restored snapshot", false, func(r *Requirements, v string) error {
		if v != "" {
			return errors.New("takes no argument")
		}
		r.OwnBoot = true
		return nil
	}},
	"bzimage": {"", "the kernel's own boot code runs first, which only then turns five-level paging on", false, func(r *Requirements, v string) error {
		if v != "" {
			return errors.New("takes no argument")
		}
		r.BzImage = true
		return nil
	}},
	"modules": {"NAME...", "the modules it may use; default: all of the folder", false, func(r *Requirements, v string) error {
		r.Modules = strings.Fields(v)
		for _, name := range r.Modules {
			if !moduleRE.MatchString(name) {
				return fmt.Errorf("%q is no module name", name)
			}
		}
		return nil
	}},
}

func (p *parser) directive(line string) error {
	name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
	value = strings.TrimSpace(value)
	d, ok := directives[name]
	if !ok {
		return fmt.Errorf("unknown directive %q, want one of %s", name, strings.Join(slices.Sorted(maps.Keys(directives)), " "))
	}
	if p.given[name] && !d.repeat {
		return fmt.Errorf("directive %s: given twice", name)
	}
	if value == "" && d.args != "" {
		return fmt.Errorf("directive %s: want %s", name, d.args)
	}
	if p.given == nil {
		p.given = map[string]bool{}
	}
	p.given[name] = true
	if err := d.set(&p.sc.Requires, value); err != nil {
		return fmt.Errorf("directive %s: %w", name, err)
	}
	return nil
}

func setMemory(r *Requirements, v string) error {
	m := sizeRE.FindStringSubmatch(v)
	if m == nil {
		return fmt.Errorf("%q is no size like 512M or 1G", v)
	}
	n, err := strconv.Atoi(m[1])
	if m[2] == "G" {
		n *= 1024
	}
	r.MemoryMiB = n
	return err
}

func setHygiene(r *Requirements, v string) error {
	word, reason, _ := strings.Cut(v, " ")
	if word != "off" || strings.TrimSpace(reason) == "" {
		return errors.New("want off REASON")
	}
	r.HygieneOff = strings.TrimSpace(reason)
	return nil
}

func word(dst *string, v string) error {
	if strings.ContainsAny(v, " \t") {
		return fmt.Errorf("%q is not one word", v)
	}
	*dst = v
	return nil
}

func number(dst *int, v string, low, high int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return fmt.Errorf("%q is no number from %d to %d", v, low, high)
	}
	*dst = n
	return nil
}
