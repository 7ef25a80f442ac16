/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/fits.h"

#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct search {
	char *ret;
	size_t size;
};

static void write_hex(const struct search *search, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len && 2 * i + 2 < search->size; i++)
		snprintf(search->ret + 2 * i, 3, "%02x", bytes[i]);
}

/* Notes are of words. */
static size_t in_words(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

static void read_notes(const struct search *search, const uint8_t *at, size_t len)
{
	const uint8_t *end = at + len;

	while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		const uint8_t *name = at + sizeof(*note), *value = name + in_words(note->n_namesz);

		if (value > end || (size_t)(end - value) < note->n_descsz)
			return;
		if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
			memcmp(name, "GNU", 4) == 0) {
			write_hex(search, value, note->n_descsz);
			return;
		}
		at = value + in_words(note->n_descsz);
	}
}

static int look_at(struct dl_phdr_info *info, size_t size, void *data)
{
	const char *base = strrchr(info->dlpi_name, '/');

	(void)size;
	if (strncmp(base ? base + 1 : info->dlpi_name, "libcharon.so", 12) != 0)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_NOTE)
			read_notes(data,
				(const uint8_t *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr),
				info->dlpi_phdr[i].p_memsz);
	return 1;
}

void fits_loaded(char *ret, size_t size)
{
	struct search search = {ret, size};

	*ret = '\0';
	dl_iterate_phdr(look_at, &search);
}
