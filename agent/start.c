/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * start.c - starts the parts of an agent, in two halves. The first one takes the locks, reads and
 * opens, and changes nothing that anybody sees. The second one attaches, and can be taken back
 * until its last step. What we entered in earlier lives (journal, pinned maps) comes before what
 * the kernel holds, and all of that before another member is heard.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "io/digest.h"
#include "io/interface.h"

#define TOMBSTONE_US 600000000ULL
#define REPAIR_US 1000000
#define CLAIM_US 3500000 /* they are made once a second */
#define CLONE_MS 100 /* in which one has to answer */
#define START_US 1200000 /* a handshake of the sync channel is tried once a second */

struct entry {
	struct record_key key;
	uint64_t birth, block;
};

struct agent_entries {
	struct entry *all;
	size_t count, size;
	bool failed;
};

static void on_entry(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct agent_entries *e = ctx;

	if (e->count == e->size) {
		size_t size = e->size ? 2 * e->size : 1024;
		struct entry *all = reallocarray(e->all, size, sizeof(*all));

		if (!all) {
			e->failed = true;
			return;
		}
		e->all = all;
		e->size = size;
	}
	e->all[e->count++] = (struct entry){.key = *key, .birth = birth, .block = block};
}

/* What the guard of an earlier life knows. */
static void restore_guard(struct agent *a)
{
	uint32_t slots = table_slots(a->config.max_sas);
	const struct espalier_counter *counter;
	struct espalier_sa_key key;
	struct espalier_sa sa;

	for (int r = datapath_sa_next(a->datapath, NULL, &key, &sa); r > 0;
		r = datapath_sa_next(a->datapath, &key, &key, &sa)) {
		struct record_key k = ops_record_key(&key);

		counter = sa.slot < slots ? datapath_counter(a->datapath, sa.slot, sa.birth) : NULL;
		if (sa.slot == ESPALIER_SLOT_LOCAL)
			local_restore(a, &k);
		else
			member_guarded(a->member, &k, &sa, counter ? counter->seq : 0);
	}
}

/* Pins of an earlier life went on until here; what nobody speaks for any more goes. */
static void forget_pins(struct agent *a)
{
	struct espalier_sa_key key, next;
	int more = datapath_pin_next(a->datapath, NULL, &next);

	while (more > 0) {
		struct record_key k = ops_record_key(&next);
		const struct record *r = NULL;
		bool told = false;

		while ((r = table_spi_next(member_table(a->member), &k, r)))
			told |= r->pin_told != 0;
		key = next;
		more = datapath_pin_next(a->datapath, &key, &next); /* from one that is there */
		if (!told)
			(void)datapath_pin_delete(a->datapath, &key);
	}
}

/* What an earlier life has left of addresses, policies and xfrm interfaces that are not there any
 * more. */

static bool is_selector_told(const struct agent *a, const struct espalier_selector *selector)
{
	const struct table *t = member_table(a->member);

	for (const struct record *r = table_remote_first(t, selector); r;
		r = table_remote_next(t, r))
		if (r->selector_set)
			return true;
	return false;
}

static void forget_selectors(struct agent *a)
{
	struct espalier_selector selector, next;
	struct espalier_flow flow;
	int r = datapath_selector_next(a->datapath, NULL, &next, &flow);

	while (r > 0) {
		bool here = flow.bucket == ESPALIER_HERE;
		struct address address = {.family = (uint16_t)next.family};

		selector = next;
		memcpy(address.bytes, selector.addr, sizeof(address.bytes));
		r = datapath_selector_next(a->datapath, &selector, &next, &flow);
		if (here ? !link_has_address(a->link, &address) : !is_selector_told(a, &selector))
			(void)datapath_selector_delete(a->datapath, &selector);
	}
}

static void forget_interfaces(struct agent *a)
{
	unsigned int ifindex, next;
	int r = datapath_interface_next(a->datapath, NULL, &next);

	while (r > 0) {
		ifindex = next;
		r = datapath_interface_next(a->datapath, &ifindex, &next);
		if (!link_has_xfrm(a->link, ifindex))
			(void)datapath_interface_delete(a->datapath, ifindex);
	}
}

static int start_links(struct agent *a, char *err, size_t err_size)
{
	int r = link_open(a->ifindex, DATAPATH_SIDES, &events_links, a, &a->link);

	if (r == 0)
		r = route_open(hops_route, a, &a->route);
	if (r < 0) {
		snprintf(err, err_size, "cannot watch the interfaces: %s", strerror(-r));
		return r;
	}
	return 0;
}

static int open_journal(struct agent *a, char *err, size_t err_size)
{
	const struct config *c = &a->config;
	struct journal_config journal = {
		.path = c->journal_path,
		.self = (uint8_t)c->id,
		.block_bits = c->block_bits,
		.modulus = block_modulus((uint8_t)(31 - __builtin_clz(c->members))),
	};

	a->entries = calloc(1, sizeof(*a->entries));
	if (!a->entries)
		return -ENOMEM;
	return journal_open(&journal, on_entry, a->entries, &a->journal, err, err_size);
}

static void free_entries(struct agent *a)
{
	if (a->entries)
		free(a->entries->all);
	free(a->entries);
	a->entries = NULL;
}

static int start_member(struct agent *a, char *err, size_t err_size)
{
	const struct config *c = &a->config;
	struct member_config member = {
		.self = (uint8_t)c->id,
		.members = (uint16_t)c->members,
		.settings = config_cluster_digest(c),
		.mode = c->mode == CONFIG_HOT_STANDBY ? VIEW_HOT_STANDBY : VIEW_LOAD_SHARING,
		.hash = c->hash,
		.block_bits = (uint8_t)c->block_bits,
		.heartbeat_us = c->heartbeat_us,
		.dead = c->dead_after,
		.repair_us = REPAIR_US,
		.start_us = START_US + 4ULL * c->heartbeat_us * c->dead_after,
		.claim_us = CLAIM_US,
		.tombstone_us = TOMBSTONE_US,
		.doubled_us = AGENT_DOUBLED_S * 1000000ULL,
		.capacity = c->max_sas,
		.idle = table_slots(c->max_sas) - c->max_sas,
		.ikes = c->max_ikes,
		.commit_us = c->ike_commit_us,
		.first = a->first,
		.journal = journal_id(a->journal),
		.life = 1,
		.order = order_kept(c),
	};
	int r;

	digest_random(&member.life, sizeof(member.life));
	member.life |= 1;
	memcpy(member.macs.outer, a->links[DATAPATH_OUTER].mac, 6);
	memcpy(member.macs.inner, a->links[DATAPATH_INNER].mac, 6);
	r = member_new(&member, &agent_ops, a, agent_now_us(), &a->member);
	if (r == 0 && a->entries->failed)
		r = -ENOMEM;
	if (r < 0) {
		snprintf(err, err_size, "cannot start: %s", strerror(-r));
		return r;
	}
	for (size_t i = 0; i < a->entries->count; i++) {
		const struct entry *e = &a->entries->all[i];

		member_restore(a->member, &e->key, e->birth, e->block);
	}
	restore_guard(a);
	return 0;
}

static int open_datapath(struct agent *a, char *err, size_t err_size)
{
	const struct config *c = &a->config;
	struct datapath_config datapath = {
		.self = (uint8_t)c->id,
		.members = (uint8_t)(32 - __builtin_clz(c->members)),
		.hash = c->hash,
		.block_bits = c->block_bits,
		.max_sas = table_slots(c->max_sas),
		.lease_ns = 1000 * member_lease_us(c->heartbeat_us, c->dead_after),
		.sync_address = c->member_sync[c->id],
		.sync_port = (uint16_t)c->sync_port,
		.pin = c->pin_path,
		.fexit = c->counters == CONFIG_COUNTERS_AUTO,
		.misses_per_second = c->misses_per_second,
		.tunnel = {[DATAPATH_OUTER] = c->member_outer[c->id],
			[DATAPATH_INNER] = c->member_inner[c->id]},
		.ingress_all = c->ingress == CONFIG_INGRESS_ALL,
		.cpus = c->cpus == CONFIG_CPUS_ALL ? DATAPATH_ALL_CPUS : c->cpus,
	};

	memcpy(datapath.ifindex, a->ifindex, sizeof(datapath.ifindex));
	if (c->transport == CONFIG_TRANSPORT_UDP)
		datapath.ifindex[DATAPATH_SYNC] = 0;
	memcpy(datapath.outer, c->outer.address, sizeof(datapath.outer));
	memcpy(datapath.inner, c->inner.address, sizeof(datapath.inner));
	return datapath_open(&datapath, &a->datapath, err, err_size);
}

static int open_channel(struct agent *a, char *err, size_t err_size)
{
	const struct config *c = &a->config;
	struct channel_config channel = {
		.cluster = c->name,
		.self = (uint8_t)c->id,
		.port = (uint16_t)c->sync_port,
		.ifindex = a->ifindex[DATAPATH_SYNC],
		.xsks_map_fd = c->transport == CONFIG_TRANSPORT_UDP
				       ? -1
				       : datapath_sync_map_fd(a->datapath),
		.psk = c->psk_size ? c->psk : NULL,
		.psk_len = c->psk_size,
		.certificate = c->cert_path,
		.private_key = c->key_path,
		.ca = c->ca_path,
		.silence_us = 4ULL * c->heartbeat_us * c->dead_after,
	};

	memcpy(channel.addresses, c->member_sync, sizeof(channel.addresses));
	return channel_open(&channel, events_datagram, a, &a->channel, err, err_size);
}

/* What a copy of this machine has, too. */
static size_t read_secret(const struct config *c, uint8_t *ret, size_t size)
{
	FILE *file;
	size_t n;

	if (c->psk_size) {
		memcpy(ret, c->psk, c->psk_size);
		return c->psk_size;
	}
	file = fopen(c->key_path, "re");
	if (!file)
		return 0;
	n = fread(ret, 1, size, file);
	(void)fclose(file);
	return n;
}

/* Asks whether there is another machine like this one; it has until all is prepared to answer. */
static int ask_for_clone(struct agent *a, char *err, size_t err_size)
{
	uint8_t secret[4096];
	struct clone_config clone = {
		.cluster = a->config.name,
		.self = (uint8_t)a->config.id,
		.ifindex = a->ifindex[DATAPATH_SYNC],
		.secret = secret,
		.secret_len = read_secret(&a->config, secret, sizeof(secret)),
	};
	int r = clone.secret_len ? clone_open(&clone, &a->clone) : -EIO;

	explicit_bzero(secret, sizeof(secret));
	if (r < 0)
		snprintf(err, err_size, "cannot look for a clone on the sync interface: %s",
			strerror(-r));
	else
		clone_ask(a->clone, CLONE_STARTS);
	return r;
}

static int open_beacon(struct agent *a, char *err, size_t err_size)
{
	int r = strangers_open(a);

	if (r < 0)
		snprintf(err, err_size, "cannot look for others on the sync interface: %s",
			strerror(-r));
	return r;
}

static int refuse_clone(struct agent *a, char *err, size_t err_size)
{
	uint8_t mac[6];

	if (!clone_wait(a->clone, CLONE_MS, mac))
		return 0;
	snprintf(err, err_size,
		"another machine, at MAC address %02x:%02x:%02x:%02x:%02x:%02x of the sync link, "
		"runs as member %u of cluster %s: is one of them a clone? Stop that one, or give "
		"this one an Id and a journal of its own",
		mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], a->config.id, a->config.name);
	return -EADDRINUSE;
}

static int start_xfrm(struct agent *a, char *err, size_t err_size)
{
	struct xfrm_config xfrm = {
		.addresses = a->config.outer.address,
		.n_addresses = a->config.outer.count,
	};
	int r = xfrm_open(&xfrm, &events_xfrm, a, &a->xfrm);

	if (r == 0)
		r = xfrm_dump(a->xfrm);
	if (r == 0)
		local_end(a);
	else
		snprintf(err, err_size,
			"cannot read the kernel's SAs and policies (XFRM netlink): %s%s",
			strerror(-r),
			r == -EPROTONOSUPPORT ? "; load the kernel module xfrm_user" : "");
	return r;
}

static void warn_about_arp(const char *interface)
{
	if (interface[0] && link_arp_announce(interface) < 2)
		agent_say("set net.ipv4.conf.%s.arp_announce to 2: else our own ARP requests draw "
			  "traffic for "
			  "the cluster address to us",
			interface);
}

int agent_prepare(struct agent *a, char *err, size_t err_size)
{
	const char *names[DATAPATH_SIDES] = {
		[DATAPATH_OUTER] = a->config.outer_interface,
		[DATAPATH_INNER] = a->config.inner_interface,
		[DATAPATH_SYNC] = a->config.sync_interface,
	};
	int r;

	a->groups = -1;
	for (unsigned int side = 0; side < DATAPATH_SIDES; side++) {
		if (!names[side][0])
			continue;
		r = interface_index(names[side]);
		if (r < 0) {
			snprintf(err, err_size, "cannot look for the interface %s: %s", names[side],
				strerror(-r));
			return r;
		}
		a->ifindex[side] = (unsigned int)r;
	}
	a->positions = calloc(table_slots(a->config.max_sas), sizeof(*a->positions));
	if (!a->positions || usage_open(a) < 0) {
		snprintf(err, err_size,
			"no memory for the counters of %u SAs: give it more, or lower MaxSAs",
			a->config.max_sas);
		return -ENOMEM;
	}
	if ((r = open_journal(a, err, err_size)) < 0 || (r = ask_for_clone(a, err, err_size)) < 0 ||
		(r = open_datapath(a, err, err_size)) < 0 ||
		(r = open_channel(a, err, err_size)) < 0 ||
		(r = open_beacon(a, err, err_size)) < 0 || (r = refuse_clone(a, err, err_size)) < 0)
		return r;
	r = watch_open(a, err, err_size);
	if (r == 0)
		r = control_open(a->config.control_path, &a->control, err, err_size);
	return r < 0 ? r : ike_open(a, err, err_size);
}

/* Where no program counts. */
static int tell_counters(struct agent *a, char *err, size_t err_size)
{
	int r = datapath_counts_inbound(a->datapath, NULL) ? 0 : xfrm_tell_counters(a->xfrm);

	if (r < 0)
		snprintf(err, err_size, "cannot listen to SAs' counters (XFRM netlink): %s",
			strerror(-r));
	return r;
}

/* Until there is a view. */
static void own_all(struct agent *a)
{
	struct espalier_view_half half = {.live = 1U << a->config.id, .ingress = ESPALIER_NOBODY};

	memset(half.owner, (int)a->config.id, sizeof(half.owner));
	datapath_publish(a->datapath, &half);
}

static bool is_here(const struct record *r)
{
	return r && r->key.kind == RECORD_SA && r->origin == RECORD_HERE &&
	       r->facts.direction == ESPALIER_OUT;
}

static bool has_sas(const struct agent *a)
{
	const struct table *t = member_table(a->member);

	for (uint32_t slot = 0; slot < t->high; slot++)
		if (is_here(table_at(t, slot)))
			return true;
	return false;
}

/* SAs must be known before the guard is attached, which stops unknown ones. */
static int attach_first(struct agent *a, char *err, size_t err_size)
{
	if (has_sas(a))
		own_all(a);
	return datapath_attach(a->datapath, err, err_size);
}

int agent_take_over(struct agent *a, char *err, size_t err_size)
{
	int r = 0;

	a->first = boot_is_first(a);
	ops_hand(a, false); /* an earlier agent may have died in the midst of it */
	if (!a->first)
		r = datapath_attach(a->datapath, err, err_size);
	if (r < 0 || (r = start_links(a, err, err_size)) < 0 ||
		(r = start_member(a, err, err_size)) < 0 || (r = start_xfrm(a, err, err_size)) < 0)
		return r;
	if (a->first)
		r = attach_first(a, err, err_size);
	free_entries(a);
	return r < 0 ? r : tell_counters(a, err, err_size);
}

/* What has carried traffic while we started stands elsewhere now. */
static void settle(struct agent *a)
{
	const struct table *t = member_table(a->member);

	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);
		struct record_key key;
		uint64_t oseq, seq;

		if (!is_here(r))
			continue;
		key = r->key;
		while (xfrm_counters(a->xfrm, &key, &oseq, &seq) == 0 &&
			member_settle(a->member, &key, oseq))
			;
	}
}

static void warn_about_nested(const struct agent *a)
{
	const char *why;

	if (!datapath_guards_nested(a->datapath, &why))
		agent_say(
			"ESP inside ESP is not guarded, its inner numbers may come twice (%s): use "
			"no policies with two ESP templates",
			why);
}

int agent_begin(struct agent *a, char *err, size_t err_size)
{
	int r = journal_begin(a->journal, err, err_size);

	if (r < 0)
		return r;
	r = datapath_keep(a->datapath);
	if (r < 0)
		agent_say("something that an earlier agent left in %s cannot be removed: %s",
			a->config.pin_path, strerror(-r));
	boot_mark(a);
	watch_begin(a);
	if (journal_is_new(a->journal))
		agent_say("%s: a new journal is begun; SAs older than it are not ours until they "
			  "are rekeyed",
			journal_is_new(a->journal));
	warn_about_nested(a);
	warn_about_arp(a->config.outer_interface);
	warn_about_arp(a->config.inner_interface);
	ops_listen(a, DATAPATH_OUTER);
	ops_listen(a, DATAPATH_INNER);
	events_own_macs(a);
	hops_start(a);
	(void)forward_tick(a, agent_now_us());
	events_links_up(a);
	a->audit.due_us = agent_now_us() + a->config.audit_us;
	if (a->first)
		settle(a);
	member_started(a->member);
	a->local.started = true;
	a->local.started_s = (uint64_t)time(NULL);
	boot_say(a);
	forget_interfaces(a);
	forget_pins(a);
	forget_selectors(a);
	agent_say("member %u of cluster %s: sync channel by %s; XDP outer %s, inner %s, sync %s",
		a->config.id, a->config.name, channel_carrier(a->channel),
		datapath_xdp_mode(a->datapath, DATAPATH_OUTER),
		datapath_xdp_mode(a->datapath, DATAPATH_INNER),
		datapath_xdp_mode(a->datapath, DATAPATH_SYNC));
	return 0;
}

void agent_stop(struct agent *a)
{
	watch_close(a);
	metrics_close(a);
	ike_close(a);
	control_close(a->control);
	channel_close(a->channel);
	clone_close(a->clone);
	beacon_close(a->strangers.beacon);
	xfrm_close(a->xfrm);
	member_free(a->member);
	journal_close(a->journal);
	if (a->groups >= 0)
		close(a->groups);
	link_close(a->link);
	route_close(a->route);
	datapath_close(a->datapath);
	free_entries(a);
	free(a->positions);
	usage_close(a);
	free(a->audit.seen);
	config_wipe(&a->config);
}
