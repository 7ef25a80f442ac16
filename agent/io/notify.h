/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * notify.h - tells the service manager how the agent is, by the protocol of sd_notify(3): a
 * datagram to the socket that $NOTIFY_SOCKET names.
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdint.h>

/* "READY=1", "STATUS=...": lines, without a newline behind the last one. 0, also if nobody wants
 * to know; -errno. It never waits. */
int notify_send(const char *lines);

/* Microseconds within which the manager wants to hear "WATCHDOG=1" from this process; 0: it does
 * not. */
uint64_t notify_watchdog_us(void);

#endif
