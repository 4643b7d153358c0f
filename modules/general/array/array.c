// SPDX-License-Identifier: GPL-2.0
/*
 * array - take exactly ten numbers.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>

#define WANTED	10

/*
 * Room for more than WANTED: a list longer than the array never gets to
 * array_init(), the kernel refuses it before.
 */
static int values[2 * WANTED];
static unsigned int count;
module_param_array(values, int, &count, 0444);
MODULE_PARM_DESC(values, "ten numbers, with commas between them");

static void __init print_values(void)
{
	char text[WANTED * sizeof("-2147483648,")];
	int i, n = 0;

	for (i = 0; i < WANTED; i++)
		n += scnprintf(text + n, sizeof(text) - n, "%s%d",
			       i ? "," : "", values[i]);
	pr_info("values %s\n", text);
}

static int __init array_init(void)
{
	if (count != WANTED) {
		pr_err("%d values needed, got %u\n", WANTED, count);
		return -EINVAL;
	}
	print_values();
	return 0;
}

static void __exit array_exit(void)
{
}

module_init(array_init);
module_exit(array_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Take an array of ten numbers as a parameter");
