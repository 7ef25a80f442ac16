/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * capture.h - the IPv4 ESP, UDP and GRE frames that come in at an interface, and all with a VLAN
 * tag in the frame, read from an AF_PACKET ring (TPACKET_V3) large enough that a burst is not lost.
 * What the kernel drops all the same is told.
 */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define CAPTURE_BLOCK_SIZE (256U << 10)
#define CAPTURE_BLOCKS 64U
#define CAPTURE_FRAME_SIZE 2048U
#define CAPTURE_RETIRE_MS 10 /* a block that is not full is handed over after this */
#define CAPTURE_SNAP 192 /* bytes: Ethernet, two tags, twice IPv4 with options, GRE, UDP, ESP */

struct capture {
	const char *name; /* of the interface, in this network namespace */
	int fd;
	uint8_t *ring;
	unsigned int block; /* the next one to be handed over */
	unsigned int longest; /* frame that the link's MTU allows */
	uint64_t realtime_offset; /* CLOCK_REALTIME, the ring's clock, less CLOCK_MONOTONIC */
};

/* Of a frame `length` bytes long, `snapped` are at hand. `time`: as in tool.h. */
typedef void capture_frame_fn(const struct capture *capture, const uint8_t *frame,
	unsigned int snapped, unsigned int length, uint64_t time);

/* Hands over what the kernel has. */
static inline void capture_drain(struct capture *capture, capture_frame_fn *frame)
{
	for (;;) {
		struct tpacket_block_desc *block =
			(void *)(capture->ring + (size_t)capture->block * CAPTURE_BLOCK_SIZE);
		const uint8_t *at = (const uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;

		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) &
			    TP_STATUS_USER))
			return;
		for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
			const struct tpacket3_hdr *header = (const struct tpacket3_hdr *)at;

			frame(capture, at + header->tp_mac, header->tp_snaplen, header->tp_len,
				header->tp_sec * TOOL_NS_PER_S + header->tp_nsec -
					capture->realtime_offset);
			at += header->tp_next_offset;
		}
		__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		capture->block = (capture->block + 1) % CAPTURE_BLOCKS;
	}
}

static inline int capture_filter(int fd)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct ethhdr, h_proto)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_8021Q, 6, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_8021AD, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 5),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ETH_HLEN + offsetof(struct iphdr, protocol)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ESP, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_GRE, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, CAPTURE_SNAP),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static inline int capture_ring(struct capture *capture)
{
	int version = TPACKET_V3;
	struct tpacket_req3 request = {
		.tp_block_size = CAPTURE_BLOCK_SIZE,
		.tp_block_nr = CAPTURE_BLOCKS,
		.tp_frame_size = CAPTURE_FRAME_SIZE,
		.tp_frame_nr = CAPTURE_BLOCK_SIZE / CAPTURE_FRAME_SIZE * CAPTURE_BLOCKS,
		.tp_retire_blk_tov = CAPTURE_RETIRE_MS,
	};
	void *ring;

	if (setsockopt(capture->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
		setsockopt(capture->fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)))
		return -1;
	ring = mmap(NULL, (size_t)CAPTURE_BLOCK_SIZE * CAPTURE_BLOCKS, PROT_READ | PROT_WRITE,
		MAP_SHARED, capture->fd, 0);
	if (ring == MAP_FAILED)
		return -1;
	capture->ring = ring;
	return 0;
}

static inline uint64_t capture_realtime_offset(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * TOOL_NS_PER_S + (uint64_t)now.tv_nsec - tool_now();
}

/*
 * Opens the interface `capture->name`, or ends the program. All protocols, not IPv4 alone: a bridge
 * takes a frame before sockets for one protocol see it. The socket is bound last, so that nothing
 * is read that the filter has not seen.
 */
static inline void capture_open(struct capture *capture)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(capture->name),
	};
	struct ifreq request = {0};
	int yes = 1;

	if (!address.sll_ifindex)
		tool_die(errno, "there is no interface %s", capture->name);
	capture->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (capture->fd < 0)
		tool_die(errno, "no packet socket");
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", capture->name);
	if (capture_filter(capture->fd) || capture_ring(capture) ||
		setsockopt(capture->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) ||
		ioctl(capture->fd, SIOCGIFMTU, &request) ||
		bind(capture->fd, (const struct sockaddr *)&address, sizeof(address)))
		tool_die(errno, "%s cannot be watched", capture->name);
	capture->longest = (unsigned int)request.ifr_mtu + ETH_HLEN;
	capture->realtime_offset = capture_realtime_offset();
}

/* Returns how many frames the kernel dropped for want of room. */
static inline uint64_t capture_close(struct capture *capture)
{
	struct tpacket_stats_v3 statistics = {0};
	socklen_t length = sizeof(statistics);

	if (getsockopt(capture->fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &length))
		tool_die(errno, "the frames dropped at %s are not known", capture->name);
	munmap(capture->ring, (size_t)CAPTURE_BLOCK_SIZE * CAPTURE_BLOCKS);
	close(capture->fd);
	return statistics.tp_drops;
}

#endif
