/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* hostile_clear_tunnel.bpf.c - hostile.bpf.c of the inner side, with IP-in-IP. */
#define INNER 1
#define TUNNEL 1
#include "../tests/bpf/hostile.bpf.c" /* NOLINT(bugprone-suspicious-include): as it is */
