/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * replication [--json] [--sas N] [--only PART] - a million SAs over two members on this machine:
 * how long it takes, what travels, what memory and CPU it costs; and a million rekeys over three.
 * Needs root.
 *
 * Each member is a process in a network namespace of its own, with the real core, sync channel
 * (DTLS over AF_XDP or UDP) and journal, run as the agent runs them. Only their kernels' SAs are
 * made up, and cost nothing.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication.h"

#define IDLE_MS 10000
#define BUSY_MS 5000
#define BUSY_COUNTERS 100000U /* a second */
#define LOST 1000U
#define REPAIRS 5U
#define CARRIER_ROUNDS 3U

/* What travelled both ways, heartbeats aside. */
static uint64_t bytes_of(const struct report r[MEMBERS])
{
	uint64_t sum = 0;

	for (unsigned int id = 0; id < MEMBERS; id++)
		sum += r[id].sent[STREAM].bytes + r[id].sent[ACKS].bytes;
	return sum;
}

static uint64_t heartbeat_bytes(const struct report r[MEMBERS])
{
	return r[0].sent[HEARTBEATS].bytes + r[1].sent[HEARTBEATS].bytes;
}

static void look(const struct cluster *c, struct report ret[MEMBERS])
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		ret[id] = cluster_report(c, id);
}

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

struct snapshot {
	double seconds, bytes, records, cpu[MEMBERS];
};

/* Member 1 joins. */
static struct snapshot take_snapshot(struct cluster *c)
{
	struct report before[MEMBERS], after[MEMBERS];
	struct snapshot s;

	look(c, before);
	cluster_join(c);
	cluster_wait_full(c);
	look(c, after);
	s.seconds = seconds(after[1].full_ns - after[1].connected_ns);
	s.bytes = (double)(bytes_of(after) - bytes_of(before));
	s.records = (double)(after[0].read - before[0].read);
	s.cpu[0] = seconds(after[0].cpu_ns - before[0].cpu_ns);
	s.cpu[1] = seconds(after[1].full_cpu_ns);
	return s;
}

static void tell_snapshot(const struct cluster *c, const struct snapshot *s)
{
	struct report r = cluster_report(c, 1);

	figure("snapshot_seconds_1m", "s", s->seconds,
		"a member joins: from its first session to %u SAs, by %s", c->sas, r.carrier);
	figure("snapshot_sas_per_second", "SAs/s", c->sas / s->seconds, "in the same");
	figure("snapshot_bytes_per_sa", "bytes", s->bytes / c->sas,
		"on the channel, both ways, with DTLS; %.2f times the SAs were sent",
		s->records / c->sas);
	figure("snapshot_cpu_sender", "s CPU", s->cpu[0], "of the member that has them");
	figure("snapshot_cpu_receiver", "s CPU", s->cpu[1], "of the member that joins");
}

/* Of the two the one that needs more. */
static void measure_memory(const struct cluster *c)
{
	double rss[MEMBERS], peak[MEMBERS];

	for (unsigned int id = 0; id < MEMBERS; id++) {
		struct report r = cluster_report(c, id);

		rss[id] = (double)r.rss / c->sas;
		peak[id] = (double)r.rss_peak / c->sas;
	}
	figure("resident_bytes_per_sa", "bytes", rss[0] > rss[1] ? rss[0] : rss[1],
		"of the process: core, journal, channel, counters, positions (owner %.0f, other "
		"%.0f)",
		rss[0], rss[1]);
	figure("resident_peak_bytes_per_sa", "bytes", peak[0] > peak[1] ? peak[0] : peak[1],
		"at its worst moment (owner %.0f, other %.0f)", peak[0], peak[1]);
}

static void measure_idle(struct cluster *c)
{
	struct report before[MEMBERS], after[MEMBERS];
	uint64_t rounds, rounds_ns, ns;
	double bytes;

	look(c, before);
	cluster_sleep(c, IDLE_MS);
	look(c, after);
	ns = after[0].ns - before[0].ns;
	rounds = after[0].rounds + after[1].rounds - before[0].rounds - before[1].rounds;
	rounds_ns =
		after[0].rounds_ns + after[1].rounds_ns - before[0].rounds_ns - before[1].rounds_ns;
	bytes = (double)(bytes_of(after) - bytes_of(before));
	figure("digest_bytes_1m", "bytes", bytes / (double)rounds,
		"one comparison that finds nothing, both ways (mean of %u)", (unsigned int)rounds);
	figure("digest_seconds_1m", "s", seconds(rounds_ns) / (double)rounds,
		"from the question to the answer");
	figure("idle_bytes_per_second", "B/s", bytes / seconds(ns),
		"%u idle SAs, both members: comparisons", c->sas);
	figure("heartbeat_bytes_per_second", "B/s",
		(double)(heartbeat_bytes(after) - heartbeat_bytes(before)) / seconds(ns),
		"heartbeats of both members, whatever there is");
	figure("idle_cpu", "CPU", seconds(after[0].cpu_ns - before[0].cpu_ns) / seconds(ns),
		"of the owner, all counters being read 10 times a second");
}

/* Nothing of what idle SAs cost is taken off. */
static void measure_busy(struct cluster *c)
{
	struct report before[MEMBERS], after[MEMBERS];
	double counters;

	cluster_order(c, 0, ORDER_MOVE, BUSY_COUNTERS / (1000000 / POSITIONS_EVERY_US));
	cluster_sleep(c, 1000);
	look(c, before);
	cluster_sleep(c, BUSY_MS);
	look(c, after);
	cluster_order(c, 0, ORDER_MOVE, 0);
	counters = (double)(after[0].told - before[0].told);
	figure("busy_bytes_per_counter", "bytes",
		(double)(bytes_of(after) - bytes_of(before)) / counters,
		"on the channel, both ways; %.0f inbound counters a second moved",
		counters / seconds(after[0].ns - before[0].ns));
	figure("busy_cpu_sender_100k", "s CPU",
		seconds(after[0].cpu_ns - before[0].cpu_ns) / counters * 1e5,
		"for 100,000 counters, of the owner");
	figure("busy_cpu_receiver_100k", "s CPU",
		seconds(after[1].cpu_ns - before[1].cpu_ns) / counters * 1e5,
		"of the other member");
}

static void measure_repair(struct cluster *c)
{
	double took[REPAIRS], bytes[REPAIRS], records[REPAIRS];

	for (unsigned int i = 0; i < REPAIRS; i++) {
		struct report before[MEMBERS], after[MEMBERS];

		cluster_settle(c);
		cluster_sleep(c, i * (REPAIR_US / 1000 / REPAIRS)); /* comparisons have a beat */
		look(c, before);
		cluster_order(c, 1, ORDER_LOSE, LOST);
		cluster_wait_full(c);
		look(c, after);
		took[i] = seconds(after[1].full_ns - after[1].lost_ns);
		bytes[i] = (double)(bytes_of(after) - bytes_of(before));
		records[i] = (double)(after[0].core.repaired - before[0].core.repaired);
	}
	figure("repair_seconds_1000", "s", median(took, REPAIRS),
		"%u records lost from a table: until they are back (median of %u)", LOST, REPAIRS);
	figure("repair_records_1000", "", median(records, REPAIRS), "records sent for it");
	figure("repair_bytes_1000", "bytes", median(bytes, REPAIRS),
		"on the channel, both ways, comparisons too");
}

/* Of all that has been measured with these members. */
static void measure_turns(const struct cluster *c)
{
	struct report r[MEMBERS];

	look(c, r);
	figure("longest_turn_owner", "ms", (double)r[0].turn_ns / 1e6,
		"of the owner's loop in all that (%.1f ms of CPU); %u ms of silence are death",
		(double)r[0].turn_cpu_ns / 1e6, DEAD * HEARTBEAT_US / 1000);
	figure("longest_turn_other", "ms", (double)r[1].turn_ns / 1e6,
		"of the other member's (%.1f ms of CPU)", (double)r[1].turn_cpu_ns / 1e6);
}

static void measure_large(uint32_t sas)
{
	struct cluster c;
	struct snapshot s;

	say("a snapshot of %u SAs", sas);
	cluster_start(&c, sas, true);
	s = take_snapshot(&c);
	tell_snapshot(&c, &s);
	say("waiting until all is settled");
	cluster_settle(&c);
	measure_memory(&c);
	say("idle, busy, losses");
	measure_idle(&c);
	measure_busy(&c);
	measure_repair(&c);
	measure_turns(&c);
	cluster_stop(&c);
}

/* By turns, so that what else the machine does meets both. */
static void measure_carriers(uint32_t sas)
{
	double rate[2][CARRIER_ROUNDS];

	for (unsigned int round = 0; round < CARRIER_ROUNDS; round++)
		for (unsigned int af_xdp = 0; af_xdp < 2; af_xdp++) {
			struct cluster c;
			struct snapshot s;

			say("a snapshot of %u SAs by %s", sas, af_xdp ? "AF_XDP" : "UDP");
			cluster_start(&c, sas, af_xdp);
			s = take_snapshot(&c);
			rate[af_xdp][round] = sas / (s.cpu[0] + s.cpu[1]);
			cluster_stop(&c);
		}
	figure("snapshot_af_xdp", "SAs/s", median(rate[1], CARRIER_ROUNDS),
		"by CPU second of both members, %u SAs (median of %u)", sas, CARRIER_ROUNDS);
	figure("snapshot_udp", "SAs/s", median(rate[0], CARRIER_ROUNDS), "the same by UDP");
	figure("af_xdp_over_udp_ratio", "x",
		median(rate[1], CARRIER_ROUNDS) / median(rate[0], CARRIER_ROUNDS),
		"the one over the other");
}

static void measure_fifth(uint32_t sas)
{
	measure_carriers(sas / 5 & ~1U);
}

static const struct {
	const char *name;
	void (*measure)(uint32_t sas);
} parts[] = {
	{"snapshot", measure_large},
	{"carriers", measure_fifth},
	{"readout", readout_measure},
	{"audit", audit_measure},
	{"churn", churn_measure},
};

static void measure(const char *only, uint32_t sas)
{
	unsigned int n = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (only && strcmp(only, parts[i].name) != 0)
			continue;
		parts[i].measure(sas);
		n++;
	}
	if (n == 0)
		die("there is no part \"%s\"", only);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"sas", required_argument, NULL, 'n'},
		{"only", required_argument, NULL, 'o'},
		{0},
	};
	unsigned long sas = 1000000;
	const char *only = NULL;
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'j')
			json = true;
		else if (option == 'o')
			only = optarg;
		else if (option == 'n')
			sas = strtoul(optarg, NULL, 10);
		else
			sas = 0;
	}
	if (sas < 10 * LOST || sas > 4000000 || optind < argc)
		die("usage: replication [--json] [--sas N] [--only PART], N from %u to 4000000, "
		    "PART snapshot, carriers, readout, audit, churn",
			10 * LOST);
	figures_begin(json);
	measure(only, (uint32_t)sas & ~1U);
	figures_end();
	return EXIT_SUCCESS;
}
