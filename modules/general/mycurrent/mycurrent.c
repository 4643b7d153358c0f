// SPDX-License-Identifier: GPL-2.0
/*
 * mycurrent - find the running task without the macro current.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/version.h>
#include <asm/current.h>

/*
 * Each CPU has a variable with its running task. From 6.2 to 6.14 it is a field
 * of pcpu_hot, with whatever else is needed often; before and after, it stands
 * alone.
 */
#if KERNEL_VERSION(6, 2, 0) <= LINUX_VERSION_CODE && \
	KERNEL_VERSION(6, 15, 0) > LINUX_VERSION_CODE
#define CURRENT_TASK	pcpu_hot.current_task
#else
#define CURRENT_TASK	current_task
#endif

/*
 * In the kernel %gs points to this CPU's variables, so a variable's "address"
 * is its offset from there. One instruction: nobody can move us to another CPU
 * between finding the variable and reading it. (The old way, from the bottom of
 * the kernel stack, ended with 4.9: thread_info is not there any more.)
 */
static struct task_struct *my_current(void)
{
	struct task_struct *task;

	asm("movq %%gs:%P1, %0" : "=r" (task) : "p" (&CURRENT_TASK));
	return task;
}

static int __init mycurrent_init(void)
{
	struct task_struct *task = my_current();

	pr_info("by hand %s[%d], by macro %s[%d], %s\n",
		task->comm, task_pid_nr(task),
		current->comm, task_pid_nr(current),
		task == current ? "the same" : "different");
	return 0;
}

static void __exit mycurrent_exit(void)
{
	struct task_struct *task = my_current();

	pr_info("unloaded by %s[%d]\n", task->comm, task_pid_nr(task));
}

module_init(mycurrent_init);
module_exit(mycurrent_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Find the running task without the macro current");
