/* SPDX-License-Identifier: BSD-2-Clause */
/* network.c - datagrams between members, as DTLS would let them through: late, lost or repeated,
 * never forged or old. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

#define SHAKE_US (4 * DEAD_US) /* of silence: then hands are shaken */

/* The machine of this member that `other` has an association with. */
static unsigned int associated(const struct world *w, unsigned int member, unsigned int other)
{
	if (!w->machines[CLONE].up || w->machines[CLONE].member != member || other >= w->members)
		return member;
	return w->associations[other].with_clone ? CLONE : member;
}

static uint32_t association(const struct world *w, unsigned int a, unsigned int b)
{
	return w->associations[w->machines[b].member == w->machines[CLONE].member ? a : b].number;
}

static struct datagram *take_free(struct world *w)
{
	struct datagram *d = w->free;

	if (d)
		w->free = d->next;
	else
		d = malloc(sizeof(*d));
	if (!d)
		abort();
	return d;
}

static void give_back(struct world *w, struct datagram *d)
{
	d->next = w->free;
	w->free = d;
}

static void fly(struct world *w, unsigned int from, unsigned int to, const void *bytes, size_t len)
{
	struct datagram *d = take_free(w);

	if (w->n_flying == w->flying_size) {
		w->flying_size = w->flying_size ? 2 * w->flying_size : 256;
		w->flying = realloc(w->flying, w->flying_size * sizeof(*w->flying));
	}
	if (!w->flying)
		abort();
	d->from = (uint8_t)from;
	d->association = association(w, from, to);
	d->from_boot = w->machines[from].boots;
	d->to_boot = w->machines[to].boots;
	d->len = (uint16_t)len;
	memcpy(d->bytes, bytes, len);
	w->flying[w->n_flying++] = (struct flying){
		.due_us = w->now_us + 100 + world_random(w, w->delay_us),
		.to = (uint8_t)to,
		.datagram = d,
	};
}

static void lost(struct world *w, unsigned int from, unsigned int to, const void *bytes, size_t len)
{
	struct reader r = {.at = bytes, .end = (const uint8_t *)bytes + len};
	struct wire_header h;

	if (wire_get_header(&r, &h) < 0 || !h.segment)
		return;
	w->lost_us[from][to][0] = w->lost_us[from][to][1];
	w->lost_us[from][to][1] = w->now_us;
}

void network_send(
	struct world *w, unsigned int from, unsigned int member, const void *bytes, size_t len)
{
	unsigned int to = associated(w, member, from);

	if (len > WIRE_MAX) {
		world_fail(w, "member %u sent a datagram of %zu bytes", from, len);
		return;
	}
	w->datagrams++;
	if (w->cut[from][to] || associated(w, w->machines[from].member, to) != from ||
		world_chance(w, w->loss)) {
		lost(w, from, to, bytes, len);
		return;
	}
	fly(w, from, to, bytes, len);
	if (world_chance(w, w->repeat))
		fly(w, from, to, bytes, len);
}

static void arrive(struct world *w, unsigned int id, const struct datagram *d)
{
	struct machine *to = &w->machines[id];

	if (w->cut[d->from][id] || !to->up || !to->agent || d->to_boot != to->boots ||
		d->association != association(w, d->from, id))
		return;
	/* What was sent before a restart is authentic until the next handshake is through. */
	if (d->from_boot < to->heard_boots[d->from])
		return;
	to->heard_boots[d->from] = d->from_boot;
	if (w->now_us > to->heard_us[d->from] + SILENCE_US)
		to->hears_since_us[d->from] = w->now_us;
	to->heard_us[d->from] = w->now_us;
	member_datagram(to->agent, w->machines[d->from].member, d->bytes, d->len, w->now_us);
}

/* Of the two machines of one member, the one that is not heard shakes hands anew; from then on the
 * other one is not. */
static void shake_hands(struct world *w)
{
	unsigned int member = w->machines[CLONE].member;

	for (unsigned int id = 0; id < w->members; id++) {
		unsigned int out = w->associations[id].with_clone ? member : CLONE;
		const struct machine *machine = &w->machines[out];

		if (id == member || w->now_us < w->associations[id].next_us || !machine->up ||
			!machine->agent || machine->frozen || !w->machines[id].agent ||
			w->machines[id].frozen || w->cut[out][id] || w->cut[id][out])
			continue;
		w->associations[id].with_clone = out == CLONE;
		w->associations[id].number++;
		w->associations[id].next_us = w->now_us + SHAKE_US + doubts_random(w, 1000000);
	}
}

/* What machines say of themselves beside the sync channel, which gets through to all on the link;
 * in some worlds where the channel does not, too. */
static void make_claims(struct world *w)
{
	for (unsigned int from = 0; from < MACHINES; from++) {
		struct machine *machine = &w->machines[from];

		if (!machine->up || !machine->agent || machine->frozen)
			continue;
		for (unsigned int to = 0; to < MACHINES; to++)
			if (w->machines[to].up && w->machines[to].agent &&
				!w->machines[to].frozen &&
				w->machines[to].member != machine->member &&
				(!w->cut[from][to] || w->claims_pass))
				member_claims(w->machines[to].agent, machine->member,
					member_claim(machine->agent), w->now_us);
	}
}

void network_run(struct world *w)
{
	uint32_t kept = 0, n = w->n_flying;

	if (w->machines[CLONE].up)
		shake_hands(w);
	if (w->now_us % CLAIMS_EVERY_US == 0)
		make_claims(w);
	for (uint32_t i = 0; i < n; i++) {
		const struct flying f = w->flying[i];

		if (f.due_us > w->now_us || w->machines[f.to].frozen) {
			w->flying[kept++] = f;
			continue;
		}
		arrive(w, f.to, f.datagram);
		give_back(w, f.datagram);
	}
	/* What was sent meanwhile stands behind. */
	for (uint32_t i = n; i < w->n_flying; i++)
		w->flying[kept++] = w->flying[i];
	w->n_flying = kept;
}

void network_free(struct world *w)
{
	for (uint32_t i = 0; i < w->n_flying; i++)
		give_back(w, w->flying[i].datagram);
	while (w->free)
		free(take_free(w));
	free(w->flying);
}
