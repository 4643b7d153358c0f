// SPDX-License-Identifier: GPL-2.0
/*
 * threads - what the threads of a process share, and what they do not.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process, or of one of its threads");

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

/* False if there are more threads than room. */
static bool __init fill(struct task_struct *process,
			struct task_struct **threads, unsigned int room,
			unsigned int *n)
{
	struct task_struct *thread;
	bool all = true;

	rcu_read_lock();
	for_each_thread(process, thread) {
		all = *n < room;
		if (!all)
			break;
		threads[(*n)++] = get_task_struct(thread);
	}
	rcu_read_unlock();
	return all;
}

/*
 * Addresses only, nothing is read there. %p prints a number that is the same
 * for the same address and says nothing else: the true one is for nobody's
 * eyes. A thread that ends gives up its mm before it leaves the list.
 */
static void __init show(struct task_struct *thread)
{
	char name[TASK_COMM_LEN];

	get_task_comm(name, thread);
	pr_info("tid=%d name=%s mm=0x%p stack=0x%p signal=0x%p\n",
		task_pid_vnr(thread), name, READ_ONCE(thread->mm),
		READ_ONCE(thread->stack), READ_ONCE(thread->signal));
}

static int __init show_all(struct task_struct *process)
{
	unsigned int i, n = 0, room = 16;
	struct task_struct **threads;
	bool all = false;

	while (!all) {
		threads = kvmalloc_array(room, sizeof(*threads), GFP_KERNEL);
		if (!threads)
			return -ENOMEM;
		all = fill(process, threads, room, &n);
		for (i = 0; i < n; i++) {
			if (all)
				show(threads[i]);
			put_task_struct(threads[i]);
		}
		kvfree(threads);
		if (!all)
			n = 0;
		room *= 2;
	}
	pr_info("%u threads\n", n);
	return 0;
}

static int __init threads_init(void)
{
	struct task_struct *task = find_task(pid);
	int err;

	if (!task)
		return -ESRCH;
	err = show_all(task);
	put_task_struct(task);
	return err;
}

static void __exit threads_exit(void)
{
}

module_init(threads_init);
module_exit(threads_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the threads of a process");
