/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fits.h - whether this is the charon for which the plugin was built. Its interface is private:
 * with another one, functions would not be where the plugin looks for them.
 */
#ifndef CHARON_FITS_H
#define CHARON_FITS_H

#include <stdbool.h>
#include <stddef.h>

#define BUILD_ID_MAX 41 /* of hexadecimal digits, and the NUL */

/* The build id of the libcharon that is loaded; an empty string: unknown. */
void fits_loaded(char *ret, size_t size);

#endif
