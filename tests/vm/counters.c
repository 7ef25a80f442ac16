/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * counters.bpf.c with real ESP: what a peer (a network namespace of its own) sends to this member
 * is counted when it is authentic, and by this namespace's agent only. Skipped, and said so, where
 * the kernel has no ESP or refuses fexit.
 */
#include "peer.h"

#include <fcntl.h>

#define KEY "0x000102030405060708090a0b0c0d0e0f10111213"
#define OTHER_KEY "0xff0102030405060708090a0b0c0d0e0f10111213"
#define SLOT 9

static const char *from = PEER, *to = CLUSTER;

/* The SA on both sides. False: this kernel has no ESP. */
static bool make_sa(uint32_t spi, const char *sender_key, const char *sender, const char *receiver)
{
	const char *state = "ip xfrm state add src %s dst %s proto esp spi %u mode "
			    "transport aead 'rfc4106(gcm(aes))' %s 128 %s 2>/dev/null";
	char here[400], there[400];

	snprintf(here, sizeof(here), state, from, to, spi, KEY, receiver);
	snprintf(there, sizeof(there), state, from, to, spi, sender_key, sender);
	return shell("%s", here) == 0 &&
	       shell("nsenter -t %d -n sh -ec \"%s; ip xfrm policy add src %s dst %s proto udp "
		     "dir out tmpl src %s dst %s proto esp spi %u mode transport\"",
		       peer, there, from, to, from, to, spi) == 0;
}

static uint64_t birth; /* of the SA that the slot counts; that of the SA here is 0 */

static void remove_sas(void)
{
	shell("ip xfrm state flush; nsenter -t %d -n sh -c 'ip xfrm state flush; ip xfrm policy "
	      "flush'",
		peer);
}

static void send_datagrams(int n)
{
	shell("nsenter -t %d -n bash -c 'for ((i = 0; i < %d; i++)); do "
	      "echo > /dev/udp/%s/9; done' 2>/dev/null",
		peer, n, to);
}

/* Opens the datapath with that SA. NULL: nothing to be tested on this kernel. */
static struct datapath *open_with(uint32_t spi)
{
	const struct espalier_sa sa = {
		.open = {{1, 0}, {1, 0}}, .slot = SLOT, .direction = ESPALIER_IN};
	struct espalier_sa_key key = key_to(to, spi);
	struct datapath *d = open_it();
	const char *why;

	if (!datapath_counts_inbound(d, &why)) {
		print_message("skipped: %s\n", why);
		datapath_close(d);
		return NULL;
	}
	datapath_publish(d, all_owned_by(1));
	assert_int_equal(datapath_sa_set(d, &key, &sa), 0);
	datapath_counters(d)[SLOT] = (struct espalier_counter){.birth = birth};
	return d;
}

static void counted(uint32_t spi, const char *sender_key, const char *sender, const char *receiver,
	int n, uint64_t seq, uint64_t packets)
{
	struct datapath *d = open_with(spi);

	if (!d)
		skip();
	if (!make_sa(spi, sender_key, sender, receiver)) {
		print_message("skipped: this kernel has no ESP\n");
		remove_sas();
		datapath_close(d);
		skip();
	}
	send_datagrams(n);
	remove_sas();
	assert_int_equal(datapath_counters(d)[SLOT].seq, seq);
	assert_int_equal(datapath_counters(d)[SLOT].packets, packets);
	datapath_close(d);
}

static void test_legacy(void **state)
{
	(void)state;
	counted(0x1001, KEY, "replay-window 32", "replay-window 32", 5, 5, 5);
	counted(0x1002, KEY, "replay-oseq 70000", "replay-window 32 replay-seq 66000", 3, 70003, 3);
}

/* Without a replay window the kernel keeps no number: the packet's own. */
static void test_no_window(void **state)
{
	(void)state;
	counted(0x1003, KEY, "", "replay-window 0", 4, 4, 4);
}

/* A bitmap without ESN (windows above 32), and ESN across 2^32. */
static void test_bitmap_and_esn(void **state)
{
	(void)state;
	counted(0x1004, KEY, "replay-window 32", "replay-window 128", 6, 6, 6);
	counted(0x1005, KEY, "replay-window 64 flag esn replay-oseq 0xfffffffd",
		"replay-window 64 flag esn replay-seq 0xfffffffd", 5, (1ULL << 32) + 2, 5);
}

static void test_ip6(void **state)
{
	(void)state;
	from = PEER6;
	to = CLUSTER6;
	counted(0x1008, KEY, "", "replay-window 32", 5, 5, 5);
	counted(0x1009, KEY, "replay-window 64 flag esn replay-oseq 0xfffffffd",
		"replay-window 64 flag esn replay-seq 0xfffffffd", 5, (1ULL << 32) + 2, 5);
	counted(0x100a, OTHER_KEY, "replay-oseq 1000000", "replay-window 32", 5, 0, 0);
}

static int ip4_again(void **state)
{
	from = PEER;
	to = CLUSTER;
	return teardown(state);
}

/* The slot is of an earlier agent's life, and another SA has it by now. */
static void test_old_slot(void **state)
{
	(void)state;
	birth = 1;
	counted(0x100b, KEY, "replay-window 32", "replay-window 32", 5, 0, 0);
	birth = 0;
}

/* Whoever has not the key cannot move the counter. */
static void test_forged(void **state)
{
	(void)state;
	counted(0x1006, OTHER_KEY, "replay-oseq 1000000", "replay-window 32", 5, 0, 0);
}

/* Members may run on one kernel: another namespace's agent, with the same SA, counts nothing. */
static void test_other_namespace(void **state)
{
	struct datapath_config here = config;
	struct datapath *d, *other;
	char path[64], other_pin[96];
	bool tried = false;
	int own, theirs;

	(void)state;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", peer);
	own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(own >= 0 && theirs >= 0);
	snprintf(other_pin, sizeof(other_pin), "%s-other", pin);

	assert_int_equal(setns(theirs, CLONE_NEWNET), 0);
	config.pin = other_pin;
	config.ifindex[DATAPATH_OUTER] = if_nametoindex("outer-peer");
	config.ifindex[DATAPATH_INNER] = config.ifindex[DATAPATH_SYNC] = 0;
	struct datapath_config there = config;
	other = open_with(0x1007);
	assert_int_equal(setns(own, CLONE_NEWNET), 0);

	config = here;
	d = open_with(0x1007);
	tried = d && make_sa(0x1007, KEY, "", "replay-window 32");
	if (tried) {
		send_datagrams(5);
		assert_int_equal(datapath_counters(d)[SLOT].seq, 5);
		assert_int_equal(datapath_counters(other)[SLOT].seq, 0);
		assert_int_equal(datapath_counters(other)[SLOT].packets, 0);
	}
	remove_sas();
	datapath_close(d);
	datapath_close(other);
	assert_int_equal(setns(theirs, CLONE_NEWNET), 0);
	assert_int_equal(datapath_detach(&there, err, sizeof(err)), 0);
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	close(own);
	close(theirs);
	if (!tried)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_legacy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_window, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bitmap_and_esn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ip6, setup, ip4_again),
		cmocka_unit_test_setup_teardown(test_old_slot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_namespace, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_begin, group_end);
}
