// SPDX-License-Identifier: GPL-2.0
/*
 * search_mod - find another module by name and call its init function again.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/module.h>
#include <linux/pgtable.h>
#include <linux/rculist.h>
#include <linux/string.h>

static char *name = "";
module_param(name, charp, 0444);
MODULE_PARM_DESC(name, "name of the module to find");

/*
 * The head of the kernel's list of modules is not exported, but the list is a
 * ring, and we are in it. Walking round from here passes the head as well: it
 * is the one node that is not part of a struct module, and not in the modules'
 * memory.
 */
static bool __init is_module(const struct module *mod)
{
	unsigned long addr = (unsigned long)mod;

	return addr >= MODULES_VADDR && addr < MODULES_END;
}

/*
 * Modules come and go meanwhile. The list is RCU's (and module_mutex's, which
 * is not exported either); only the reference keeps the module after that.
 * A module that is still coming or already going is of no use.
 */
static struct module *__init find_and_get(const char *wanted)
{
	struct module *found = ERR_PTR(-ENOENT);
	struct module *mod;

	rcu_read_lock_sched();
	list_for_each_entry_rcu(mod, &THIS_MODULE->list, list) {
		if (!is_module(mod) || strcmp(mod->name, wanted))
			continue;
		if (READ_ONCE(mod->state) == MODULE_STATE_LIVE &&
		    try_module_get(mod))
			found = mod;
		else
			found = ERR_PTR(-EBUSY);
		break;
	}
	rcu_read_unlock_sched();
	return found;
}

static int __init call_init(struct module *mod)
{
	if (!mod->init) {
		pr_err("%s has no init function\n", mod->name);
		return -ENOEXEC;
	}
	if (!within_module_core((unsigned long)mod->init, mod)) {
		pr_err("%s's init function was freed after loading\n", mod->name);
		return -EFAULT;
	}
	pr_info("calling %s's init function\n", mod->name);
	pr_info("it returned %d\n", mod->init());
	return 0;
}

static int __init search_mod_init(void)
{
	struct module *mod;
	int err;

	mod = find_and_get(name);
	if (IS_ERR(mod)) {
		pr_err("no module %s that could be used\n", name);
		return PTR_ERR(mod);
	}
	pr_info("found %s\n", mod->name);
	err = call_init(mod);
	module_put(mod);
	return err;
}

static void __exit search_mod_exit(void)
{
}

module_init(search_mod_init);
module_exit(search_mod_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Find a module by name and call its init function");
