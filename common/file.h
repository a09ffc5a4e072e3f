/* Small files read whole, and written so that a crash leaves the old or the new one. */
#ifndef POSTERN_COMMON_FILE_H
#define POSTERN_COMMON_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

/* NUL-terminated and malloc'd; refuses files over `cap` bytes. ret_size may be NULL. */
enum status file_read(
	const char *path, size_t cap, char **ret_text, size_t *ret_size, struct error *err);
/* Temporary file in the same folder, fsync, rename, fsync of the folder. Refuses to replace a file
 * unless `replace`. */
enum status file_write(const char *path, const void *bytes, size_t size, mode_t mode, int replace,
	struct error *err);
/* Reads a token file: one line, trailing white space removed; refuses files that others can read
 * (mode & 077 of a regular file) and says so. The caller wipes and frees with file_free_secret. */
enum status file_read_secret(const char *path, char **ret_secret, struct error *err);
void file_free_secret(char *secret); /* accepts NULL */

#endif
