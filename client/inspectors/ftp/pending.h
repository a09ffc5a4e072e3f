/* The commands of one client that await their replies, in order: who asked for which reply. Pure.
 */
#ifndef POSTERN_FTP_PENDING_H
#define POSTERN_FTP_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/inspectors/ftp/command.h"

#define PENDING_RUNS 64
#define PENDING_LOCAL_MAX 16

/* A run of equal commands. */
struct pending_run {
	enum command_kind kind;
	const char *answer; /* not sent to the server: we owe this; NULL: it was sent */
	uint32_t count;
};

struct pending {
	struct pending_run runs[PENDING_RUNS]; /* ring */
	unsigned first, used;
	unsigned locals; /* commands we owe an answer */
	unsigned ports; /* PORT and EPRT that went to the server */
	bool preliminary; /* the first command's 1yz has come: its transfer runs */
};

/* `answer`: the line that we owe, for ever valid; NULL for a command that goes to the server. With
 * PENDING_LOCAL_MAX answers owed, no further one may be pushed. When the ring is full the oldest
 * command that went to the server is forgotten. */
void pending_push(struct pending *pending, enum command_kind kind, const char *answer);
bool pending_has(const struct pending *pending, enum command_kind kind);
/* The first command is one that we owe an answer. */
bool pending_first_is_local(const struct pending *pending, const char **ret_answer);
bool pending_first_is(const struct pending *pending, enum command_kind kind);
/* Removes the first command, whatever it is. */
void pending_pop(struct pending *pending);
/* The server's reply `code`, which is neither 227 nor 229 asked for, ended. */
void pending_answered(struct pending *pending, unsigned code);

#endif
