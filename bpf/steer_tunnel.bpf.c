/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* steer_tunnel.bpf.c - steer.bpf.c, which can also reach members on another link (tunnel.h). */
#define TUNNEL 1
#include "steer.bpf.c" /* NOLINT(bugprone-suspicious-include): as it is */
