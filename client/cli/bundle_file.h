/* The grants of a bundle as people write them: a line each, in the options of 'grant request'. */
#ifndef POSTERN_CLI_BUNDLE_FILE_H
#define POSTERN_CLI_BUNDLE_FILE_H

#include <stddef.h>

#include "common/error.h"
#include "postern/v1/grants.pb-c.h"

#define BUNDLE_MAX 64 /* grants; the server's limit too */

struct bundle_file;

struct bundle_file *bundle_file_new(void); /* NULL when memory is out */
void bundle_file_free(struct bundle_file *file); /* accepts NULL */

/* Every line of the file; path NULL or "-" is standard input. Empty lines and comments are skipped;
 * errors begin with FILE:LINE and name the option. */
enum status bundle_file_read(struct bundle_file *file, const char *path, struct error *err);
/* One line; `place` is what errors begin with. */
enum status bundle_file_add(
	struct bundle_file *file, const char *line, const char *place, struct error *err);
/* Is there any grant? bundle_file_read asks itself. */
enum status bundle_file_check(
	const struct bundle_file *file, const char *source, struct error *err);
/* The server names a grant by its number, "grants[2].remote: ..."; people are told its place and
 * the option. */
void bundle_file_name_place(const struct bundle_file *file, struct error *err);
/* Fills in pointers that hold as long as the file does; returns how many. */
size_t bundle_file_grants(
	struct bundle_file *file, Postern__V1__GrantRequest *ret_grants[static BUNDLE_MAX]);

#endif
