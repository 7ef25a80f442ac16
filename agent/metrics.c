/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * metrics.c - what espalierctl is told, as Prometheus wants it: each key of its answers has a place
 * in these tables.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent.h"
#include "exposition.h"
#include "version.h"

enum kind {
	GAUGE,
	COUNTER,
	MILLISECONDS, /* a gauge, in seconds */
	MEMBER, /* its id, or -1: nobody */
	GOOD, /* 1: it is "good", true or "" */
	LENGTH, /* of a list */
	LABEL, /* of the object's own information, if it is text */
	ELSEWHERE, /* told in another way */
};

struct metric {
	const char *key, *name;
	enum kind kind;
	const char *help;
};

#define END                                                                                        \
	{                                                                                          \
		NULL, NULL, ELSEWHERE, NULL                                                        \
	}

/* clang-format off */
static const struct metric of_status[] = {
	{"cluster", NULL, LABEL, NULL},
	{"member", NULL, LABEL, NULL},
	{"mode", NULL, LABEL, NULL},
	{"hash", NULL, LABEL, NULL},
	{"state", NULL, ELSEWHERE, NULL},
	{"addresses", NULL, ELSEWHERE, NULL},
	{"inner_addresses", NULL, ELSEWHERE, NULL},
	{"epoch", "espalier_view_epoch", GAUGE, "Number of the view that this member follows."},
	{"publisher", "espalier_view_publisher", MEMBER, "Member that published the view, -1 if nobody did."},
	{"ingress", "espalier_view_ingress", MEMBER, "Member that answers ARP and neighbour discovery, -1 if nobody does."},
	{"held_back_by", "espalier_held_back_by", MEMBER, "Member that this one does not start beside, -1 if there is none."},
	{"buckets", "espalier_buckets", GAUGE, "Buckets that this member owns, of 4096."},
	{"sas", "espalier_sas", GAUGE, "SAs that live in the cluster."},
	{"policies", "espalier_policies", GAUGE, "Policies that live in the cluster."},
	{"max_sas", "espalier_records_limit", GAUGE, "SAs and policies that may live at a time (MaxSAs)."},
	{"ended_remembered", "espalier_ended_records", GAUGE, "SAs and policies that ended and are remembered."},
	{"ended_remembered_max", "espalier_ended_records_limit", GAUGE, "Those of them that there is room for."},
	{"missing", "espalier_missing_records", GAUGE, "SAs and policies that this member's kernel lacks."},
	{"barred", "espalier_barred_sas", GAUGE, "SAs that are shut here until they are rekeyed."},
	{"doubled", "espalier_doubled_members", LENGTH, "Members that are there twice."},
	{"handover_awaits", "espalier_handover_awaited_members", LENGTH, "Members that are not ready for a handover that is on."},
	{"pins", "espalier_pins", GAUGE, "Inbound SAs that do not belong to their bucket's owner."},
	{"local_sas", "espalier_local_sas", GAUGE, "SAs that cannot be copied to other members."},
	{"local_policies", "espalier_local_policies", GAUGE, "Policies that cannot be copied to other members."},
	{"forwarding", "espalier_forwarding_good", GOOD, "1 if this member can forward."},
	{"journal", "espalier_journal_good", GOOD, "1 if the journal can be written."},
	{"interfaces", "espalier_interfaces_good", GOOD, "1 if all interfaces are there under their names."},
	{"guard", "espalier_guarded_interfaces", GAUGE, "Interfaces that the guard is on."},
	{"unguarded", "espalier_unguarded_interfaces", LENGTH, "Interfaces that the guard should be on and is not."},
	{"unsteered", "espalier_unsteered_interfaces", LENGTH, "Interfaces that XDP should be on and is not."},
	{"blocks_entered", "espalier_blocks_entered_total", COUNTER, "Sequence blocks that this member entered."},
	{"takeovers", "espalier_takeovers_total", COUNTER, "Views that took a member out."},
	{"records_repaired", "espalier_records_repaired_total", COUNTER, "Records sent since a comparison found a difference."},
	{"records_lost", "espalier_records_lost_total", COUNTER, "Records that the kernel lacked without a word."},
	{"policies_kept", "espalier_policies_kept_total", COUNTER, "Policies put back, since living SAs need them."},
	{"esp_without_sa", "espalier_esp_without_sa_total", COUNTER, "SAs that ESP came for and this kernel lacked."},
	{"esp_without_sa_found", "espalier_esp_without_sa_found_total", COUNTER, "Those of them that another member had."},
	{"esp_without_sa_unknown", "espalier_esp_without_sa_unknown_total", COUNTER, "Those of them that nobody knew."},
	{"install_failed", "espalier_install_failures_total", COUNTER, "SAs and policies that this kernel refused."},
	{"records_refused", "espalier_records_refused_total", COUNTER, "SAs and policies not taken, for there was no room."},
	{"records_out_of_bounds", "espalier_records_out_of_bounds_total", COUNTER, "What members told and no honest member says."},
	{"malformed", "espalier_malformed_datagrams_total", COUNTER, "Datagrams of members that could not be read."},
	{"slept", "espalier_sleeps_total", COUNTER, "Times that the agent was not run for longer than others wait for it."},
	{"catching_up", NULL, ELSEWHERE, NULL},
	{"sync", NULL, ELSEWHERE, NULL},
	{"ike", NULL, ELSEWHERE, NULL},
	{"datapath", NULL, ELSEWHERE, NULL},
	END
};

static const struct metric of_catching_up[] = {
	{"records", "espalier_catching_up_records", GAUGE, "Records that this member has, while it catches up."},
	{"of", "espalier_catching_up_wanted_records", GAUGE, "Records that it is to have."},
	{"per_second", "espalier_catching_up_records_per_second", GAUGE, "Records that it gets in a second."},
	{"seconds_left", "espalier_catching_up_left_seconds", GAUGE, "How long that will go on, 0 if it is not known."},
	END
};

static const struct metric of_ike[] = {
	{"daemon", NULL, LABEL, NULL},
	{"ike_sas", "espalier_ike_sas", GAUGE, "IKE SAs that live in the cluster."},
	{"max_ike_sas", "espalier_ike_sas_limit", GAUGE, "IKE SAs that may live at a time (MaxIkeSAs)."},
	{"commits", "espalier_ike_commits_total", COUNTER, "IKE messages that were held until other members had their record."},
	{"hold_us_mean", NULL, ELSEWHERE, NULL},
	{"hold_us_most", NULL, ELSEWHERE, NULL},
	{"overdue", "espalier_ike_overdue_total", COUNTER, "IKE messages that were sent before other members had their record."},
	{"gives", "espalier_ike_gives_total", COUNTER, "IKE SAs that this member's daemon was given."},
	{"syncs", "espalier_ike_syncs_total", COUNTER, "Those of them whose Message IDs are to be agreed on anew."},
	{"releases", "espalier_ike_releases_total", COUNTER, "IKE SAs that this member's daemon handed over."},
	{"drops", "espalier_ike_drops_total", COUNTER, "IKE SAs that this member's daemon was told to forget."},
	{"unknown", "espalier_ike_unknown_total", COUNTER, "IKE SAs that were asked for and nobody has."},
	{"refused", "espalier_ike_refused_total", COUNTER, "Records of IKE SAs not taken, for there was no room."},
	END
};

static const struct metric of_sync[] = {
	{"carrier", NULL, LABEL, NULL},
	{"sent", "espalier_sync_sent_datagrams_total", COUNTER, "Datagrams of the sync channel that were sent."},
	{"sent_bytes", "espalier_sync_sent_bytes_total", COUNTER, "Bytes of them."},
	{"received", "espalier_sync_received_datagrams_total", COUNTER, "Datagrams of the sync channel that came in."},
	{"received_bytes", "espalier_sync_received_bytes_total", COUNTER, "Bytes of them."},
	{"foreign", "espalier_sync_foreign_datagrams_total", COUNTER, "Datagrams that are of no member."},
	{"rejected", "espalier_sync_rejected_datagrams_total", COUNTER, "Datagrams that are not authentic."},
	{"unsent", "espalier_sync_unsent_datagrams_total", COUNTER, "Datagrams that could not be sent."},
	{"handshakes", "espalier_sync_handshakes_total", COUNTER, "Handshakes with other members."},
	END
};

static const struct metric of_datapath[] = {
	{"outer", NULL, LABEL, NULL},
	{"inner", NULL, LABEL, NULL},
	{"sync", NULL, LABEL, NULL},
	{"inbound_counters", NULL, LABEL, NULL},
	{"inbound_counters_why", NULL, ELSEWHERE, NULL},
	{"spi_misses", NULL, LABEL, NULL},
	{"spi_misses_why", NULL, ELSEWHERE, NULL},
	{"nested_esp", NULL, LABEL, NULL},
	{"nested_esp_why", NULL, ELSEWHERE, NULL},
	{"spread_cpus", "espalier_spread_cpus", GAUGE, "CPUs that local ESP is spread over."},
	{"spread_cpus_why", NULL, ELSEWHERE, NULL},
	{"outer_ingress", NULL, LABEL, NULL},
	{"pin", NULL, LABEL, NULL},
	END
};

static const struct metric of_member[] = {
	{"member", NULL, ELSEWHERE, NULL},
	{"state", NULL, ELSEWHERE, NULL},
	{"sync_address", NULL, LABEL, NULL},
	{"self", NULL, LABEL, NULL},
	{"outer_hop", NULL, LABEL, NULL},
	{"inner_hop", NULL, LABEL, NULL},
	{"in_view", "espalier_member_in_view", GOOD, "1 if the member is in the view."},
	{"buckets", "espalier_member_buckets", GAUGE, "Buckets that the member owns, of 4096."},
	{"drained", "espalier_member_drained", GOOD, "1 if the member is to own nothing."},
	{"yields", "espalier_member_yields", GOOD, "1 if the member is to own something only if nobody else can."},
	{"differs", "espalier_member_settings_good", GOOD, "0 if the member has other settings, or another version."},
	{"records", "espalier_member_records", GAUGE, "Records in the member's kernel, as it last said."},
	{"synced", "espalier_member_synced", GOOD, "1 if we have all that the member has told."},
	{"session", "espalier_member_session", GOOD, "1 if there is a session with the member."},
	{"heard_ms_ago", "espalier_member_silence_seconds", MILLISECONDS, "How long ago the member was heard."},
	{"queued", "espalier_member_queued_records", GAUGE, "Records waiting to be sent to the member."},
	{"resent", "espalier_member_resent_total", COUNTER, "What was sent to the member once more."},
	END
};

static const struct metric of_sa[] = {
	{"seq", "espalier_sa_sequence", GAUGE, "Highest sequence number seen of the SA."},
	{"packets", "espalier_sa_packets_total", COUNTER, "Packets of an outbound SA that this member emitted."},
	{"owner", "espalier_sa_owner", MEMBER, "Member that owns the SA, -1 if nobody does."},
	{"installed", "espalier_sa_installed", GOOD, "1 if this kernel has the SA."},
	{"barred", "espalier_sa_barred", GOOD, "1 if the SA is shut here until it is rekeyed."},
	END
};
/* clang-format on */

/* In which a member may be, as status and members name them. */
static const char *const states[] = {"active", "standby", "starting", "leaving", "link-down",
	"draining", "drained", "unguarded", "unsteered", "doubled", "not-forwarding", "no-ike",
	"held-back", "other-settings", "disagrees", "no-session", "dead", NULL};

static struct json_object *ask(const struct agent *a, const char *what)
{
	char request[32];

	snprintf(request, sizeof(request), "%s", what);
	return control_answer(a, request);
}

static int64_t value_of(struct json_object *value, enum kind kind)
{
	const char *text = json_object_get_string(value);

	switch (kind) {
	case LENGTH:
		return (int64_t)json_object_array_length(value);
	case GOOD:
		return json_object_is_type(value, json_type_boolean)
			       ? json_object_get_boolean(value)
			       : strcmp(text, "good") == 0 || !*text;
	case MEMBER:
		return value ? json_object_get_int64(value) : -1;
	default: /* the guard's is in a sentence, in front */
		return (int64_t)strtoull(text ? text : "", NULL, 10);
	}
}

static void put_family(FILE *to, const struct metric *m)
{
	exposition_family(to, m->name, m->kind == COUNTER ? "counter" : "gauge", m->help);
}

static void put_value(
	FILE *to, const struct metric *m, struct json_object *o, const char *const *labels)
{
	struct json_object *value;

	if (!json_object_object_get_ex(o, m->key, &value))
		return;
	if (m->kind == MILLISECONDS)
		exposition_time(to, m->name, labels, 1000 * (uint64_t)value_of(value, m->kind));
	else
		exposition_number(to, m->name, labels, value_of(value, m->kind));
}

/* What the object has of them. */
static void put_object(FILE *to, const struct metric *list, struct json_object *o)
{
	for (const struct metric *m = list; m->key; m++) {
		if (!m->name || !json_object_object_get_ex(o, m->key, NULL))
			continue;
		put_family(to, m);
		put_value(to, m, o, NULL);
	}
}

/* A sample of 1 whose labels are the object's own, behind those given. */
static void put_info(FILE *to, const char *name, const struct metric *list, struct json_object *o,
	const char *key, const char *value)
{
	const char *labels[32] = {key, value};
	unsigned int n = key ? 2 : 0;
	struct json_object *text;

	for (const struct metric *m = list; m->key && n + 3 < sizeof(labels) / sizeof(*labels); m++)
		if (m->kind == LABEL && json_object_object_get_ex(o, m->key, &text)) {
			labels[n++] = m->key;
			labels[n++] = json_object_get_string(text);
		}
	exposition_number(to, name, labels, 1);
}

static void put_state(FILE *to, const char *name, struct json_object *o, const char *member)
{
	struct json_object *state = NULL;

	(void)json_object_object_get_ex(o, "state", &state);
	for (const char *const *s = states; *s; s++) {
		const char *const labels[] = {"state", *s, member ? "member" : NULL, member, NULL};

		exposition_number(to, name, labels, strcmp(json_object_get_string(state), *s) == 0);
	}
}

static void put_fences(FILE *to, struct json_object *status)
{
	exposition_family(to, "espalier_barred_sas_by_reason", "gauge",
		"SAs that are shut here, by why they are.");
	json_object_object_foreach(status, key, value)
	{
		const char *const labels[] = {"reason", key + strlen("barred_"), NULL};

		if (strncmp(key, "barred_", strlen("barred_")) == 0)
			exposition_number(to, "espalier_barred_sas_by_reason", labels,
				value_of(value, GAUGE));
	}
}

static void put_status(FILE *to, struct json_object *status)
{
	static const char *const version[] = {"version", ESPALIER_VERSION, NULL};
	struct json_object *o = NULL;

	exposition_family(to, "espalier_build_info", "gauge", "The version that runs.");
	exposition_number(to, "espalier_build_info", version, 1);
	exposition_family(to, "espalier_info", "gauge", "This member, and its cluster.");
	put_info(to, "espalier_info", of_status, status, NULL, NULL);
	exposition_family(to, "espalier_state", "gauge", "1 for the state that this member is in.");
	put_state(to, "espalier_state", status, NULL);
	put_object(to, of_status, status);
	put_fences(to, status);
	exposition_family(to, "espalier_catching_up", "gauge",
		"1 while this member lacks records that others have.");
	exposition_number(to, "espalier_catching_up", NULL,
		json_object_object_get_ex(status, "catching_up", &o));
	if (o)
		put_object(to, of_catching_up, o);
	if (json_object_object_get_ex(status, "sync", &o)) {
		exposition_family(to, "espalier_sync_info", "gauge", "The sync channel.");
		put_info(to, "espalier_sync_info", of_sync, o, NULL, NULL);
		put_object(to, of_sync, o);
	}
	if (json_object_object_get_ex(status, "ike", &o)) {
		exposition_family(to, "espalier_ike_info", "gauge", "The IKE daemon.");
		put_info(to, "espalier_ike_info", of_ike, o, NULL, NULL);
		put_object(to, of_ike, o);
	}
	if (json_object_object_get_ex(status, "datapath", &o)) {
		exposition_family(to, "espalier_datapath_info", "gauge", "The BPF programs.");
		put_info(to, "espalier_datapath_info", of_datapath, o, NULL, NULL);
		put_object(to, of_datapath, o);
	}
}

static const char *member_of(struct json_object *list, size_t i, struct json_object **ret)
{
	struct json_object *id = NULL;

	*ret = json_object_array_get_idx(list, i);
	(void)json_object_object_get_ex(*ret, "member", &id);
	return json_object_get_string(id);
}

static void put_members(FILE *to, struct json_object *list)
{
	size_t n = json_object_array_length(list);
	struct json_object *o;

	exposition_family(to, "espalier_member_info", "gauge", "A member, as this one sees it.");
	for (size_t i = 0; i < n; i++) {
		const char *id = member_of(list, i, &o);

		put_info(to, "espalier_member_info", of_member, o, "member", id);
	}
	exposition_family(
		to, "espalier_member_state", "gauge", "1 for the state that the member is in.");
	for (size_t i = 0; i < n; i++) {
		const char *id = member_of(list, i, &o);

		put_state(to, "espalier_member_state", o, id);
	}
	for (const struct metric *m = of_member; m->key; m++) {
		if (!m->name)
			continue;
		put_family(to, m);
		for (size_t i = 0; i < n; i++) {
			const char *const labels[] = {"member", member_of(list, i, &o), NULL};

			put_value(to, m, o, labels);
		}
	}
}

static void put_reasons(FILE *to, struct json_object *list)
{
	exposition_family(to, "espalier_packets_total", "counter",
		"Packets by what became of them (espalierctl reasons).");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i), *name, *packets;

		if (json_object_object_get_ex(o, "reason", &name) &&
			json_object_object_get_ex(o, "packets", &packets)) {
			const char *const labels[] = {"reason", json_object_get_string(name), NULL};

			exposition_number(
				to, "espalier_packets_total", labels, value_of(packets, COUNTER));
		}
	}
}

/* Under the names that all programs have for it. */
static void put_process(FILE *to)
{
	struct rusage used = {0};
	FILE *statm = fopen("/proc/self/statm", "re");
	char text[128] = "", *pages;

	(void)getrusage(RUSAGE_SELF, &used);
	exposition_family(to, "process_cpu_seconds_total", "counter", "CPU time that was used.");
	exposition_time(to, "process_cpu_seconds_total", NULL,
		(uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
			(uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
	if (!statm)
		return;
	/* the size, and how much of it is there */
	if (fgets(text, sizeof(text), statm) && (pages = strchr(text, ' '))) {
		exposition_family(to, "process_resident_memory_bytes", "gauge", "Memory in use.");
		exposition_number(to, "process_resident_memory_bytes", NULL,
			strtoll(pages, NULL, 10) * sysconf(_SC_PAGESIZE));
	}
	fclose(statm);
}

void metrics_put(FILE *to, const struct agent *a)
{
	const struct metrics_times *t = &a->metrics.times;
	struct json_object *o = ask(a, "status");

	put_status(to, o);
	json_object_put(o);
	o = ask(a, "members");
	put_members(to, o);
	json_object_put(o);
	o = ask(a, "reasons");
	put_reasons(to, o);
	json_object_put(o);
	exposition_histogram(to, "espalier_takeover_flip_seconds",
		"From the decision that a member is gone until its buckets are taken over.",
		&t->flip);
	exposition_histogram(to, "espalier_takeover_silence_seconds",
		"From when a member was heard last until its buckets are taken over.", &t->silence);
	exposition_histogram(to, "espalier_loop_seconds",
		"What the agent takes for what it finds to do, each time.", &t->loop);
	put_process(to);
}

static void put_sa(FILE *to, const struct metric *m, struct json_object *o)
{
	static const char *const names[] = {"protocol", "spi", "destination", "direction"};
	const char *labels[2 * 4 + 1] = {NULL};
	struct json_object *text;

	for (unsigned int i = 0; i < 4; i++) {
		labels[2 * i] = names[i];
		labels[2 * i + 1] = json_object_object_get_ex(o, names[i], &text)
					    ? json_object_get_string(text)
					    : "";
	}
	put_value(to, m, o, labels);
}

bool metrics_put_sas(FILE *to, const struct agent *a, unsigned int family, uint32_t *from)
{
	const struct metric *m = &of_sa[family];
	struct json_object *o, *list, *next;
	char request[32];

	if (family >= sizeof(of_sa) / sizeof(of_sa[0]) - 1)
		return false;
	if (*from == 0)
		put_family(to, m);
	snprintf(request, sizeof(request), "sa %u", *from);
	o = ask(a, request);
	*from = json_object_object_get_ex(o, "next", &next) ? (uint32_t)json_object_get_int64(next)
							    : 0;
	if (json_object_object_get_ex(o, "sas", &list))
		for (size_t i = 0; i < json_object_array_length(list); i++)
			put_sa(to, m, json_object_array_get_idx(list, i));
	json_object_put(o);
	return true;
}
