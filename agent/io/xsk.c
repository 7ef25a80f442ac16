/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xsk.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <xdp/xsk.h>

#include "espalier.h"
#include "io/interface.h"

#define FRAME_SIZE 2048
#define RX_FRAMES 4096 /* of all queues together; powers of two, as the rings are that long */
#define RX_FRAMES_MIN 256 /* of each queue */
#define TX_FRAMES 512
#define KICK_EVERY 64 /* sends */
#define KICKS_MAX 32 /* the kernel takes at least 16 frames a call */
#define BUSY_RETRIES 50 /* of 20 ms: the queue of a closed socket is free only later */
#define TTL 64

struct queue {
	struct xsk_ring_prod fill;
	struct xsk_ring_cons completion;
	struct xsk_ring_cons rx;
	struct xsk_ring_prod tx; /* of the first queue only */
	struct xsk_umem *umem;
	struct xsk_socket *socket;
	uint8_t *area; /* the frames: first for receiving, then for sending; mmap */
	size_t area_size;
};

struct xsk {
	struct xsk_config config;
	char name[IF_NAMESIZE];
	uint8_t mac[ETH_ALEN]; /* own */
	unsigned int rx_frames; /* of each queue */
	unsigned int queue_count;
	unsigned int queued; /* written to the tx ring, not yet given to the kernel */
	unsigned int free_count;
	uint64_t free_frames[TX_FRAMES]; /* offsets in the first queue's area */
	struct queue queues[];
};

struct frame {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	uint8_t payload[];
} __attribute__((packed));

static_assert(sizeof(struct frame) + CARRIER_DATAGRAM_MAX <= FRAME_SIZE, "a datagram fits");

/*
 * Frames.
 */

/* Ones' complement sum (RFC 1071), not folded, in the memory's byte order. */
static uint64_t sum(uint64_t start, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint32_t word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		start += word;
	}
	word = 0;
	memcpy(&word, p, len);
	return start + word;
}

static uint16_t fold(uint64_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)~total;
}

static size_t frame_build(const struct xsk *x, struct frame *f, struct in_addr to,
	const uint8_t mac[6], const void *buf, size_t len)
{
	uint16_t udp_len = htons((uint16_t)(sizeof(f->udp) + len));
	uint64_t pseudo;

	memcpy(f->eth.h_dest, mac, ETH_ALEN);
	memcpy(f->eth.h_source, x->mac, ETH_ALEN);
	f->eth.h_proto = htons(ETH_P_IP);
	f->ip = (struct iphdr){
		.version = 4,
		.ihl = sizeof(f->ip) / 4,
		.tot_len = htons((uint16_t)(sizeof(f->ip) + sizeof(f->udp) + len)),
		.frag_off = htons(IP_DF),
		.ttl = TTL,
		.protocol = IPPROTO_UDP,
		.saddr = x->config.address.s_addr,
		.daddr = to.s_addr,
	};
	f->ip.check = fold(sum(0, &f->ip, sizeof(f->ip)));
	f->udp = (struct udphdr){
		.source = htons(x->config.port),
		.dest = htons(x->config.port),
		.len = udp_len,
	};
	memcpy(f->payload, buf, len);
	pseudo = (uint64_t)f->ip.saddr + f->ip.daddr + htons(IPPROTO_UDP) + udp_len;
	f->udp.check = fold(sum(pseudo, &f->udp, sizeof(f->udp) + len));
	if (f->udp.check == 0)
		f->udp.check = 0xffff; /* 0 says that there is none (RFC 768) */
	return sizeof(*f) + len;
}

/* A UDP datagram to us, not a fragment; its payload, or NULL. Checksums: DTLS knows better. */
static const uint8_t *frame_parse(const struct xsk *x, const uint8_t *frame, size_t len,
	struct carrier_origin *ret, size_t *ret_len)
{
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	size_t ip_len, header;

	if (len < sizeof(struct frame))
		return NULL;
	memcpy(&eth, frame, sizeof(eth));
	memcpy(&ip, frame + sizeof(eth), sizeof(ip));
	ip_len = ntohs(ip.tot_len);
	header = ip.ihl * 4U;
	if (eth.h_proto != htons(ETH_P_IP) || ip.version != 4 || header < sizeof(ip) ||
		ip_len > len - sizeof(eth) || ip_len < header + sizeof(udp) ||
		ip.protocol != IPPROTO_UDP || ip.daddr != x->config.address.s_addr ||
		(ip.frag_off & htons(IP_MF | IP_OFFMASK)))
		return NULL;
	memcpy(&udp, frame + sizeof(eth) + header, sizeof(udp));
	if (udp.dest != htons(x->config.port) || ntohs(udp.len) < sizeof(udp) ||
		ntohs(udp.len) > ip_len - header)
		return NULL;
	*ret = (struct carrier_origin){
		.address.s_addr = ip.saddr,
		.port = udp.source,
		.mac = frame + offsetof(struct ethhdr, h_source),
	};
	*ret_len = ntohs(udp.len) - sizeof(udp);
	return frame + sizeof(eth) + header + sizeof(udp);
}

/*
 * Queues.
 */

static void queue_close(struct queue *q)
{
	xsk_socket__delete(q->socket);
	if (q->umem)
		xsk_umem__delete(q->umem);
	if (q->area)
		munmap(q->area, q->area_size);
	*q = (struct queue){0};
}

static void fill_all(struct queue *q, uint32_t count)
{
	uint32_t at;

	if (xsk_ring_prod__reserve(&q->fill, count, &at) != count)
		return;
	for (uint32_t i = 0; i < count; i++)
		*xsk_ring_prod__fill_addr(&q->fill, at + i) = (uint64_t)i * FRAME_SIZE;
	xsk_ring_prod__submit(&q->fill, count);
}

/* q is zeroed: libxdp wants its rings so. */
static int queue_open(struct queue *q, const struct xsk *x, unsigned int number)
{
	const struct xsk_umem_config umem = {
		.fill_size = x->rx_frames,
		.comp_size = TX_FRAMES,
		.frame_size = FRAME_SIZE,
	};
	/* Zero-copy where the driver has it: the kernel decides. */
	const struct xsk_socket_config config = {
		.rx_size = x->rx_frames,
		.tx_size = TX_FRAMES,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_USE_NEED_WAKEUP,
	};
	size_t size = (size_t)(x->rx_frames + (number == 0 ? TX_FRAMES : 0)) * FRAME_SIZE;
	void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r;

	if (area == MAP_FAILED)
		return -errno;
	q->area = area;
	q->area_size = size;
	r = xsk_umem__create(&q->umem, area, size, &q->fill, &q->completion, &umem);
	if (r < 0)
		return r;
	r = xsk_socket__create(
		&q->socket, x->name, number, q->umem, &q->rx, number == 0 ? &q->tx : NULL, &config);
	if (r < 0)
		return r;
	fill_all(q, x->rx_frames);
	return xsk_socket__update_xskmap(q->socket, x->config.map_fd);
}

static int queue_open_patiently(struct queue *q, const struct xsk *x, unsigned int number)
{
	const struct timespec pause = {.tv_nsec = 20000000};

	for (unsigned int i = 0;; i++) {
		int r = queue_open(q, x, number);

		if (r >= 0)
			return 0;
		queue_close(q);
		if (r != -EBUSY || i == BUSY_RETRIES)
			return r;
		nanosleep(&pause, NULL);
	}
}

/* Own MAC address and number of receive queues; sysfs may be another network namespace's. */
static int interface_ask(const char *name, uint8_t mac[ETH_ALEN], unsigned int *ret_queues)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	struct ifreq request = {0};
	int r = 0, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		r = -errno;
	memcpy(mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	request.ifr_data = (char *)&channels;
	*ret_queues = 1; /* drivers that cannot tell have one */
	if (ioctl(fd, SIOCETHTOOL, &request) == 0)
		*ret_queues = channels.rx_count + channels.combined_count;
	if (*ret_queues == 0)
		*ret_queues = 1;
	if (*ret_queues > ESPALIER_SYNC_QUEUES)
		*ret_queues = ESPALIER_SYNC_QUEUES;
	close(fd);
	return r;
}

static int queues_open(struct xsk *x, unsigned int count, char *err, size_t err_size)
{
	int size = TX_FRAMES * 2 * FRAME_SIZE;

	x->rx_frames = RX_FRAMES;
	while (x->rx_frames * count > RX_FRAMES && x->rx_frames > RX_FRAMES_MIN)
		x->rx_frames /= 2;
	for (; x->queue_count < count; x->queue_count++) {
		int r = queue_open_patiently(&x->queues[x->queue_count], x, x->queue_count);

		if (r < 0) {
			snprintf(err, err_size, "queue %u of %s: %s", x->queue_count, x->name,
				strerror(-r));
			return r;
		}
	}
	for (uint64_t i = 0; i < TX_FRAMES; i++)
		x->free_frames[x->free_count++] = (x->rx_frames + i) * FRAME_SIZE;
	/* In copy mode what is under way counts against it; a smaller one costs only speed. */
	setsockopt(xsk_socket__fd(x->queues[0].socket), SOL_SOCKET, SO_SNDBUFFORCE, &size,
		sizeof(size));
	return 0;
}

int xsk_open(const struct xsk_config *config, struct xsk **ret, char *err, size_t err_size)
{
	char name[IF_NAMESIZE] = "?";
	uint8_t mac[ETH_ALEN];
	unsigned int count = 0;
	struct xsk *x;
	int r;

	r = interface_name(config->ifindex, name);
	if (r == 0)
		r = interface_ask(name, mac, &count);
	if (r < 0) {
		snprintf(err, err_size, "interface %u: %s", config->ifindex, strerror(-r));
		return r;
	}
	x = calloc(1, sizeof(*x) + count * sizeof(x->queues[0]));
	if (!x) {
		snprintf(err, err_size, "not enough memory");
		return -ENOMEM;
	}
	x->config = *config;
	memcpy(x->name, name, sizeof(name));
	memcpy(x->mac, mac, sizeof(mac));
	r = queues_open(x, count, err, err_size);
	if (r < 0) {
		xsk_close(x);
		return r;
	}
	*ret = x;
	return 0;
}

void xsk_close(struct xsk *x)
{
	if (!x)
		return;
	for (unsigned int i = 0; i < x->queue_count; i++)
		queue_close(&x->queues[i]);
	free(x);
}

int xsk_watch(const struct xsk *x, int epoll_fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	for (unsigned int i = 0; i < x->queue_count; i++)
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, xsk_socket__fd(x->queues[i].socket),
			    &event) < 0)
			return -errno;
	return 0;
}

bool xsk_is_zero_copy(const struct xsk *x)
{
	struct xdp_options options = {0};
	socklen_t size = sizeof(options);

	return getsockopt(xsk_socket__fd(x->queues[0].socket), SOL_XDP, XDP_OPTIONS, &options,
		       &size) == 0 &&
	       (options.flags & XDP_OPTIONS_ZEROCOPY);
}

/*
 * Sending.
 */

static void reap(struct xsk *x)
{
	struct xsk_ring_cons *completion = &x->queues[0].completion;
	uint32_t at, n = xsk_ring_cons__peek(completion, TX_FRAMES, &at);

	for (uint32_t i = 0; i < n; i++)
		x->free_frames[x->free_count++] = *xsk_ring_cons__comp_addr(completion, at + i);
	xsk_ring_cons__release(completion, n);
}

bool xsk_is_queued(const struct xsk *x)
{
	return x->queued > 0;
}

void xsk_flush(struct xsk *x)
{
	struct queue *q = &x->queues[0];

	xsk_ring_prod__submit(&q->tx, x->queued);
	x->queued = 0;
	/* What the kernel does not take now (interface down, send buffer full) it gets asked again
	 * with the next flush. */
	for (unsigned int i = 0; i < KICKS_MAX; i++) {
		if (xsk_prod_nb_free(&q->tx, TX_FRAMES) == TX_FRAMES ||
			!xsk_ring_prod__needs_wakeup(&q->tx))
			break;
		if (sendto(xsk_socket__fd(q->socket), NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 &&
			errno != EAGAIN && errno != EBUSY)
			break;
	}
	reap(x);
}

int xsk_send(struct xsk *x, struct in_addr to, const uint8_t mac[6], const void *buf, size_t len)
{
	struct queue *q = &x->queues[0];
	uint64_t frame;
	uint32_t at;

	if (len > CARRIER_DATAGRAM_MAX)
		return -EMSGSIZE;
	if (x->free_count == 0)
		xsk_flush(x);
	/* The ring is as long as there are frames. */
	if (x->free_count == 0 || xsk_ring_prod__reserve(&q->tx, 1, &at) != 1)
		return -EAGAIN;
	frame = x->free_frames[--x->free_count];
	*xsk_ring_prod__tx_desc(&q->tx, at) = (struct xdp_desc){
		.addr = frame,
		.len = (uint32_t)frame_build(
			x, (struct frame *)(q->area + frame), to, mac, buf, len),
	};
	if (++x->queued >= KICK_EVERY)
		xsk_flush(x);
	return 0;
}

/*
 * Receiving.
 */

static void queue_receive(const struct xsk *x, struct queue *q, carrier_handler handler, void *ctx)
{
	uint32_t at, n = xsk_ring_cons__peek(&q->rx, CARRIER_BATCH, &at);

	for (uint32_t i = 0; i < n; i++) {
		struct xdp_desc desc = *xsk_ring_cons__rx_desc(&q->rx, at + i);
		struct carrier_origin from = {0};
		size_t len = 0;
		const uint8_t *payload = frame_parse(x, q->area + desc.addr, desc.len, &from, &len);
		uint32_t back;

		handler(ctx, &from, payload, len);
		/* There is room: the ring is as long as there are frames. */
		if (xsk_ring_prod__reserve(&q->fill, 1, &back) == 1) {
			*xsk_ring_prod__fill_addr(&q->fill, back) =
				desc.addr & ~(uint64_t)(FRAME_SIZE - 1);
			xsk_ring_prod__submit(&q->fill, 1);
		}
	}
	xsk_ring_cons__release(&q->rx, n);
	if (xsk_ring_prod__needs_wakeup(&q->fill))
		recvfrom(xsk_socket__fd(q->socket), NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

void xsk_receive(struct xsk *x, carrier_handler handler, void *ctx)
{
	for (unsigned int i = 0; i < x->queue_count; i++)
		queue_receive(x, &x->queues[i], handler, ctx);
}
