/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/past.h"

#include <errno.h>
#include <stdlib.h>

#include "core/hash.h"

static uint32_t home(const struct pasts *p, uint64_t birth)
{
	return (uint32_t)hash_mix(birth) & (p->size - 1);
}

/* Its place, or the empty one where it would be. */
static uint32_t place_of(const struct pasts *p, uint64_t birth)
{
	uint32_t i = home(p, birth);

	while (p->all[i].used && p->all[i].birth != birth)
		i = (i + 1) & (p->size - 1);
	return i;
}

static int grow(struct pasts *p)
{
	struct pasts bigger = {.size = p->size ? 2 * p->size : 64, .n = p->n, .most = p->most};

	bigger.all = calloc(bigger.size, sizeof(*bigger.all));
	if (!bigger.all)
		return -ENOMEM;
	for (uint32_t i = 0; i < p->size; i++)
		if (p->all[i].used)
			bigger.all[place_of(&bigger, p->all[i].birth)] = p->all[i];
	free(p->all);
	*p = bigger;
	return 0;
}

int past_keep(struct pasts *p, const struct past *past)
{
	struct past *place;

	if (p->n >= p->most)
		return -ENOSPC;
	if (p->n + 1 > p->size / 4 * 3 && grow(p) < 0)
		return -ENOMEM;
	place = &p->all[place_of(p, past->birth)];
	p->n += !place->used;
	*place = *past;
	place->used = true;
	return 0;
}

bool past_has(const struct pasts *p, uint64_t birth)
{
	return p->n > 0 && p->all[place_of(p, birth)].used;
}

bool past_take(struct pasts *p, uint64_t birth, struct past *ret)
{
	uint32_t hole, i;

	if (p->n == 0)
		return false;
	hole = i = place_of(p, birth);
	if (!p->all[hole].used)
		return false;
	*ret = p->all[hole];
	/* What follows moves up, unless it would then be before its home. */
	for (;;) {
		uint32_t from;

		i = (i + 1) & (p->size - 1);
		if (!p->all[i].used)
			break;
		from = home(p, p->all[i].birth);
		if (((i - from) & (p->size - 1)) >= ((i - hole) & (p->size - 1))) {
			p->all[hole] = p->all[i];
			hole = i;
		}
	}
	p->all[hole].used = false;
	p->n--;
	return true;
}

void past_free(struct pasts *p)
{
	free(p->all);
	*p = (struct pasts){.most = p->most};
}
