/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "espalier.h"
#include "io/dtls.h"
#include "io/udp.h"
#include "io/xsk.h"

static_assert(CHANNEL_DATAGRAM_MAX == DTLS_PAYLOAD_MAX, "one size");
static_assert(DTLS_DATAGRAM_MAX == CARRIER_DATAGRAM_MAX, "one size");

struct member {
	struct channel *channel;
	struct dtls *dtls; /* NULL: no such member */
	struct in_addr address;
	uint8_t id;
	bool mac_known;
	uint8_t mac[6]; /* where its last authentic datagram came from */
};

struct channel {
	struct member members[ESPALIER_MEMBERS];
	struct dtls_context *context;
	channel_handler handler;
	void *handler_ctx;
	uint64_t now_us; /* during channel_process() */
	in_port_t port; /* network byte order */
	int epoll_fd;
	int udp_fd;
	struct xsk *xsk; /* NULL: only the UDP socket */
	struct channel_counters counters;
	char carrier[160];
};

/*
 * What is established goes by AF_XDP to the MAC address that the member last proved to have.
 * Handshakes go through the kernel, which routes and resolves the neighbour: so a member that is
 * back with another MAC address is found.
 */
static int member_output(void *ctx, bool established, const void *buf, size_t len)
{
	struct member *m = ctx;
	struct channel *c = m->channel;
	int r;

	if (established && c->xsk && m->mac_known)
		r = xsk_send(c->xsk, m->address, m->mac, buf, len);
	else
		r = udp_send(c->udp_fd, m->address, ntohs(c->port), buf, len);
	if (r == 0)
		c->counters.sent_bytes += len;
	return r;
}

static void member_deliver(void *ctx, const void *buf, size_t len)
{
	struct member *m = ctx;
	struct channel *c = m->channel;

	c->counters.received++;
	c->handler(c->handler_ctx, m->id, buf, len);
}

static struct member *member_at(struct channel *c, const struct carrier_origin *from)
{
	for (unsigned int i = 0; from->port == c->port && i < ESPALIER_MEMBERS; i++)
		if (c->members[i].dtls && c->members[i].address.s_addr == from->address.s_addr)
			return &c->members[i];
	return NULL;
}

static void datagram_handle(
	void *ctx, const struct carrier_origin *from, const void *buf, size_t len)
{
	struct channel *c = ctx;
	struct member *m = member_at(c, from);
	uint64_t handshakes;
	int r;

	if (!m) {
		c->counters.foreign++;
		return;
	}
	handshakes = dtls_handshakes(m->dtls);
	r = dtls_receive(m->dtls, buf, len, c->now_us);
	if (r < 0) {
		c->counters.rejected++;
		return;
	}
	c->counters.received_bytes += len;
	c->counters.handshakes += dtls_handshakes(m->dtls) - handshakes;
	if (r == 0 && dtls_handshakes(m->dtls) == handshakes)
		return; /* has proved nothing */
	m->mac_known = from->mac;
	if (from->mac)
		memcpy(m->mac, from->mac, sizeof(m->mac));
}

static int members_open(struct channel *c, const struct channel_config *config)
{
	struct dtls_callbacks callbacks = {.output = member_output, .deliver = member_deliver};

	for (uint8_t i = 0; i < ESPALIER_MEMBERS; i++) {
		struct member *m = &c->members[i];
		int r;

		if (i == config->self || config->addresses[i].s_addr == INADDR_ANY)
			continue;
		m->channel = c;
		m->id = i;
		m->address = config->addresses[i];
		callbacks.ctx = m;
		r = dtls_open(c->context, i, m->address, &callbacks, &m->dtls);
		if (r < 0)
			return r;
	}
	return 0;
}

static int context_open(
	struct channel *c, const struct channel_config *config, char *err, size_t err_size)
{
	struct dtls_config dtls = {
		.cluster = config->cluster,
		.self = config->self,
		.address = config->addresses[config->self],
		.psk = config->psk,
		.psk_len = config->psk_len,
		.certificate = config->certificate,
		.private_key = config->private_key,
		.ca = config->ca,
		.silence_us = config->silence_us,
	};

	return dtls_context_open(&dtls, &c->context, err, err_size);
}

/* AF_XDP where it can be had; `carrier` says what it is and, if it is not, why. */
static void xsk_try(struct channel *c, const struct channel_config *config)
{
	struct xsk_config xsk = {
		.ifindex = config->ifindex,
		.address = config->addresses[config->self],
		.port = config->port,
		.map_fd = config->xsks_map_fd,
	};
	char why[128] = "there is no XDP program for it on the sync interface";

	if (config->xsks_map_fd >= 0 && xsk_open(&xsk, &c->xsk, why, sizeof(why)) == 0 &&
		xsk_watch(c->xsk, c->epoll_fd) == 0) {
		snprintf(c->carrier, sizeof(c->carrier), "AF_XDP (%s)",
			xsk_is_zero_copy(c->xsk) ? "zero-copy" : "copy");
		return;
	}
	xsk_close(c->xsk);
	c->xsk = NULL;
	snprintf(c->carrier, sizeof(c->carrier), "UDP socket: no AF_XDP: %s", why);
}

static int carriers_open(
	struct channel *c, const struct channel_config *config, char *err, size_t err_size)
{
	struct epoll_event event = {.events = EPOLLIN};
	int r = udp_open(config->addresses[config->self], config->port, config->ifindex, &c->udp_fd,
		err, err_size);

	if (r < 0)
		return r;
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll_fd < 0 || epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->udp_fd, &event) < 0) {
		r = -errno;
		snprintf(err, err_size, "cannot watch the sync channel: %s", strerror(-r));
		return r;
	}
	xsk_try(c, config);
	return 0;
}

int channel_open(const struct channel_config *config, channel_handler handler, void *ctx,
	struct channel **ret, char *err, size_t err_size)
{
	struct channel *c = calloc(1, sizeof(*c));
	int r;

	snprintf(err, err_size, "not enough memory for the sync channel");
	if (!c)
		return -ENOMEM;
	c->epoll_fd = -1;
	c->udp_fd = -1;
	c->handler = handler;
	c->handler_ctx = ctx;
	c->port = htons(config->port);
	r = context_open(c, config, err, err_size);
	if (r == 0)
		r = members_open(c, config);
	if (r == 0)
		r = carriers_open(c, config, err, err_size);
	if (r < 0) {
		channel_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void channel_close(struct channel *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		dtls_close(c->members[i].dtls);
	if (c->xsk)
		xsk_flush(c->xsk);
	xsk_close(c->xsk);
	if (c->udp_fd >= 0)
		close(c->udp_fd);
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	dtls_context_close(c->context);
	free(c);
}

int channel_fd(const struct channel *c)
{
	return c->epoll_fd;
}

uint64_t channel_deadline(const struct channel *c)
{
	uint64_t first = UINT64_MAX;

	if (c->xsk && xsk_is_queued(c->xsk))
		return 0;
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++) {
		const struct dtls *d = c->members[i].dtls;

		if (d && dtls_deadline(d) < first)
			first = dtls_deadline(d);
	}
	return first;
}

void channel_process(struct channel *c, uint64_t now_us)
{
	c->now_us = now_us;
	udp_receive(c->udp_fd, datagram_handle, c);
	if (c->xsk)
		xsk_receive(c->xsk, datagram_handle, c);
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++) {
		struct dtls *d = c->members[i].dtls;

		if (d && now_us >= dtls_deadline(d))
			dtls_tick(d, now_us);
	}
	if (c->xsk)
		xsk_flush(c->xsk);
}

int channel_send(struct channel *c, uint8_t to, const void *buf, size_t len)
{
	struct dtls *d = to < ESPALIER_MEMBERS ? c->members[to].dtls : NULL;
	int r = d ? dtls_send(d, buf, len) : -ENOTCONN;

	if (r == 0)
		c->counters.sent++;
	else
		c->counters.unsent++;
	return r;
}

void channel_counters(const struct channel *c, struct channel_counters *ret)
{
	*ret = c->counters;
}

const char *channel_carrier(const struct channel *c)
{
	return c->carrier;
}

bool channel_connected(const struct channel *c, uint8_t member)
{
	const struct dtls *d = member < ESPALIER_MEMBERS ? c->members[member].dtls : NULL;

	return d && dtls_connected(d);
}
