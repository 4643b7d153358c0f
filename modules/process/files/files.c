// SPDX-License-Identifier: GPL-2.0
/*
 * files - the files that a process has open.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

static int pid;
module_param(pid, int, 0444);
MODULE_PARM_DESC(pid, "number of the process");

static struct task_struct *__init find_task(pid_t nr)
{
	struct pid *found = find_get_pid(nr);
	struct task_struct *task = get_pid_task(found, PIDTYPE_PID);

	put_pid(found);
	return task;
}

struct open_file {
	struct file *file;
	unsigned int fd;
};

/* Anything but 0 ends iterate_fd(). Its const is for those who only look. */
static int __init take(const void *data, struct file *file, unsigned int fd)
{
	struct open_file *open = (struct open_file *)data;

	open->file = get_file(file);
	open->fd = fd;
	return 1;
}

/*
 * The first open file from a number on, with a reference. task_lock() keeps
 * task->files, which is NULL once the process has ended; iterate_fd() takes the
 * lock of the table. (get_files_struct(), with which one could keep the whole
 * table, was removed in 5.11.)
 */
static bool __init next_file(struct task_struct *task, unsigned int from,
			     struct open_file *open)
{
	bool found = false;

	task_lock(task);
	if (task->files)
		found = iterate_fd(task->files, from, take, open);
	task_unlock(task);
	return found;
}

/*
 * d_path() and not just the name in the dentry: that is the last part of a
 * path only, and a pipe has none.
 */
static void __init show(struct open_file *open, char *buf)
{
	char *path = d_path(&open->file->f_path, buf, PATH_MAX);

	pr_info("%u %s\n", open->fd, IS_ERR(path) ? "(path too long)" : path);
}

/* One at a time: between two of them no lock is held. */
static unsigned int __init show_all(struct task_struct *task, char *buf)
{
	struct open_file open = {};
	unsigned int n = 0;

	while (next_file(task, n ? open.fd + 1 : 0, &open)) {
		show(&open, buf);
		fput(open.file);
		n++;
		cond_resched();
	}
	return n;
}

static int __init show_files_init(void)
{
	struct task_struct *task;
	char *buf;

	task = find_task(pid);
	if (!task)
		return -ESRCH;
	buf = kmalloc(PATH_MAX, GFP_KERNEL);
	if (buf)
		pr_info("%u open\n", show_all(task, buf));
	kfree(buf);
	put_task_struct(task);
	return buf ? 0 : -ENOMEM;
}

static void __exit show_files_exit(void)
{
}

module_init(show_files_init);
module_exit(show_files_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the open files of a process");
