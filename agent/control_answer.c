/* SPDX-License-Identifier: BSD-2-Clause */
/* control_answer.c - what espalierctl is told, in JSON. */
#include <arpa/inet.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

#define SAS_PER_PACKET 128
#define LACKING 16 /* interfaces that status names */

static void add_string(struct json_object *o, const char *name, const char *value)
{
	json_object_object_add(o, name, json_object_new_string(value));
}

static void add_number(struct json_object *o, const char *name, uint64_t value)
{
	json_object_object_add(o, name, json_object_new_uint64(value));
}

static void add_bool(struct json_object *o, const char *name, bool value)
{
	json_object_object_add(o, name, json_object_new_boolean(value));
}

static void add_member(struct json_object *o, const char *name, uint8_t id)
{
	json_object_object_add(o, name, id >= ESPALIER_MEMBERS ? NULL : json_object_new_int(id));
}

static struct json_object *addresses(const struct config_addresses *list)
{
	struct json_object *array = json_object_new_array();
	char text[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; i < list->count; i++) {
		inet_ntop(list->address[i].family, list->address[i].bytes, text, sizeof(text));
		json_object_array_add(array, json_object_new_string(text));
	}
	return array;
}

/* What a member is to the cluster, in one word. */
static const char *state_of(uint16_t flags, bool active)
{
	if (flags & WIRE_LEAVING)
		return "leaving";
	if (flags & WIRE_LINK_DOWN)
		return "link-down";
	if (flags & WIRE_DRAINED)
		return active ? "draining" : "drained";
	if (active)
		return "active";
	if (!(flags & WIRE_STARTED))
		return "starting";
	if (flags & WIRE_IKE_LOST)
		return "no-ike";
	return "standby";
}

/* Of this member, which may lack what the others do not see. */
static const char *own_state(const struct agent *a, bool active)
{
	struct datapath_watched lacking;

	if (datapath_lacking(a->datapath, &lacking, 1) > 0)
		return lacking.guard ? "unguarded" : "unsteered";
	if (member_doubles(a->member) >> a->config.id & 1)
		return "doubled";
	if (a->forward.lack[0])
		return "not-forwarding";
	if (member_held_back(a->member) != ESPALIER_NOBODY)
		return "held-back";
	return state_of(member_flags(a->member), active);
}

static unsigned int buckets_of(const struct agent *a, unsigned int id)
{
	unsigned int n = 0;

	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
		n += member_owner(a->member, (uint16_t)bucket) == id;
	return n;
}

static void add_counters(struct json_object *o, const struct agent *a)
{
	const struct member_counters *c = member_counters(a->member);

	add_number(o, "blocks_entered", c->entered);
	add_number(o, "takeovers", c->takeovers);
	add_number(o, "records_repaired", c->repaired);
	add_number(o, "records_lost", c->missing);
	add_number(o, "policies_kept", c->kept);
	add_number(o, "esp_without_sa", c->misses);
	add_number(o, "esp_without_sa_found", c->misses_found);
	add_number(o, "esp_without_sa_unknown", c->misses_unknown);
	add_number(o, "install_failed", c->install_failed);
	add_number(o, "records_refused", c->refused);
	add_number(o, "records_out_of_bounds", c->out_of_bounds);
	add_number(o, "malformed", c->malformed);
	add_number(o, "slept", c->slept);
}

static struct json_object *sync_status(const struct agent *a)
{
	struct json_object *o = json_object_new_object();
	struct channel_counters c;

	channel_counters(a->channel, &c);
	add_string(o, "carrier", channel_carrier(a->channel));
	add_number(o, "sent", c.sent);
	add_number(o, "sent_bytes", c.sent_bytes);
	add_number(o, "received", c.received);
	add_number(o, "received_bytes", c.received_bytes);
	add_number(o, "foreign", c.foreign);
	add_number(o, "rejected", c.rejected);
	add_number(o, "unsent", c.unsent);
	add_number(o, "handshakes", c.handshakes);
	return o;
}

static struct json_object *datapath_status(const struct agent *a)
{
	struct json_object *o = json_object_new_object();
	const char *why = NULL;

	add_string(o, "outer", datapath_xdp_mode(a->datapath, DATAPATH_OUTER));
	add_string(o, "inner", datapath_xdp_mode(a->datapath, DATAPATH_INNER));
	add_string(o, "sync", datapath_xdp_mode(a->datapath, DATAPATH_SYNC));
	if (datapath_counts_inbound(a->datapath, &why)) {
		add_string(o, "inbound_counters", "fexit");
	} else {
		add_string(o, "inbound_counters", "XFRM async events");
		add_string(o, "inbound_counters_why", why ? why : "");
	}
	if (datapath_tells_misses(a->datapath, &why)) {
		add_string(o, "spi_misses", "fentry");
	} else {
		add_string(o, "spi_misses", "not told");
		add_string(o, "spi_misses_why", why ? why : "");
	}
	if (datapath_guards_nested(a->datapath, &why)) {
		add_string(o, "nested_esp", "fexit");
	} else {
		add_string(o, "nested_esp", "not guarded");
		add_string(o, "nested_esp_why", why ? why : "");
	}
	add_number(o, "spread_cpus", datapath_cpus(a->datapath, &why));
	if (why && why[0])
		add_string(o, "spread_cpus_why", why);
	add_string(o, "outer_ingress", a->config.ingress == CONFIG_INGRESS_ALL ? "all" : "one");
	add_string(o, "pin", a->config.pin_path);
	return o;
}

/* Which interfaces are guarded, and what is not as it has to be. */
static void add_guard(struct json_object *status, const struct agent *a)
{
	struct json_object *unguarded = json_object_new_array();
	struct json_object *unsteered = json_object_new_array();
	struct datapath_watched lacking[LACKING];
	unsigned int n = datapath_lacking(a->datapath, lacking, LACKING);
	char text[IF_NAMESIZE + sizeof(lacking[0].why) + 4];
	const char *how;
	unsigned int guarded = datapath_guarded(a->datapath, &how);

	snprintf(text, sizeof(text), "%u interfaces, %s", guarded, how);
	add_string(status, "guard", text);
	for (unsigned int i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "%s: %s", lacking[i].name, lacking[i].why);
		json_object_array_add(
			lacking[i].guard ? unguarded : unsteered, json_object_new_string(text));
	}
	json_object_object_add(status, "unguarded", unguarded);
	json_object_object_add(status, "unsteered", unsteered);
}

/* Which of them are not what they are called in the configuration. */
static void add_interfaces(struct json_object *status, const struct agent *a)
{
	const char *const names[DATAPATH_SIDES] = {
		a->config.outer_interface, a->config.inner_interface, a->config.sync_interface};
	char text[256] = "";
	size_t len = 0;

	for (unsigned int side = 0; side < DATAPATH_SIDES; side++) {
		const struct link_state *link = &a->links[side];

		if (a->ifindex[side] && (!link->here || link->renamed))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s is %s%s",
				len ? ", " : "", names[side],
				link->here ? "now called " : "not there",
				link->here ? link->name : "");
	}
	add_string(status, "interfaces", len ? text : "good");
}

/* Not there: this member has all that the others have. */
static void add_progress(struct json_object *status, const struct agent *a)
{
	const struct progress *p = &a->progress;
	struct json_object *o;

	if (!p->total || !progress_goes_on(a))
		return;
	o = json_object_new_object();
	add_number(o, "records", member_table(a->member)->present);
	add_number(o, "of", p->total);
	add_number(o, "per_second", p->per_second);
	add_number(o, "seconds_left", p->seconds_left);
	json_object_object_add(status, "catching_up", o);
}

static const char *const fences[FENCES] = {
	[FENCE_JOURNAL_LOST] = "journal-lost",
	[FENCE_JOURNAL_OLD] = "journal-old",
	[FENCE_TWO_CREATORS] = "two-creators",
	[FENCE_FOUND] = "past-unknown",
};

static void add_fenced(struct json_object *status, const struct agent *a, enum record_fence why)
{
	char name[32];

	snprintf(name, sizeof(name), "barred_%s", fences[why]);
	add_number(status, name, member_fenced_for(a->member, why));
}

/* Members that are there twice. */
static void add_doubled(struct json_object *status, const struct agent *a)
{
	struct json_object *array = json_object_new_array();

	for (uint16_t set = member_doubles(a->member); set; set &= (uint16_t)(set - 1))
		json_object_array_add(array, json_object_new_int(view_lowest(set)));
	json_object_object_add(status, "doubled", array);
}

/* While buckets are about to change hands: who is not ready for it. */
static void add_handover(struct json_object *status, const struct agent *a)
{
	struct json_object *array;

	if (!member_is_handing(a->member))
		return;
	array = json_object_new_array();
	for (uint16_t set = member_awaited(a->member); set; set &= (uint16_t)(set - 1))
		json_object_array_add(array, json_object_new_int(view_lowest(set)));
	json_object_object_add(status, "handover_awaits", array);
}

static struct json_object *status(const struct agent *a)
{
	const struct view *view = member_view(a->member);
	unsigned int buckets = buckets_of(a, a->config.id);
	const struct table *t = member_table(a->member);
	const struct member_room room = member_room(a->member);
	struct json_object *o = json_object_new_object();

	add_string(o, "cluster", a->config.name);
	add_number(o, "member", a->config.id);
	add_string(o, "state", own_state(a, buckets > 0));
	add_string(
		o, "mode", a->config.mode == CONFIG_HOT_STANDBY ? "hot-standby" : "load-sharing");
	add_string(o, "hash", a->config.hash == ESPALIER_HASH_MIX ? "mix" : "prefix");
	json_object_object_add(o, "addresses", addresses(&a->config.outer));
	json_object_object_add(o, "inner_addresses", addresses(&a->config.inner));
	add_number(o, "epoch", view->epoch);
	add_member(o, "publisher", view->live ? view->publisher : ESPALIER_NOBODY);
	add_member(o, "ingress", view_lowest(view->live));
	add_member(o, "held_back_by", member_held_back(a->member));
	add_number(o, "buckets", buckets);
	add_number(o, "sas", t->sas);
	add_number(o, "policies", t->policies);
	add_number(o, "max_sas", t->capacity);
	add_number(o, "ended_remembered", room.dead);
	add_number(o, "ended_remembered_max", room.dead_most);
	add_number(o, "missing", t->sas + t->policies - t->present);
	add_number(o, "barred", member_fenced(a->member));
	for (unsigned int why = FENCE_NONE + 1; why < FENCES; why++)
		if (member_fenced_for(a->member, why))
			add_fenced(o, a, why);
	add_doubled(o, a);
	add_handover(o, a);
	add_number(o, "pins", member_pins(a->member));
	add_number(o, "local_sas", a->local.count);
	add_number(o, "local_policies", a->local_policies.count);
	add_string(o, "forwarding", a->forward.lack[0] ? a->forward.lack : "good");
	add_string(o, "journal", journal_error(a->journal) ? journal_error(a->journal) : "good");
	add_counters(o, a);
	add_progress(o, a);
	add_interfaces(o, a);
	add_guard(o, a);
	json_object_object_add(o, "sync", sync_status(a));
	json_object_object_add(o, "datapath", datapath_status(a));
	json_object_object_add(o, "ike", control_ike_status(a));
	return o;
}

/* How packets get there, as the programs have it. */
static void add_hops(struct json_object *o, const struct agent *a, uint8_t id)
{
	static const char *const kinds[] = {[ESPALIER_HOP_NONE] = "none",
		[ESPALIER_HOP_LINK] = "link",
		[ESPALIER_HOP_IPV4] = "IPv4",
		[ESPALIER_HOP_IPV6] = "IPv6"};
	struct espalier_member m = {0};

	(void)datapath_member_get(a->datapath, id, &m);
	add_string(o, "outer_hop", kinds[m.outer.kind & 3]);
	add_string(o, "inner_hop", kinds[m.inner.kind & 3]);
}

static struct json_object *member_json(const struct agent *a, uint8_t id)
{
	bool self = id == a->config.id;
	unsigned int buckets = buckets_of(a, id);
	struct json_object *o = json_object_new_object();
	char text[INET_ADDRSTRLEN], differs[256];
	const struct stranger *stranger = &a->strangers.all[id];
	struct member_other other;

	member_other(a->member, id, &other);
	strangers_differ(a, id, differs, sizeof(differs));
	add_number(o, "member", id);
	add_string(o, "sync_address",
		inet_ntop(AF_INET, &a->config.member_sync[id], text, sizeof(text)));
	add_bool(o, "self", self);
	add_bool(o, "in_view", member_view(a->member)->live >> id & 1);
	add_number(o, "buckets", buckets);
	add_bool(o, "drained", (self ? member_flags(a->member) : other.flags) & WIRE_DRAINED);
	add_bool(o, "yields", (self ? member_flags(a->member) : other.flags) & WIRE_YIELDS);
	if (stranger->known)
		add_string(o, "differs", differs);
	if (self) {
		add_string(o, "state", own_state(a, buckets > 0));
		add_number(o, "records", member_table(a->member)->present);
		return o;
	}
	add_string(o, "state",
		other.settings_differ ? "other-settings"
		: stranger->known     ? stranger->differs ? "disagrees" : "no-session"
		: !other.alive        ? "dead"
		: other.doubled       ? "doubled"
				      : state_of(other.flags, buckets > 0));
	add_bool(o, "synced", other.synced);
	add_bool(o, "session", channel_connected(a->channel, id));
	if (other.heard_us)
		add_number(o, "heard_ms_ago", (agent_now_us() - other.heard_us) / 1000);
	add_number(o, "records", other.records);
	add_number(o, "queued", other.queued);
	add_number(o, "resent", other.resent);
	add_hops(o, a, id);
	return o;
}

static struct json_object *members(const struct agent *a)
{
	struct json_object *array = json_object_new_array();

	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++)
		if (a->config.members >> id & 1)
			json_object_array_add(array, member_json(a, id));
	return array;
}

static struct json_object *reasons(const struct agent *a)
{
	static const struct {
		const char *name, *text;
	} list[] = {
#define X(symbol, name, text) {name, text},
		ESPALIER_REASONS(X)
#undef X
	};
	struct json_object *array = json_object_new_array();
	uint64_t packets[ESPALIER_REASON_COUNT] = {0};

	(void)datapath_reasons(a->datapath, packets);
	for (unsigned int i = 0; i < ESPALIER_REASON_COUNT; i++) {
		struct json_object *o = json_object_new_object();

		add_string(o, "reason", list[i].name);
		add_number(o, "packets", packets[i]);
		add_string(o, "meaning", list[i].text);
		json_object_array_add(array, o);
	}
	return array;
}

static void add_flow(struct json_object *o, const struct agent *a, const struct record *r)
{
	add_number(o, "bucket", r->bucket);
	if (r->pinned)
		add_member(o, "pinned", r->pinned - 1);
	add_member(o, "owner", member_flow_owner(a->member, r));
}

/* SAs to the cluster that have this SPI and are not their bucket's owner's. */
static struct json_object *pinned(const struct agent *a, __be32 spi)
{
	const struct config_addresses *list = &a->config.outer;
	struct json_object *array = json_object_new_array();
	char text[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; i < list->count; i++) {
		const struct address *to = &list->address[i];
		struct record_key key = {
			.kind = RECORD_SA, .proto = IPPROTO_ESP, .family = to->family, .spi = spi};
		const struct record *r;
		struct json_object *o;

		memcpy(key.addr, to->bytes, sizeof(key.addr));
		r = table_find(member_table(a->member), &key);
		if (!r || !r->pinned)
			continue;
		o = json_object_new_object();
		inet_ntop(to->family, to->bytes, text, sizeof(text));
		add_string(o, "destination", text);
		add_flow(o, a, r);
		json_object_array_add(array, o);
	}
	return array;
}

static struct json_object *owner(const struct agent *a, const char *argument)
{
	struct json_object *o = json_object_new_object();
	unsigned long spi;
	uint16_t bucket;
	char *end;

	errno = 0;
	spi = strtoul(argument, &end, 0);
	if (errno || end == argument || *end || spi > UINT32_MAX || *argument == '-') {
		add_string(o, "error", "an SPI is a number from 0 to 0xffffffff");
		return o;
	}
	bucket = (uint16_t)espalier_bucket((uint32_t)spi, a->config.hash);
	add_number(o, "spi", spi);
	add_number(o, "bucket", bucket);
	add_member(o, "owner", member_owner(a->member, bucket));
	json_object_object_add(o, "pinned", pinned(a, htonl((uint32_t)spi)));
	return o;
}

static void add_blocks(struct json_object *o, const struct agent *a, const struct record *r)
{
	struct json_object *entered = json_object_new_object();
	char id[8];

	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++) {
		if (!r->upto[i])
			continue;
		snprintf(id, sizeof(id), "%u", i);
		add_number(entered, id, r->upto[i] - 1);
	}
	json_object_object_add(o, "highest_block_entered", entered);
	if (r->windows[0]) {
		add_number(o, "open_first", (r->windows[0] - 1) << a->config.block_bits);
		add_number(o, "open_last", (r->windows[0] << a->config.block_bits) - 1);
	}
	add_bool(o, "barred", r->fence != FENCE_NONE);
	if (r->fence != FENCE_NONE)
		add_string(o, "barred_why", fences[r->fence]);
}

static bool is_to_cluster(const struct agent *a, const struct record_key *key)
{
	const struct config_addresses *list = &a->config.outer;

	for (unsigned int i = 0; i < list->count; i++)
		if (list->address[i].family == key->family &&
			memcmp(list->address[i].bytes, key->addr, sizeof(key->addr)) == 0)
			return true;
	return false;
}

static struct json_object *sa_name(const struct agent *a, const struct record_key *key)
{
	struct json_object *o = json_object_new_object();
	char text[INET6_ADDRSTRLEN];

	add_string(o, "protocol",
		key->proto == IPPROTO_ESP  ? "esp"
		: key->proto == IPPROTO_AH ? "ah"
					   : "comp");
	snprintf(text, sizeof(text), "0x%08x", ntohl(key->spi));
	add_string(o, "spi", text);
	add_string(o, "destination", inet_ntop(key->family, key->addr, text, sizeof(text)));
	add_string(o, "direction", is_to_cluster(a, key) ? "in" : "out");
	return o;
}

static struct json_object *sa_json(const struct agent *a, const struct record *r)
{
	struct json_object *o = sa_name(a, &r->key);
	const struct espalier_counter *counter =
		datapath_counter(a->datapath, r->slot, r->facts.birth);
	uint64_t seq = counter ? counter->seq : 0;

	add_member(o, "creator", r->creator);
	add_bool(o, "installed", record_is_installed(r));
	if (record_is_refused(r))
		add_string(o, "refused", strerror(-r->refused));
	add_number(o, "slot", r->slot);
	if (record_is_shared_sa(r))
		return o;
	add_bool(o, "esn", r->facts.esn);
	add_flow(o, a, r);
	add_number(o, "seq", seq > r->seq ? seq : r->seq);
	add_number(o, "packets", counter ? counter->packets : 0);
	if (r->unsure)
		add_bool(o, "pair_unsure", true);
	if (r->facts.limited) {
		add_number(o, "used_bytes", r->used.bytes);
		add_number(o, "used_packets", r->used.packets);
	}
	if (r->facts.direction == ESPALIER_OUT)
		add_blocks(o, a, r);
	return o;
}

/* Those that cannot be copied have the numbers behind the slots. */
static struct json_object *local_json(const struct agent *a, const struct local_sa *sa)
{
	struct json_object *o = sa_name(a, &sa->key);

	add_string(o, "local", sa->why);
	return o;
}

static struct json_object *sas(const struct agent *a, const char *from)
{
	const struct table *t = member_table(a->member);
	struct json_object *o = json_object_new_object(), *array = json_object_new_array();
	uint32_t slot = (uint32_t)strtoul(from, NULL, 10);
	unsigned int n = 0;

	for (; slot < t->high && n < SAS_PER_PACKET; slot++) {
		const struct record *r = table_at(t, slot);

		if (!r || r->life != RECORD_ALIVE || r->key.kind != RECORD_SA)
			continue;
		json_object_array_add(array, sa_json(a, r));
		n++;
	}
	if (slot >= t->high && slot < t->slots)
		slot = t->slots;
	for (; slot - t->slots < a->local.count && n < SAS_PER_PACKET; slot++, n++)
		json_object_array_add(array, local_json(a, &a->local.sas[slot - t->slots]));
	json_object_object_add(o, "sas", array);
	if (slot < t->high || slot - t->slots < a->local.count)
		add_number(o, "next", slot);
	return o;
}

struct json_object *control_answer(const struct agent *a, char *request)
{
	const char *word = strsep(&request, " "), *argument = request ? request : "";
	struct json_object *o;

	if (strcmp(word, "status") == 0)
		return status(a);
	if (strcmp(word, "members") == 0)
		return members(a);
	if (strcmp(word, "reasons") == 0)
		return reasons(a);
	if (strcmp(word, "owner") == 0)
		return owner(a, argument);
	if (strcmp(word, "sa") == 0)
		return sas(a, argument);
	if (strcmp(word, "policy") == 0)
		return control_policies(a, argument);
	if (strcmp(word, "events") == 0)
		return happened_json(a);
	if (strcmp(word, "adopt") == 0)
		return control_adopt(a, argument);
	if (strcmp(word, "drain") == 0 || strcmp(word, "undrain") == 0 ||
		strcmp(word, "failover") == 0)
		return control_order(a, word, argument);
	if (strcmp(word, "ike") == 0)
		return control_ikes(a, argument);
	if (strcmp(word, "ike-config") == 0)
		return control_ike_config(&a->config);
	o = json_object_new_object();
	add_string(o, "error", "unknown request");
	return o;
}
