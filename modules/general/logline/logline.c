// SPDX-License-Identifier: GPL-2.0
/*
 * logline - how much of a long line the kernel log keeps.
 *
 * The limit is private to kernel/printk/, so print a line, read the log back as
 * a crash dumper would, and measure.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kmsg_dump.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#define LONGEST		4000	/* beyond any kernel's limit so far (2048) */
#define MARK		KBUILD_MODNAME ": x"

static unsigned int len = 2000;
module_param(len, uint, 0444);
MODULE_PARM_DESC(len, "length of the line to print, 10 to 4000 (default: 2000)");

/* The length of the newest line that begins with MARK, without its newline. */
static size_t __init measure(char *line, size_t size)
{
	struct kmsg_dump_iter iter;
	size_t got, length = 0;

	kmsg_dump_rewind(&iter);
	while (kmsg_dump_get_line(&iter, false, line, size - 1, &got)) {
		char *start;

		line[got] = '\0';
		/* Time and caller come first; how long they are differs. */
		start = strstr(line, MARK);
		if (start)
			length = strcspn(start, "\n");
	}
	return length;
}

static int __init logline_init(void)
{
	const size_t size = 2 * LONGEST;
	size_t prefix = strlen(KBUILD_MODNAME ": ");
	char *buffer;

	if (len <= prefix || len > LONGEST)
		return -EINVAL;
	buffer = kmalloc(size, GFP_KERNEL);
	if (!buffer)
		return -ENOMEM;

	memset(buffer, 'x', len - prefix);
	buffer[len - prefix] = '\0';
	pr_info("%s\n", buffer);
	/*
	 * A line that was cut has lost its newline too, and stays open for more
	 * until the next one comes. So do not look before this.
	 */
	pr_info("%u characters printed\n", len);
	pr_info("%zu characters kept\n", measure(buffer, size));

	kfree(buffer);
	return 0;
}

static void __exit logline_exit(void)
{
}

module_init(logline_init);
module_exit(logline_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Find the longest line that the kernel log keeps");
