// SPDX-License-Identifier: GPL-2.0
/*
 * exit_hold - keep a process in the middle of its end.
 *
 * Only for the tests of exit: what lockit does, in a few lines.
 */
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process");

static struct task_struct *target;

static int __init exit_hold_init(void)
{
	struct pid *found;

	if (IS_ENABLED(CONFIG_PREEMPT_COUNT) || num_online_cpus() < 2)
		return -EOPNOTSUPP;
	found = find_get_pid(pid);
	target = get_pid_task(found, PIDTYPE_PID);
	put_pid(found);
	if (!target)
		return -ESRCH;
	task_lock(target);
	return 0;
}

static void __exit exit_hold_exit(void)
{
	task_unlock(target);
	put_task_struct(target);
}

module_init(exit_hold_init);
module_exit(exit_hold_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Hold the lock of a process that is to be looked at in its end");
