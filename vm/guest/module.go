package guest

import "context"

// Loaded is a module that was put into the kernel.
type Loaded struct {
	PID  int    // of the process that made the system call: the module's "current"; 0 if the module was in already
	File string // in the guest
}

// LoadModule loads a kernel module by finit_module(2), called exactly once, in a
// process of its own. A name with a slash is a file in the guest; any other is
// looked for under /lib/modules/RELEASE/extra, with "-" and "_" the same. The
// error is an *Error with the kernel's errno, or with a Signal if the process
// died in the call, as it does in an oops.
func (c *Client) LoadModule(ctx context.Context, nameOrPath string, params ...string) error {
	_, err := c.InsertModule(ctx, nameOrPath, params...)
	return err
}

// InsertModule is LoadModule and says more. It returns a Loaded with a PID also
// beside an error if the process existed.
func (c *Client) InsertModule(ctx context.Context, nameOrPath string, params ...string) (*Loaded, error) {
	return c.load(ctx, request{Op: opLoad, Name: nameOrPath, Params: params})
}

// Modprobe loads a module by name after all the modules that modules.dep says
// it needs. Modules that are loaded already are no error.
func (c *Client) Modprobe(ctx context.Context, name string, params ...string) (*Loaded, error) {
	return c.load(ctx, request{Op: opLoad, Name: name, Params: params, Deps: true})
}

func (c *Client) load(ctx context.Context, req request) (*Loaded, error) {
	s, err := c.begin(ctx, req)
	if err != nil {
		return nil, callError("load module", req.Name, err)
	}
	r, err := s.wait(ctx)
	if err != nil {
		return nil, callError("load module", req.Name, err)
	}
	loaded := &Loaded{File: r.Name}
	select {
	case <-s.started:
		loaded.PID = s.pid
	default:
	}
	return loaded, r.failure("load module", req.Name)
}

// UnloadModule removes a module by delete_module(2) with O_NONBLOCK, called
// exactly once, in a process of its own. Errors are as LoadModule's.
func (c *Client) UnloadModule(ctx context.Context, name string) error {
	_, err := c.call(ctx, "unload module", name, request{Op: opUnload, Name: name})
	return err
}
