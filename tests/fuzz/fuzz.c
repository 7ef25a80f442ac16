/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz.c - with FUZZ_SEEDS=FOLDER in its environment a fuzz target only writes its seeds there. */
#include "fuzz.h"

static const char *folder;
static unsigned int count;

void fuzz_seed(const void *data, size_t size)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/seed-%03u", folder, count++);
	file = fopen(path, "w");
	if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
		perror(path);
		exit(EXIT_FAILURE);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	folder = getenv("FUZZ_SEEDS");
	if (!folder)
		return 0;
	fuzz_seeds();
	exit(EXIT_SUCCESS);
}
