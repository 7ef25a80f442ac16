/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * peer.h - a peer beside the datapath's namespace: a network namespace of its own, at the other end
 * of `outer`, with routes to the cluster addresses.
 */
#ifndef PEER_H
#define PEER_H

#include "../bpf/namespace.h"

#include <signal.h>
#include <sys/wait.h>

static pid_t peer; /* keeps the namespace */

static inline int begin_peer(void)
{
	int ready[2];
	char byte;

	if (pipe(ready) < 0)
		return -1;
	peer = fork();
	if (peer == 0) {
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	if (peer < 0 || read(ready[0], &byte, 1) != 1)
		return -1;
	close(ready[0]);
	return shell("ip link set lo up && ip addr add " CLUSTER "/32 dev lo && "
		     "ip addr add " CLUSTER6 "/128 dev lo && "
		     "ip link set outer-peer netns %d && ip route add " PEER "/32 dev outer && "
		     "ip route add " PEER6 "/128 dev outer && "
		     "mac=$(ip -br link show outer | awk '{print $3}') && nsenter -t %d -n sh -ec '"
		     "ip link set lo up; ip addr add " PEER "/32 dev outer-peer; "
		     "ip addr add " PEER6 "/128 dev outer-peer nodad; "
		     "ip link set outer-peer up; ip route add " CLUSTER "/32 dev outer-peer; "
		     "ip route add " CLUSTER6 "/128 dev outer-peer; "
		     "ip neigh add " CLUSTER " lladdr '$mac' dev outer-peer; "
		     "ip neigh add " CLUSTER6 " lladdr '$mac' dev outer-peer'",
		peer, peer);
}

static inline int group_begin(void **state)
{
	return group_setup(state) || begin_peer();
}

static inline int group_end(void **state)
{
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	return group_teardown(state);
}

#endif
