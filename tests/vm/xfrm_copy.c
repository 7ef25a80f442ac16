/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_copy.c - SAs and policies read from one kernel and built in another are the same there.
 * Needs ESP and root. */
#include "xfrm_side.h"

#include "io/xfrm_facts.h"

#include <sys/utsname.h>

/* What the kernel has, without what is local to it and the time. */
static void show(const struct side *s, const char *what, char *buf, size_t size)
{
	char command[256];
	FILE *pipe;
	size_t n;

	snprintf(command, sizeof(command),
		"ip -s xfrm %s | sed -E 's/ add [0-9].*//; s/(index|replay-oseq|oseq) [^ ]+//' | "
		"grep -v 'replay [0-9]* failed' | sed -E 's/seq [^ ]+//'",
		what);
	enter(s);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	n = fread(buf, 1, size - 1, pipe);
	assert_true(n < size - 1);
	buf[n] = 0;
	assert_int_equal(pclose(pipe), 0);
	enter(&a);
}

static void assert_same(const char *what)
{
	static char in_a[65536], in_b[65536];

	show(&a, what, in_a, sizeof(in_a));
	show(&b, what, in_b, sizeof(in_b));
	assert_true(strlen(in_a) > 100);
	assert_string_equal(in_b, in_a);
}

static const char *const kinds[] = {
	"reqid 1 mode tunnel " GCM,
	"reqid 1 mode transport " CBC,
	"reqid 2 mode beet " GCM " sel src 10.1.0.1/32 dst 10.2.0.1/32",
	"reqid 3 mode tunnel replay-window 32 " GCM,
	"reqid 4 mode tunnel replay-window 128 flag esn " GCM,
	"reqid 4 mode tunnel replay-window 256 " CBC,
	"reqid 5 mode tunnel replay-window 32 flag esn " CBC,
	"reqid 6 mode tunnel mark 0x5 mask 0xff " GCM,
	"reqid 6 mode tunnel if_id 0x7 " GCM,
	"reqid 6 mode tunnel mark 0x15 mask 0xff if_id 0x7 output-mark 0x9 mask 0xf " GCM,
	"reqid 7 mode tunnel encap espinudp 4500 4500 0.0.0.0 " GCM,
	"reqid 8 mode tunnel flag nopmtudisc flag af-unspec flag noecn flag decap-dscp " GCM,
	"reqid 8 mode tunnel flag align4 flag icmp extra-flag dont-encap-dscp " GCM,
	"reqid 8 mode tunnel extra-flag oseq-may-wrap " GCM,
	"reqid 9 mode tunnel limit time-soft 1000 limit time-hard 2000 limit byte-soft 5000000 "
	"limit byte-hard 6000000 "
	"limit packet-soft 70000 limit packet-hard 80000 limit time-use-soft 900 limit "
	"time-use-hard 950 " GCM,
	"reqid 10 mode tunnel " GCM " sel src 2001:db8:1::/64 dst 2001:db8:2::/64",
	"reqid 10 mode transport " CBC " sel src " LOCAL "/32 dst " REMOTE
	"/32 proto tcp sport 80 dport 443",
	"reqid 11 mode tunnel auth 'hmac(sha1)' 0x0001020304050607080910111213141516171819 enc "
	"'ecb(cipher_null)' ''",
	"reqid 12 mode tunnel " GCM " flag wildrecv",
	"mode tunnel " GCM,
};

/* Each kind of SA in both directions: the copy is the same to ip, and to us. */
static void test_sas(void **state)
{
	const unsigned int n = 2 * sizeof(kinds) / sizeof(*kinds);
	struct xfrm_record records[2 * sizeof(kinds) / sizeof(*kinds)];

	(void)state;
	for (unsigned int i = 0; i < n; i++)
		add_sa(i % 2, 0x1000 + i, kinds[i / 2]);
	assert_int_equal(a.n_added, n);
	for (unsigned int i = 0; i < n; i++) {
		records[i] = a.added[i].record;
		assert_int_equal(records[i].key.spi, htonl(0x1000 + i));
		assert_int_equal(records[i].facts.direction, i % 2 ? ESPALIER_OUT : ESPALIER_IN);
		assert_int_equal(install(&b, &records[i], 0), 0);
	}
	assert_same("state");
	/* Nobody was told of what we did ourselves. */
	process(&b);
	assert_int_equal(b.n_added, 0);

	assert_int_equal(dump(&b), 0);
	assert_int_equal(b.n_added, n);
	for (unsigned int i = 0; i < n; i++) {
		const struct xfrm_record *copy = &b.added[i].record, *from = NULL;

		for (unsigned int j = 0; j < n; j++)
			if (memcmp(&records[j].key, &copy->key, sizeof(copy->key)) == 0)
				from = &records[j];
		assert_non_null(from);
		assert_int_equal(copy->facts.birth, from->facts.birth);
		assert_int_equal(copy->facts.form, from->facts.form);
		assert_int_equal(copy->facts.pair, from->facts.pair);
		assert_int_equal(copy->facts.direction, from->facts.direction);
		assert_int_equal(copy->facts.esn, from->facts.esn);
		assert_int_equal(copy->body_len, from->body_len);
	}
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(xfrm_remove(b.x, &records[i].key), 0);
	assert_int_equal(xfrm_remove(b.x, &records[0].key), -ENOENT);
	process(&b);
	assert_int_equal(b.n_removed, 0);
	b.n_added = 0;
	assert_int_equal(dump(&b), 0);
	assert_int_equal(b.n_added, 0);
}

/* The age of an SA is the copy's, too. */
static void test_age(void **state)
{
	(void)state;
	add_sa(true, 0x100, "mode tunnel limit time-hard 100 " GCM);
	sleep(3);
	assert_int_equal(dump(&a), 0);
	assert_in_range(((const struct xfrm_usersa_info *)last(&a)->body)->curlft.add_time, 2, 10);
	assert_int_equal(install(&b, last(&a), 0), 0);
	assert_int_equal(dump(&b), 0);
	assert_in_range(((const struct xfrm_usersa_info *)last(&b)->body)->curlft.add_time, 2, 10);
}

static uint64_t used_of(struct side *s, const struct record_key *key, uint64_t *ret_packets)
{
	struct record_usage used;

	assert_int_equal(xfrm_used(s->x, key, &used), 0);
	*ret_packets = used.packets;
	return used.bytes;
}

/* How much is used up of its limits is raised in a living copy, and begins there in a new one; its
 * counter stays. */
static void test_usage(void **state)
{
	const struct record_usage used = {.bytes = 70000, .packets = 500},
				  less = {.bytes = 60000, .packets = 400};
	const struct xfrm_record *sa;
	struct record_install again;
	uint64_t oseq, seq, packets;

	(void)state;
	add_sa(true, 0x100, "mode tunnel limit byte-hard 100000 " GCM);
	sa = last(&a);
	assert_true(sa->facts.limited);
	assert_int_equal(install(&b, sa, 77), 0);
	assert_int_equal(used_of(&b, &sa->key, &packets), 0);
	assert_int_equal(xfrm_use(b.x, &sa->key, &used), 0);
	assert_int_equal(xfrm_use(b.x, &sa->key, &less), 0);
	assert_int_equal(used_of(&b, &sa->key, &packets), 70000);
	assert_int_equal(packets, 500);
	assert_int_equal(xfrm_counters(b.x, &sa->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 77);
	process(&b);
	assert_int_equal(b.n_added, 0); /* by our own hand */
	assert_int_equal(dump(&b), 0);
	assert_int_equal(((const struct xfrm_usersa_info *)last(&b)->body)->curlft.bytes, 70000);
	assert_int_equal(xfrm_remove(b.x, &sa->key), 0);
	again = (struct record_install){
		&sa->key, &sa->facts, sa->body, sa->body_len, 99, false, 1, used, 0};
	xfrm_install(b.x, &again, 1);
	assert_int_equal(again.result, 0);
	assert_int_equal(used_of(&b, &sa->key, &packets), 70000);
	assert_int_equal(packets, 500);
}

static void came_to(const struct record_key *key, uint64_t seq)
{
	uint64_t oseq, now;

	assert_int_equal(xfrm_counters(b.x, key, &oseq, &now), 0);
	assert_int_equal(oseq, 0);
	assert_int_equal(now, seq);
}

/* An inbound copy begins where its owner is, and its window is raised, never lowered. */
static void window(uint32_t spi, const char *mode, uint64_t first, uint64_t then)
{
	const struct xfrm_record *sa;
	struct record_install copy;

	add_sa(false, spi, mode);
	sa = last(&a);
	copy = (struct record_install){.key = &sa->key,
		.facts = &sa->facts,
		.body = sa->body,
		.body_len = sa->body_len,
		.seq = first};
	xfrm_install(b.x, &copy, 1);
	assert_int_equal(copy.result, 0);
	came_to(&sa->key, first);
	assert_int_equal(xfrm_raise(b.x, &sa->key, then), 0);
	came_to(&sa->key, then);
	assert_int_equal(xfrm_raise(b.x, &sa->key, first), 0);
	came_to(&sa->key, then);
	copy.seq = then + 5; /* it is there */
	xfrm_install(b.x, &copy, 1);
	assert_int_equal(copy.result, 0);
	came_to(&sa->key, then + 5);
}

static void test_window(void **state)
{
	struct record_key nobody = {.kind = RECORD_SA, .proto = IPPROTO_ESP, .family = AF_INET};

	(void)state;
	window(0x110, "mode tunnel replay-window 32 " GCM, 70, 5000);
	window(0x111, "mode tunnel replay-window 32 " GCM, 0, UINT32_MAX - 5);
	window(0x112, "mode tunnel replay-window 128 " GCM, 70, 5000);
	window(0x113, "mode tunnel replay-window 128 flag esn " GCM, 1ULL << 32, 3ULL << 33);
	window(0x114, "mode tunnel replay-window 4096 flag esn " GCM, 9, (1ULL << 32) + 1);
	assert_int_equal(xfrm_raise(b.x, &nobody, 7), -ENOENT);
}

static const char *const foreign_policies[] = {
	"src 10.1.0.0/16 dst 10.3.0.0/16 dir out tmpl src 192.0.2.9 dst " REMOTE
	" proto esp reqid 1 mode tunnel",
	"src 10.1.0.0/16 dst 10.4.0.0/16 dev lo dir out action block",
	"src 10.1.0.0/16 dst 10.5.0.0/16 dir out tmpl src 192.0.2.9 dst " REMOTE
	" proto ah reqid 1 mode tunnel",
};

static void test_policies(void **state)
{
	const unsigned int n = sizeof(policies) / sizeof(*policies);
	char without[16384];

	(void)state;
	for (unsigned int i = 0; i < n; i++)
		run("ip xfrm policy add %s", policies[i]);
	process(&a);
	assert_int_equal(a.n_added, n);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(install(&b, &a.added[i].record, 0), 0);
	assert_same("policy");
	/* Again: nothing changes. */
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(install(&b, &a.added[i].record, 0), 0);
	assert_same("policy");
	process(&b);
	assert_int_equal(b.n_added, 0);

	for (unsigned int i = 0; i < n; i++) {
		const struct xfrm_record *r = &a.added[i].record;
		uint8_t body[RECORD_BODY_MAX];

		assert_int_equal(xfrm_read(b.x, &r->key, body, sizeof(body)), r->body_len);
		assert_memory_equal(body, r->body, r->body_len);
	}

	for (unsigned int i = 0; i < sizeof(foreign_policies) / sizeof(*foreign_policies); i++)
		run("ip xfrm policy add %s", foreign_policies[i]);
	process(&a);
	assert_int_equal(a.n_added, n);
	a.n_added = 0;
	assert_int_equal(dump(&a), 0);
	assert_int_equal(a.n_added, n);

	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(xfrm_remove(b.x, &a.added[i].record.key), 0);
	assert_int_equal(xfrm_remove(b.x, &a.added[0].record.key), -ENOENT);
	show(&b, "policy", without, sizeof(without));
	assert_string_equal(without, "");
	process(&b);
	assert_int_equal(b.n_removed, 0);
}

static void test_child_sa_is_a_pair(void **state)
{
	uint64_t pair;

	(void)state;
	add_sa(false, 0x100, "reqid 1 mode tunnel " GCM);
	add_sa(true, 0x200, "reqid 1 mode tunnel mark 5 mask 0xff " GCM);
	for (int i = 0; i < 3; i++)
		run("ip xfrm policy add %s", policies[i]);
	process(&a);
	assert_int_equal(a.n_added, 5);
	pair = a.added[0].record.facts.pair;
	for (int i = 1; i < 5; i++)
		assert_int_equal(a.added[i].record.facts.pair, pair);
	assert_int_equal(a.added[2].record.facts.remote.prefixlen, ESPALIER_SELECTOR_BITS + 16);
	assert_memory_equal(a.added[2].record.facts.remote.addr, ((uint8_t[16]){10, 2}), 16);
}

static void test_install_again(void **state)
{
	uint64_t oseq, seq;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	assert_int_equal(install(&b, last(&a), 1000), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 1000);
	/* Kept; its counter goes forth and not back. */
	assert_int_equal(install(&b, last(&a), 500), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 1000);
	assert_int_equal(install(&b, last(&a), 2000), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 2000);

	/* Another SA of the same SPI. */
	run("ip xfrm state flush");
	add_sa(true, 0x100, "reqid 1 mode tunnel " CBC);
	assert_int_equal(install(&b, last(&a), 10), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 10);
	process(&b);
	assert_int_equal(b.n_removed, 0);
	assert_int_equal(b.n_added, 0);
}

/* What may change in a living SA changes in the copy, whose counter stays. */
static void test_update_again(void **state)
{
	uint64_t oseq, seq;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel encap espinudp 4500 1024 0.0.0.0 " GCM);
	assert_int_equal(install(&b, last(&a), 1000), 0);
	run("ip xfrm state update src " LOCAL " dst " REMOTE
	    " proto esp spi 0x100 reqid 1 mode tunnel encap espinudp 4500 2048 0.0.0.0 "
	    "output-mark 0x7 limit time-hard 5000 limit packet-soft 70 " GCM);
	process(&a);
	assert_int_equal(a.n_added, 2);
	assert_int_equal(a.added[0].record.facts.birth, a.added[1].record.facts.birth);
	assert_int_equal(install(&b, last(&a), 500), 0);
	assert_same("state");
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 1000);
	process(&b);
	assert_int_equal(b.n_added, 0);
}

/* Many at once, of which some are there already, some are refused, and one key comes twice. */
static void test_many_at_once(void **state)
{
	enum { MANY = 300 };
	static struct record_install list[MANY + 1];
	static struct xfrm_record records[MANY];
	static _Alignas(8) uint8_t bodies[MANY][RECORD_BODY_MAX];
	uint64_t oseq, seq;

	(void)state;
	for (unsigned int i = 0; i < MANY; i++) {
		if (i % 32 == 0) {
			run("for i in $(seq %u %u); do echo xfrm state add src " LOCAL
			    " dst " REMOTE " proto esp spi $i reqid $i mode tunnel "
			    "aead \"rfc4106(gcm(aes))\" "
			    "0x0102030405060708090a0b0c0d0e0f10111213$((i %% 90 + 10)) 128; "
			    "done | ip -batch -",
				0x1000 + i, 0x1000 + i + 31);
			process(&a);
		}
		records[i] = a.added[i % RECORDS].record;
		memcpy(bodies[i], records[i].body, records[i].body_len);
		list[i] = (struct record_install){&records[i].key, &records[i].facts, bodies[i],
			records[i].body_len, i, false, 1, {0}, 0};
		assert_int_equal(records[i].key.spi, htonl(0x1000 + i));
		if (i % 50 == 0)
			assert_int_equal(install(&b, &records[i], 2 * i), 0);
	}
	list[77].body_len--;
	list[MANY] = list[10];
	list[MANY].oseq = 5000;
	xfrm_install(b.x, list, MANY + 1);
	for (unsigned int i = 0; i < MANY; i++) {
		assert_int_equal(list[i].result, i == 77 ? -EBADMSG : 0);
		assert_int_equal(
			xfrm_counters(b.x, &records[i].key, &oseq, &seq), i == 77 ? -ENOENT : 0);
		if (i != 77)
			assert_int_equal(oseq, i == 10 ? 5000 : i % 50 == 0 ? 2 * i : i);
	}
	assert_int_equal(list[MANY].result, 0);
	process(&b);
	assert_int_equal(b.n_added, 0);
	assert_int_equal(dump(&b), 0);
	assert_int_equal(b.n_added, MANY - 1);
}

static void test_refused(void **state)
{
	struct xfrm_record r;
	_Alignas(8) uint8_t body[RECORD_BODY_MAX + 8];

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	r = *last(&a);
	r.key.spi++;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.facts.birth++;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.facts.direction = ESPALIER_IN;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.facts.pair++;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.key.kind = 9;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.body_len--;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.body_len = RECORD_BODY_MAX + 1;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	assert_int_equal(install(&b, last(&a), 0x100000000), -ERANGE); /* without ESN */

	/* Of no cluster address. */
	r = *last(&a);
	memcpy(body, r.body, r.body_len);
	r.body = body;
	((struct xfrm_usersa_info *)body)->saddr.a4++;
	assert_int_equal(install(&b, &r, 0), -EADDRNOTAVAIL);

	/* Unaligned is as good; nothing of the above was left behind. */
	r = *last(&a);
	memcpy(body + 1, r.body, r.body_len);
	r.body = body + 1;
	assert_int_equal(dump(&b), 0);
	assert_int_equal(b.n_added, 0);
	assert_int_equal(install(&b, &r, 0), 0);
}

static void test_unknown_algorithm(void **state)
{
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	struct xfrm_body parsed;
	struct xfrm_record r;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	r = *last(&a);
	memcpy(body, r.body, r.body_len);
	r.body = body;
	assert_int_equal(
		xfrm_body_parse(RECORD_SA, body, r.body_len, XFRM_BODY_MEMBER, &parsed), 0);
	memcpy(mnl_attr_get_payload(parsed.attr[XFRMA_ALG_AEAD]), "rfc9999", 7);
	assert_int_equal(install(&b, &r, 0), -EBADMSG); /* of another birth */
	assert_int_equal(xfrm_facts_make(&parsed, cluster, 1, &r.key, &r.facts), 0);
	assert_int_equal(install(&b, &r, 0), -ENOSYS);
}

/* From 6.10 on. */
static bool kernel_has_direction(void)
{
	unsigned long major, minor;
	struct utsname name;
	char *end;

	assert_int_equal(uname(&name), 0);
	major = strtoul(name.release, &end, 10);
	minor = strtoul(end + 1, NULL, 10);
	return major > 6 || (major == 6 && minor >= 10);
}

/* XFRMA_SA_DIR, as a body of a kernel that has it: kept where this one has it, too, and left out
 * elsewhere. */
static void test_direction(void **state)
{
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	struct xfrm_replay_state_esn *esn;
	struct xfrm_body parsed;
	struct xfrm_record r;
	struct nlattr *dir;
	uint64_t oseq, seq;
	bool known;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel flag esn replay-window 32 " GCM);
	r = *last(&a);
	memcpy(body, r.body, r.body_len);
	r.body = body;
	dir = (struct nlattr *)(body + r.body_len);
	dir->nla_type = XFRM_BODY_SA_DIR;
	dir->nla_len = MNL_ATTR_HDRLEN + 1;
	*((uint8_t *)mnl_attr_get_payload(dir)) = 2;
	r.body_len += 8;
	assert_int_equal(
		xfrm_body_parse(RECORD_SA, body, r.body_len, XFRM_BODY_MEMBER, &parsed), 0);
	esn = mnl_attr_get_payload(parsed.attr[XFRMA_REPLAY_ESN_VAL]);
	esn->replay_window = esn->bmp_len = 0;

	assert_int_equal(install(&b, &r, 0x100000010), 0);
	assert_int_equal(xfrm_counters(b.x, &r.key, &oseq, &seq), 0);
	assert_int_equal(oseq, 0x100000010);
	assert_int_equal(xfrm_move(b.x, &r.key, 0x100000020), 0);
	assert_int_equal(dump(&b), 0);
	assert_int_equal(xfrm_body_parse(RECORD_SA, last(&b)->body, last(&b)->body_len,
				 XFRM_BODY_MEMBER, &parsed),
		0);
	esn = mnl_attr_get_payload(parsed.attr[XFRMA_REPLAY_ESN_VAL]);
	known = parsed.attr[XFRM_BODY_SA_DIR] != NULL;
	assert_int_equal(esn->replay_window, known ? 0 : 1);
	assert_int_equal(known, kernel_has_direction());
	/* And from here to a third kernel. */
	assert_int_equal(xfrm_remove(b.x, &r.key), 0);
	assert_int_equal(install(&b, last(&b), 5), 0);

	/* Inbound, with counters of its own direction only. */
	add_sa(false, 0x200, "reqid 1 mode tunnel flag esn replay-window 32 " GCM);
	r = *last(&a);
	memcpy(body, r.body, r.body_len);
	r.body = body;
	dir = (struct nlattr *)(body + r.body_len);
	dir->nla_type = XFRM_BODY_SA_DIR;
	dir->nla_len = MNL_ATTR_HDRLEN + 1;
	*((uint8_t *)mnl_attr_get_payload(dir)) = 1;
	r.body_len += 8;
	assert_int_equal(install(&b, &r, 7), 0);
	assert_int_equal(xfrm_counters(b.x, &r.key, &oseq, &seq), 0);
	assert_int_equal(oseq, 0);
}

/* A copy takes the place of an SPI that is reserved here. */
static void test_larval_copy(void **state)
{
	(void)state;
	add_sa(false, 0x300, "reqid 1 mode tunnel " GCM);
	enter(&b);
	assert_int_equal(system("ip xfrm state allocspi src " REMOTE " dst " LOCAL
				" proto esp mode tunnel reqid 1 min 0x300 max 0x300 >/dev/null"),
		0);
	enter(&a);
	assert_int_equal(install(&b, last(&a), 0), 0);
	assert_same("state");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sas),
		TEST(test_age),
		TEST(test_usage),
		TEST(test_window),
		TEST(test_policies),
		TEST(test_child_sa_is_a_pair),
		TEST(test_install_again),
		TEST(test_update_again),
		TEST(test_many_at_once),
		TEST(test_larval_copy),
		TEST(test_refused),
		TEST(test_unknown_algorithm),
		TEST(test_direction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
