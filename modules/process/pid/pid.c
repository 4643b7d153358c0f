// SPDX-License-Identifier: GPL-2.0
/*
 * pid - from a number to a process and its name.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process or thread");

/*
 * Two steps, each with a reference: from the number, as the loader's pid
 * namespace has it, to the struct pid, and from there to the task. pid_task()
 * would give the task without one, which is good only under rcu_read_lock().
 * All three functions take a NULL pointer for "no such".
 */
static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

static int __init pid_init(void)
{
	struct task_struct *task = find_task(pid);
	char name[TASK_COMM_LEN];

	if (!task)
		return -ESRCH;
	get_task_comm(name, task);
	put_task_struct(task);
	pr_info("process %d is %s\n", pid, name);
	return 0;
}

static void __exit pid_exit(void)
{
}

module_init(pid_init);
module_exit(pid_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the name of a process that is given by its pid");
