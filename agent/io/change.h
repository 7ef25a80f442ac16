/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * change.h - on which interface something has changed: itself, its queueing disciplines, its tc
 * filters. Over route netlink (linux/rtnetlink.h).
 */
#ifndef CHANGE_H
#define CHANGE_H

/* A descriptor or -errno. Readable: call change_read(). The caller closes it. */
int change_open(void);

/* Calls fn for each interface; ifindex 0: any may have changed, the kernel had too much to tell.
 * 0 or -errno. */
int change_read(int fd, void (*fn)(void *ctx, unsigned int ifindex), void *ctx);

#endif
