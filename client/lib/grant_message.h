/* A GrantRequest made from what the application wrote: the one place where connect and accept
 * become messages. */
#ifndef POSTERN_CLIENT_LIB_GRANT_MESSAGE_H
#define POSTERN_CLIENT_LIB_GRANT_MESSAGE_H

#include "client/lib/internal.h"
#include "postern/v1/grants.pb-c.h"

#define GRANT_REMOTES_MAX 16

struct grant_message { /* points to itself and to the application's strings */
	Postern__V1__GrantRequest wire; /* without request_id */
	char *remotes[GRANT_REMOTES_MAX];
};

/* What holds for the whole call. */
struct grant_terms {
	const char *request_id; /* NULL = none given */
	uint32_t deadline_ms;
	Postern__V1__Wait wait;
};

/* Refuses what would not survive the way to the server; all else is the server's to judge. */
enum status grant_message_init(struct grant_message *message,
	const struct postern_bundle_item *item, struct grant_terms *ret_terms, struct error *err);
/* The canonical form of what the application gave, or a new one. */
void grant_message_id(const struct grant_terms *terms, char *ret_text);

/* An error, and why, when the server's answer cannot be one. */
enum status grant_message_read(
	const Postern__V1__GrantReply *reply, struct postern_grant *ret_grant, struct error *err);
/* The same of a bundle; `expected` 0 = any number of grants. ret_bundle->grants = grants. */
enum status bundle_message_read(const Postern__V1__BundleReply *reply, size_t expected,
	struct postern_bundle *ret_bundle, struct postern_grant grants[static POSTERN_BUNDLE_MAX],
	struct error *err);

#endif
