/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/link_facts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_before(
	const struct link_fact *fact, const struct address *address, unsigned int ifindex)
{
	int order = memcmp(&fact->address, address, sizeof(*address));

	return order < 0 || (order == 0 && fact->ifindex < ifindex);
}

size_t link_facts_find(
	const struct link_facts *f, const struct address *address, unsigned int ifindex)
{
	size_t low = 0, high = f->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (is_before(&f->all[middle], address, ifindex))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool link_facts_has(const struct link_facts *f, const struct address *address, unsigned int ifindex)
{
	size_t at = link_facts_find(f, address, ifindex);

	return at < f->count && memcmp(&f->all[at].address, address, sizeof(*address)) == 0 &&
	       (!ifindex || f->all[at].ifindex == ifindex);
}

int link_facts_set(struct link_facts *f, const struct link_fact *fact)
{
	size_t at = link_facts_find(f, &fact->address, fact->ifindex);

	if (link_facts_has(f, &fact->address, fact->ifindex)) {
		bool other = f->all[at].if_id != fact->if_id;

		f->all[at] = *fact;
		return other;
	}
	if (f->count == f->size) {
		size_t size = f->size ? 2 * f->size : 64;
		struct link_fact *all = reallocarray(f->all, size, sizeof(*all));

		if (!all)
			return -ENOMEM;
		f->all = all;
		f->size = size;
	}
	memmove(&f->all[at + 1], &f->all[at], (f->count - at) * sizeof(*f->all));
	f->all[at] = *fact;
	f->count++;
	return 1;
}

void link_facts_remove(struct link_facts *f, size_t at)
{
	f->count--;
	memmove(&f->all[at], &f->all[at + 1], (f->count - at) * sizeof(*f->all));
}

void link_facts_free(struct link_facts *f)
{
	free(f->all);
	*f = (struct link_facts){0};
}
