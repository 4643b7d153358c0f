// SPDX-License-Identifier: GPL-2.0
/*
 * current - who loads and unloads this module.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>

/*
 * task_pid_nr() is the number of the thread that runs; task_tgid_nr() is what
 * getpid() returns to all threads of a process. The name is the thread's own,
 * and others may be writing to it: get_task_comm() copies it with care.
 */
static void show(const char *what)
{
	char name[TASK_COMM_LEN];

	get_task_comm(name, current);
	pr_info("%s by %s, pid %d of process %d\n", what, name,
		task_pid_nr(current), task_tgid_nr(current));
}

static int __init current_init(void)
{
	show("loaded");
	return 0;
}

static void __exit current_exit(void)
{
	show("unloaded");
}

module_init(current_init);
module_exit(current_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print name and pid of the process that loads the module");
