/* A GrantRequest made from the options of a command line, or of one line of a bundle. */
#ifndef POSTERN_CLI_GRANT_TERMS_H
#define POSTERN_CLI_GRANT_TERMS_H

#include "client/cli/args.h"
#include "common/id.h"
#include "postern/v1/grants.pb-c.h"

#define GRANT_LIFETIME_MAX_MS                                                                      \
	(7 * 24 * 3600 *                                                                           \
		1000ULL) /* the server's cap is lower; this only catches slips of the pen */
#define GRANT_REMOTES_MAX 16

struct grant_terms { /* points to itself and to the words of the command line */
	Postern__V1__GrantRequest request;
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE], external[ADDR_TEXT_SIZE];
	char remotes[GRANT_REMOTES_MAX][ADDR_TEXT_SIZE];
	char *remote_list[GRANT_REMOTES_MAX];
};

/* GRANT_OPTIONS of options.c; request_id, wait and reserve are the command's. */
enum status grant_terms_read(
	const struct args *args, struct grant_terms *ret_terms, struct error *err);
/* The server names the fields of a request, "remote_port: ..."; people are told the option that
 * filled it. Untouched when it names none, or one that no option fills. */
void grant_terms_name_option(const struct grant_terms *terms, struct error *err);
/* What --request-id says, or a new id. */
enum status grant_terms_id(
	const struct args *args, char ret_text[static ID_TEXT_SIZE], struct error *err);
enum status grant_terms_wait(
	const struct args *args, Postern__V1__Wait *ret_wait, struct error *err);

#endif
