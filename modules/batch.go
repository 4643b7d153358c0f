package modules

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/linux-kaleidoscope/kaleido/kbuild"
	"github.com/linux-kaleidoscope/kaleido/kbuild/cache"
)

// Job is an exercise to build, perhaps from other sources than its own.
type Job struct {
	Exercise *Exercise
	// Files take the place of the exercise's files of the same names.
	Files map[string][]byte
}

// Outcome is what became of a job: its products, or an error, which is a [*kbuild.MakeError] if the
// sources do not compile.
type Outcome struct {
	Built *Built
	Err   error
}

// BuildAll builds each job by itself, as far as caching and failing go, yet with as few runs of make as
// can be: one for all that are not in the cache, and more only when something in it fails, or when
// there are several jobs for one exercise. The outcomes are in the order of the jobs. The error is
// that of a build that says nothing about any job.
func BuildAll(ctx context.Context, k *kbuild.Kernel, jobs []Job, opts Options) ([]Outcome, error) {
	b := batch{kernel: k, opts: &opts}
	units := make([]*unit, len(jobs))
	for i, job := range jobs {
		u, err := b.unit(job)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", job.Exercise.Name, err)
		}
		units[i] = u
	}
	for missing := b.missing(units); len(missing) > 0; missing = b.missing(units) {
		if err := b.make(ctx, oneOfEach(missing)); err != nil {
			return nil, fmt.Errorf("build modules: %w", err)
		}
	}
	outcomes := make([]Outcome, len(units))
	for i, u := range units {
		outcomes[i] = Outcome{u.built, u.err}
	}
	return outcomes, nil
}

// unit is a job under way.
type unit struct {
	exercise *Exercise
	builder  builder // of its files, named as in the catalogue
	built    *Built
	err      error
}

// batch builds units.
type batch struct {
	kernel *kbuild.Kernel
	opts   *Options
}

// unit looks at the sources of a job.
func (b *batch) unit(job Job) (*unit, error) {
	ex := job.Exercise
	files, odd, err := scan(ex.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range odd {
		b.opts.note("%s/%s is not a regular file: left out", ex.Name, name)
	}
	files = substitute(b.opts.shown(files), job.Files)
	for i := range files {
		files[i].name = ex.Name + "/" + files[i].name
	}
	u := &unit{exercise: ex}
	u.builder = builder{
		kernel: b.kernel, files: files, opts: b.opts,
		describe: fmt.Sprintf("%s for linux %s", ex.Name, b.kernel.Release),
	}
	return u, u.builder.hashSources()
}

// missing takes what is in the cache and returns the units that are not.
func (b *batch) missing(units []*unit) []*unit {
	var missing []*unit
	for _, u := range units {
		if u.built != nil || u.err != nil {
			continue
		}
		if e, err := u.builder.find(); err == nil {
			u.take(e, false)
			continue
		}
		missing = append(missing, u)
	}
	return missing
}

// take reads the products of an entry.
func (u *unit) take(e *cache.Entry, made bool) {
	built, err := u.builder.readProducts(e.Path)
	if err == nil {
		built.Made = made
		built.Modules, err = order(built.Modules, false)
	}
	u.built, u.err = built, err
}

// oneOfEach returns the first unit of each exercise, as one run of make has one folder for it.
func oneOfEach(units []*unit) []*unit {
	seen := map[string]bool{}
	var first []*unit
	for _, u := range units {
		if !seen[u.exercise.Name] {
			first = append(first, u)
		}
		seen[u.exercise.Name] = true
	}
	return first
}

// make runs make for the units. When it fails for several it is run for each half: make does not finish
// the good ones beside a bad one, whose fault is all that is to be told. The error is one that no
// unit is to blame for.
func (b *batch) make(ctx context.Context, units []*unit) error {
	work, err := os.MkdirTemp("", "kaleido-modules-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := b.layOut(work, units); err != nil {
		return fmt.Errorf("copy sources: %w", err)
	}
	err = b.kernel.BuildModules(ctx, b.opts.moduleBuild(work))
	var failed *kbuild.MakeError
	switch {
	case err == nil:
		return b.keep(ctx, work, units)
	case !errors.As(err, &failed) || ctx.Err() != nil:
		return err
	case len(units) == 1:
		units[0].err = fmt.Errorf("build %s: %w", units[0].exercise.Name, err)
		return nil
	}
	half := len(units) / 2
	if err := b.make(ctx, units[:half]); err != nil {
		return err
	}
	return b.make(ctx, units[half:])
}

// layOut puts the sources of all units into the folder for make.
func (b *batch) layOut(work string, units []*unit) error {
	var exercises []*Exercise
	for _, u := range units {
		exercises = append(exercises, u.exercise)
		if err := u.builder.copySources(work); err != nil {
			return err
		}
	}
	top := topKbuild(exercises)
	return top.write(work)
}

// keep puts the products of each unit into the cache.
func (b *batch) keep(ctx context.Context, work string, units []*unit) error {
	for _, u := range units {
		e, made, err := b.opts.Cache.Ensure(ctx, cache.Modules, u.builder.key, u.builder.describe, func(ctx context.Context, dir string) error {
			return u.builder.collect(ctx, work, filepath.Join(work, filepath.FromSlash(u.exercise.Name)), dir)
		})
		switch {
		case errors.Is(err, ErrNoModule):
			u.err = fmt.Errorf("build %s: %w", u.exercise.Name, err)
		case err != nil:
			return err
		default:
			u.take(e, made)
		}
	}
	return nil
}
