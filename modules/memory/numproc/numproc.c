// SPDX-License-Identifier: GPL-2.0
/*
 * numproc - count processes and kernel threads.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

static int __init numproc_init(void)
{
	unsigned int processes = 0, kthreads = 0, without = 0;
	struct task_struct *task;

	/*
	 * RCU keeps every task of the list in memory; none is kept longer, so
	 * no reference is needed.
	 */
	rcu_read_lock();
	for_each_process(task) {
		/*
		 * Not by the mm: a zombie has given it back already, and a
		 * kernel thread may borrow one (kthread_use_mm()).
		 */
		if (task->flags & PF_KTHREAD)
			kthreads++;
		else
			processes++;
		/* Looked at, not followed: that would need task_lock(). */
		if (!READ_ONCE(task->mm))
			without++;
	}
	rcu_read_unlock();

	pr_info("%u processes\n", processes);
	pr_info("%u kernel threads\n", kthreads);
	pr_info("%u without an mm\n", without);
	return 0;
}

static void __exit numproc_exit(void)
{
}

module_init(numproc_init);
module_exit(numproc_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Count processes and kernel threads");
