/* SPDX-License-Identifier: BSD-2-Clause */
/* numbers.c - a set of numbers, most of them next to another one. */
#include <stdlib.h>

#include "world.h"

#define PAGE_BITS 12

struct page {
	uint64_t number; /* of the page */
	uint64_t bits[(1U << PAGE_BITS) / 64];
};

static void put_page(struct numbers *n, struct page *page)
{
	uint32_t i = (uint32_t)page->number & (n->size - 1);

	while (n->pages[i])
		i = (i + 1) & (n->size - 1);
	n->pages[i] = page;
}

static void more_pages(struct numbers *n)
{
	struct page **old = n->pages;
	uint32_t size = n->size;

	n->size = size ? 2 * size : 16;
	n->pages = calloc(n->size, sizeof(struct page *));
	if (!n->pages)
		abort();
	for (uint32_t i = 0; i < size; i++)
		if (old[i])
			put_page(n, old[i]);
	free(old);
}

static struct page *find_page(struct numbers *n, uint64_t number)
{
	uint32_t i = (uint32_t)number & (n->size - 1);

	if (n->page && n->page->number == number)
		return n->page;
	while (n->size && n->pages[i] && n->pages[i]->number != number)
		i = (i + 1) & (n->size - 1);
	if (n->size && n->pages[i])
		return n->page = n->pages[i];
	if (2 * n->used >= n->size)
		more_pages(n);
	n->page = calloc(1, sizeof(*n->page));
	if (!n->page)
		abort();
	n->page->number = number;
	n->used++;
	put_page(n, n->page);
	return n->page;
}

bool numbers_note(struct numbers *n, uint64_t seq)
{
	struct page *page = find_page(n, seq >> PAGE_BITS);
	uint64_t *bits = &page->bits[seq % (1U << PAGE_BITS) / 64];
	bool before = *bits >> seq % 64 & 1;

	*bits |= 1ULL << seq % 64;
	return before;
}

void numbers_free(struct numbers *n)
{
	for (uint32_t i = 0; i < n->size; i++)
		free(n->pages[i]);
	free(n->pages);
}
