/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * interface.h - name and index of an interface of this network namespace. Unlike the C library's
 * functions these say why they fail: -ENODEV, there is none; else another -errno.
 */
#ifndef INTERFACE_H
#define INTERFACE_H

#include <net/if.h>

int interface_index(const char *name); /* > 0 */
int interface_name(unsigned int ifindex, char ret[static IF_NAMESIZE]); /* 0 */

#endif
