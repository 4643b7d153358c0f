// SPDX-License-Identifier: GPL-2.0
/*
 * lockit - hold the lock of a process from loading to unloading.
 *
 * Nobody may do this. It shows what a spinlock that is not given back does to a
 * process that needs it to die.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process");

static struct task_struct *target;

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

/*
 * Whom it would do more harm to than it can show: a kernel that counts held
 * locks would have preemption off for the loader alone and be confused by the
 * unlock in another process; with one processor nothing would run any more to
 * unload this; process 1 has work to do; and the loader needs its own lock when
 * it ends.
 */
static int __init refuse(struct task_struct *task)
{
	if (IS_ENABLED(CONFIG_PREEMPT_COUNT) || num_online_cpus() < 2)
		return -EOPNOTSUPP;
	if (is_global_init(task) || (task->flags & PF_KTHREAD))
		return -EPERM;
	if (same_thread_group(task, current))
		return -EDEADLK;
	return 0;
}

static int __init lockit_init(void)
{
	struct task_struct *task = find_task(pid);
	int err;

	if (!task)
		return -ESRCH;
	err = refuse(task);
	if (err) {
		put_task_struct(task);
		return err;
	}
	target = task;
	pr_info("locking %d\n", pid);
	task_lock(task);
	return 0;
}

/* The reference has kept the lock: there may be no process around it. */
static void __exit lockit_exit(void)
{
	task_unlock(target);
	put_task_struct(target);
	pr_info("unlocked %d\n", pid);
}

module_init(lockit_init);
module_exit(lockit_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Hold the lock of a process while the module is loaded");
