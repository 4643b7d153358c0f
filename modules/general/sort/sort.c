// SPDX-License-Identifier: GPL-2.0
/*
 * sort - take ten numbers and print them, largest first.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/sort.h>

#define WANTED	10

/* Larger than WANTED, so that one number too many is seen here: see array. */
static int values[2 * WANTED];
static unsigned int count;
module_param_array(values, int, &count, 0444);
MODULE_PARM_DESC(values, "ten numbers, with commas between them");

/*
 * Not *b - *a: the difference of two ints need not fit an int, and INT_MIN
 * would come out as larger than 1.
 */
static int descending(const void *left, const void *right)
{
	const int *a = left, *b = right;

	return (*a < *b) - (*a > *b);
}

static void __init print_values(const int *numbers)
{
	char text[WANTED * sizeof("-2147483648,")];
	int i, n = 0;

	for (i = 0; i < WANTED; i++)
		n += scnprintf(text + n, sizeof(text) - n, "%s%d",
			       i ? "," : "", numbers[i]);
	pr_info("sorted %s\n", text);
}

static int __init sort_init(void)
{
	int sorted[WANTED];

	if (count != WANTED) {
		pr_err("%d values needed, got %u\n", WANTED, count);
		return -EINVAL;
	}
	/* A copy: the parameter goes on saying what was given. */
	memcpy(sorted, values, sizeof(sorted));
	sort(sorted, WANTED, sizeof(sorted[0]), descending, NULL);
	print_values(sorted);
	return 0;
}

static void __exit sort_exit(void)
{
}

module_init(sort_init);
module_exit(sort_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Sort ten numbers in descending order");
