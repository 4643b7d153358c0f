// SPDX-License-Identifier: GPL-2.0
/*
 * exit_hold - keep a process in the middle of its end.
 *
 * Only for the tests of exit. Whoever has /proc/exit_hold open for reading when
 * it ends is held as the file is closed, which is after do_exit() has set the
 * code and before the process becomes a zombie, until something is written.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>

static DECLARE_COMPLETION(go);

static ssize_t exit_hold_write(struct file *file, const char __user *buf,
			       size_t count, loff_t *ppos)
{
	complete_all(&go);
	return count;
}

static int exit_hold_release(struct inode *inode, struct file *file)
{
	if (file->f_mode & FMODE_WRITE)
		return 0;
	pr_info("process %d is held\n", task_pid_nr(current));
	wait_for_completion(&go);
	return 0;
}

static const struct proc_ops exit_hold_ops = {
	.proc_write = exit_hold_write,
	.proc_release = exit_hold_release,
	.proc_lseek = noop_llseek,
};

static struct proc_dir_entry *entry;

static int __init exit_hold_init(void)
{
	entry = proc_create("exit_hold", 0600, NULL, &exit_hold_ops);
	return entry ? 0 : -ENOMEM;
}

/* Removing the file waits for a release that is under way. */
static void __exit exit_hold_exit(void)
{
	complete_all(&go);
	proc_remove(entry);
}

module_init(exit_hold_init);
module_exit(exit_hold_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Hold a process that is to be looked at in its end");
