// SPDX-License-Identifier: GPL-2.0
/*
 * three - the names of the three processes that everything comes from.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

/*
 * Process 0 has no struct pid and is in no list, but its task_struct is a
 * variable of the kernel's. (Every processor has such an idle task with pid 0;
 * this is the one that booted.)
 */
static struct task_struct *__init find(pid_t nr)
{
	struct task_struct *task;

	if (!nr)
		return get_task_struct(&init_task);
	/*
	 * In init_pid_ns, not in the loader's: there a container has another
	 * process 1. RCU keeps the struct pid; the reference keeps the task.
	 */
	rcu_read_lock();
	task = get_pid_task(find_pid_ns(nr, &init_pid_ns), PIDTYPE_PID);
	rcu_read_unlock();
	return task;
}

static int __init three_init(void)
{
	char name[TASK_COMM_LEN];
	pid_t nr;

	for (nr = 0; nr <= 2; nr++) {
		struct task_struct *task = find(nr);

		if (!task)
			return -ESRCH;
		get_task_comm(name, task);
		put_task_struct(task);
		pr_info("pid %d is %s\n", nr, name);
	}
	return 0;
}

static void __exit three_exit(void)
{
}

module_init(three_init);
module_exit(three_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the names of the processes 0, 1 and 2");
