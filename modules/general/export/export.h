/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _EXPORT_H
#define _EXPORT_H

/* What module export offers to others: its parameter "value". */
extern int export_value;

#endif /* _EXPORT_H */
