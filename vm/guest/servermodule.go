package guest

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load serves a load request.
func (st *agentStream) load(req request) *reply {
	files, err := st.moduleFiles(req)
	if err != nil {
		return failed(err)
	}
	last := len(files) - 1
	for i, file := range files {
		err = st.insert(file, paramsOf(req, i == last), i == last)
		if req.Deps && errors.Is(err, unix.EEXIST) {
			err = nil
		}
		if err != nil {
			break
		}
	}
	r := failed(err)
	r.Name = files[last]
	return r
}

func paramsOf(req request, itself bool) string {
	if !itself {
		return ""
	}
	return strings.Join(req.Params, " ")
}

// moduleFiles returns the files to load, in order.
func (st *agentStream) moduleFiles(req request) ([]string, error) {
	dir := st.agent.server.opts.Modules
	if req.Deps {
		return modulesDep(dir, req.Name)
	}
	if strings.Contains(req.Name, "/") {
		return []string{req.Name}, nil
	}
	if file := findModule(filepath.Join(dir, "extra"), req.Name); file != "" {
		return []string{file}, nil
	}
	files, err := modulesDep(dir, req.Name)
	if err != nil {
		return nil, unix.ENOENT
	}
	return files[len(files)-1:], nil
}

// findModule finds a module's file under a directory.
func findModule(dir, name string) (file string) {
	if likely := filepath.Join(dir, name+".ko"); unix.Access(likely, unix.F_OK) == nil {
		return likely // a walk costs ten times as much
	}
	want := moduleName(name)
	// What cannot be read does not have the file.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".ko") && moduleName(path) == want {
			file = path
			return fs.SkipAll
		}
		return nil
	})
	return file
}

// insert loads a module file, in a child so that an oops in its init function
// kills no thread of ours.
func (st *agentStream) insert(file, params string, tell bool) error {
	return insertFile(file, params, func(call systemCall, fd uintptr) error {
		return st.inChild("insmod", call, fd, tell)
	})
}

// unload serves an unload request.
func (st *agentStream) unload(req request) *reply {
	return failed(removeModule(req.Name, func(call systemCall, file uintptr) error {
		return st.inChild("rmmod", call, file, true)
	}))
}

// insertFile has a module's file loaded by child, which makes the system call with the one file it needs.
func insertFile(file, params string, child func(call systemCall, file uintptr) error) error {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	p, err := unix.BytePtrFromString(params)
	if err != nil {
		return err
	}
	err = child(systemCall{unix.SYS_FINIT_MODULE, uintptr(fd), uintptr(unsafe.Pointer(p)), 0}, uintptr(fd))
	runtime.KeepAlive(p)
	return err
}

// removeModule has a module unloaded by child.
func removeModule(name string, child func(call systemCall, file uintptr) error) error {
	p, err := unix.BytePtrFromString(moduleName(name))
	if err != nil {
		return err
	}
	err = child(systemCall{unix.SYS_DELETE_MODULE, uintptr(unsafe.Pointer(p)), unix.O_NONBLOCK, 0}, noFile)
	runtime.KeepAlive(p)
	return err
}

// inChild makes a system call in a child whose name is comm, and returns its
// errno. The child keeps no file but one.
func (st *agentStream) inChild(comm string, call systemCall, file uintptr, tell bool) error {
	cc, err := newChildCall(comm, call, file)
	if err != nil {
		return err
	}
	defer cc.close()
	c, err := st.agent.server.reaper.start(cc.fork)
	if err != nil {
		return err
	}
	if tell {
		st.started(c.pid)
	}
	select {
	case <-c.done:
	case <-st.ctx.Done():
		if context.Cause(st.ctx) == errCanceled {
			_ = c.signal(unix.SIGKILL, false)
		}
		<-c.done
	}
	return cc.end(c.status)
}
