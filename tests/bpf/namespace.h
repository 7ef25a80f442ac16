/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * namespace.h - the datapath in a network namespace and on a bpffs of its own. Interfaces outer,
 * inner and sync are veth; outer's other end is outer-peer.
 */
#ifndef NAMESPACE_H
#define NAMESPACE_H

#include "program.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/datapath.h"

#define CLUSTER "192.0.2.1"
#define CLUSTER6 "2001:db8::1"
#define PEER "198.51.100.7"
#define PEER6 "2001:db8:7::7"
#define SPI 0x11223344
#define MAX_SAS 16
#define K 65536ULL

static char folder[64], pin[80];
static struct datapath_config config;
static char err[256];

static inline int shell(const char *format, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	return system(command);
}

static inline int pinned(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", pin, name);
	fd = bpf_obj_get(path);
	assert_true(fd >= 0);
	return fd;
}

static inline int group_setup(void **state)
{
	(void)state;
	assert_int_equal(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
	assert_int_equal(mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	snprintf(folder, sizeof(folder), "/tmp/espalier-test-XXXXXX");
	assert_non_null(mkdtemp(folder));
	assert_int_equal(mount("bpf", folder, "bpf", 0, NULL), 0);
	snprintf(pin, sizeof(pin), "%s/cluster", folder);
	return shell("for i in outer inner sync; do ip link add $i type veth peer name $i-peer && "
		     "ip link set $i up && ip link set $i-peer up || exit 1; done");
}

static inline int group_teardown(void **state)
{
	(void)state;
	umount(folder);
	return rmdir(folder);
}

static inline struct address address_of(const char *text)
{
	struct address address = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};

	assert_int_equal(inet_pton(address.family, text, address.bytes), 1);
	return address;
}

static inline int setup(void **state)
{
	(void)state;
	config = (struct datapath_config){.self = 1,
		.members = 3,
		.block_bits = 16,
		.max_sas = MAX_SAS,
		.lease_ns = 60000000000,
		.sync_port = 4711,
		.pin = pin,
		.ifindex = {if_nametoindex("outer"), if_nametoindex("inner"),
			if_nametoindex("sync")},
		.outer = {address_of(CLUSTER), address_of(CLUSTER6)},
		.inner = {address_of("10.1.0.1")},
		.sync_address = {inet_addr("10.9.0.2")},
		.fexit = true,
		.misses_per_second = 100};
	err[0] = '\0';
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	return datapath_detach(&config, err, sizeof(err));
}

/* A whole start. */
static inline int start_it(struct datapath **ret)
{
	struct datapath *d = NULL;
	int r = datapath_open(&config, &d, err, sizeof(err));

	if (r == 0)
		r = datapath_attach(d, err, sizeof(err));
	if (r == 0)
		r = datapath_keep(d);
	if (r == 0)
		*ret = d;
	else
		datapath_close(d);
	return r;
}

static inline struct datapath *open_it(void)
{
	struct datapath *d = NULL;
	int r = start_it(&d);

	if (r < 0)
		print_error("%s\n", err);
	assert_int_equal(r, 0);
	return d;
}

static inline struct espalier_view_half *all_owned_by(uint8_t id)
{
	static struct espalier_view_half half;

	half = (struct espalier_view_half){.epoch = 1, .live = 7, .ingress = id};
	memset(half.owner, id, sizeof(half.owner));
	return &half;
}

static inline struct espalier_sa_key key_to(const char *daddr, uint32_t spi)
{
	struct address address = address_of(daddr);
	struct espalier_sa_key key = {.spi = htonl(spi), .family = (uint8_t)address.family};

	memcpy(key.daddr, address.bytes, sizeof(key.daddr));
	return key;
}

static inline struct espalier_sa_key key_of(uint32_t spi)
{
	return key_to(PEER, spi);
}

/* Sends an ESP packet out of `outer`, from the cluster address to the peer. */
static inline int send_esp(int fd, uint32_t spi, uint32_t seq)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)config.ifindex[DATAPATH_OUTER],
		.sll_halen = 6,
		.sll_addr = {2, 0, 0, 0, 9, 9}};
	struct frame packet = {};

	frame_ip(&packet, CLUSTER, PEER, IPPROTO_ESP, 0);
	frame_esp(&packet, spi, seq);
	return sendto(fd, packet.bytes, packet.size, 0, (void *)&to, sizeof(to)) < 0 ? -errno : 0;
}

static inline int packet_socket(void)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

/* How many ESP packets have come out at the other end. */
static inline int received(int fd)
{
	uint8_t buf[256];
	int n = 0;

	usleep(20000);
	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		n += buf[9] == IPPROTO_ESP;
	return n;
}

static inline int receiver(void)
{
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)if_nametoindex("outer-peer")};
	int fd = packet_socket();

	assert_int_equal(bind(fd, (void *)&at, sizeof(at)), 0);
	return fd;
}

#endif
