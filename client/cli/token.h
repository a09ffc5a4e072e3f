/* The file that a new token is written to: made before the server is asked, so that a token is
 * never lost for want of a place. */
#ifndef POSTERN_CLI_TOKEN_H
#define POSTERN_CLI_TOKEN_H

#include "common/error.h"

struct token_file {
	char path[4096];
	int fd; /* -1 = none */
};

/* Creates the file (mode 0600) with room for a token; ALREADY_EXISTS when something has that name.
 */
enum status token_reserve(const char *path, struct token_file *ret_file, struct error *err);
/* Writes the token and makes it durable; the file stays. */
enum status token_keep(struct token_file *file, const char *token, struct error *err);
/* Removes the file unless token_keep() succeeded. */
void token_fini(struct token_file *file);

#endif
