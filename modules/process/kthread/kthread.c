// SPDX-License-Identifier: GPL-2.0
/*
 * kthread - a kernel thread that sleeps, and what a signal does to it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/wait.h>

#define LONGEST	86400

static unsigned int secs = 20;
module_param(secs, uint, 0444);
MODULE_PARM_DESC(secs, "how long the thread sleeps, 1 to 86400 seconds (default: 20)");

static bool allow;
module_param(allow, bool, 0444);
MODULE_PARM_DESC(allow, "let SIGKILL wake the thread (default: no)");

static struct task_struct *thread;

/* Nobody calls wake_up() on it: kthread_stop() and signals wake the sleeper. */
static DECLARE_WAIT_QUEUE_HEAD(bed);

static const char *sleep_long(void)
{
	long left;

	left = wait_event_interruptible_timeout(bed, kthread_should_stop(),
						secs * HZ);
	if (left == -ERESTARTSYS)
		return "a signal";
	return left ? "kthread_stop" : "time";
}

/*
 * Kernel threads are born with all signals ignored: one that is sent is thrown
 * away, SIGKILL too. After allow_signal() it is kept and wakes the thread; but
 * nothing dies of it. The thread must look and end itself.
 */
static int sleeper(void *unused)
{
	ktime_t start = ktime_get();
	const char *reason;

	if (allow)
		allow_signal(SIGKILL);
	pr_info("thread %d sleeps for %u s\n", task_pid_nr(current), secs);
	reason = sleep_long();
	pr_info("woken by %s after %lld ms, signal pending: %d\n", reason,
		ktime_ms_delta(ktime_get(), start), signal_pending(current));
	return 0;
}

static int __init kthread_init(void)
{
	struct task_struct *task;

	if (secs < 1 || secs > LONGEST)
		return -EINVAL;
	task = kthread_create(sleeper, NULL, "sleeper");
	if (IS_ERR(task))
		return PTR_ERR(task);
	/* It may end before kthread_stop() asks it to; keep what that needs. */
	thread = get_task_struct(task);
	wake_up_process(task);
	return 0;
}

/* Waits for its end: it runs code that is about to go. */
static void __exit kthread_exit_module(void)
{
	kthread_stop(thread);
	put_task_struct(thread);
}

module_init(kthread_init);
module_exit(kthread_exit_module);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("A kernel thread that sleeps, with and without SIGKILL allowed");
