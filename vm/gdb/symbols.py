# Backtraces beyond an exception, and module symbols at their true addresses by the kernel's own scripts.
#
# Sourced once gdb has the kernel's symbols and a target. kaleido_modules, set before, has the file of each
# module by its name.
import re

import gdb
import gdb.unwinder


class Exceptions(gdb.unwinder.Unwinder):
    """Goes on from the handler of an exception or an interrupt to the kernel code that had it, and no further
    where user space had it, or made a system call.

    The entry code, which is assembly, has no call frame information. When it has called its C function, a
    struct pt_regs with the registers of that moment is at the top of its stack (arch/x86/entry/entry_64.S)."""

    entry = re.compile("<(asm_(exc|sysvec|common_interrupt|spurious)|entry_SYSCALL_64)")
    names = {"r15": "r15", "r14": "r14", "r13": "r13", "r12": "r12", "rbp": "bp", "rbx": "bx", "r11": "r11",
             "r10": "r10", "r9": "r9", "r8": "r8", "rax": "ax", "rcx": "cx", "rdx": "dx", "rsi": "si",
             "rdi": "di", "rip": "ip", "rsp": "sp"}

    class Frame:
        def __init__(self, sp, pc):
            self.sp = sp
            self.pc = pc

    def __init__(self):
        super().__init__("kaleido exceptions")
        self.address = gdb.lookup_type("void").pointer()
        self.registers = gdb.lookup_type("struct pt_regs").pointer()

    def __call__(self, frame):
        pc, sp = frame.read_register("rip"), frame.read_register("rsp")
        if not self.entry.search(str(pc.cast(self.address))):
            return None
        try:
            saved = sp.cast(self.registers).dereference()
            saved.fetch_lazy()
        except gdb.MemoryError:
            return None
        info = frame.create_unwind_info(self.Frame(sp, pc))
        for register, field in self.names.items():
            info.add_saved_register(register, saved[field].cast(self.address))
        if int(saved["cs"]) & 3:
            info.add_saved_register("rip", gdb.Value(0).cast(self.address))  # which is the end, for gdb
        return info


gdb.unwinder.register_unwinder(None, Exceptions(), replace=True)

try:
    from linux import modules, symbols
except ImportError:
    symbols = None
    gdb.write("kaleido: this kernel was built without gdb's scripts (CONFIG_GDB_SCRIPTS): "
              "no lx- commands, no symbols of modules\n")

if symbols:
    STATE_LIVE = 0  # enum module_state

    # Compared with lx-symbols this knows every section, among them .init.text, in which the init function is,
    # needs no search for files, works before the kernel has booted, and forgets where a module was when it is
    # loaded again.
    class Symbols(symbols.LxSymbols):
        __doc__ = symbols.LxSymbols.__doc__

        addresses = {}  # of the modules whose symbols are loaded

        def _get_module_file(self, name):
            return kaleido_modules.get(name) or super()._get_module_file(name)

        def _update_module_files(self):
            # The last path is the working directory, which may be anything.
            paths = self.module_paths
            self.module_paths = paths[:-1]
            super()._update_module_files()
            self.module_paths = paths

        def _section_arguments(self, module, *rest):
            try:
                table = module["sect_attrs"].dereference()
                attrs = [table["attrs"][n] for n in range(int(table["nsections"]))]
                sections = {a["battr"]["attr"]["name"].string(): a["address"] for a in attrs}
            except gdb.error:  # another version of the kernel: as its own scripts do it
                return super()._section_arguments(module, *rest)
            live = int(module["state"]) == STATE_LIVE
            return "".join(" -s {} {}".format(name, hex(int(address))) for name, address in sections.items()
                           if name.startswith(".") and not (live and name.startswith(".init")))

        def load_module_symbols(self, module):
            name = module["name"].string()
            if not self._get_module_file(name):
                return
            if name in self.addresses:
                try:
                    gdb.execute("remove-symbol-file -a " + self.addresses[name], to_string=True)
                except gdb.error:
                    pass  # lx-symbols dropped them all
            super().load_module_symbols(module)
            self.addresses[name] = self.text(module)

        def text(self, module):
            try:
                return hex(int(module["core_layout"]["base"]))
            except gdb.error:  # since Linux 6.4
                return hex(int(module["mem"][0]["base"]))

    class Loading(symbols.LoadModuleBreakpoint):
        """Loads the symbols of a module just before its init function is called."""

        def __init__(self, command):
            # A breakpoint of the hardware's can be set before there are page tables.
            gdb.Breakpoint.__init__(self, "do_init_module", type=gdb.BP_HARDWARE_BREAKPOINT, internal=True)
            self.silent = True
            self.gdb_command = command

        def stop(self):
            self.gdb_command.load_module_symbols(gdb.parse_and_eval("mod"))
            return False

    command = Symbols()
    command.module_paths = [""]
    if kaleido_booted:
        for module in modules.module_list():
            command.load_module_symbols(module)
    if not kaleido_core:
        command.breakpoint = Loading(command)


def panicked():
    """Selects the processor that panicked, in a core: the others were stopped, or idle."""
    try:
        processor = int(gdb.parse_and_eval("panic_cpu.counter"))
    except gdb.error:  # another version of the kernel
        return
    for thread in gdb.selected_inferior().threads():
        if thread.num == processor + 1:  # QEMU writes them in their order
            thread.switch()


if kaleido_core:
    panicked()
