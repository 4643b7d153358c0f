// SPDX-License-Identifier: GPL-2.0
/*
 * wordsize - how wide a machine word is.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bits.h>
#include <linux/module.h>

/* Push a bit along the word until it falls out at the end. */
static unsigned int __init count_bits(void)
{
	unsigned int bits = 0;
	unsigned long word;

	for (word = 1; word; word <<= 1)
		bits++;
	return bits;
}

static int __init wordsize_init(void)
{
	pr_info("a word has %d bits, %zu bytes\n", BITS_PER_LONG,
		sizeof(unsigned long));
	pr_info("counted %u bits\n", count_bits());
	return 0;
}

static void __exit wordsize_exit(void)
{
}

module_init(wordsize_init);
module_exit(wordsize_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The kaleido authors");
MODULE_DESCRIPTION("Print the size of a machine word");
