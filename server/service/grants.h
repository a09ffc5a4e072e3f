/* What the files of the Grants service share. */
#ifndef POSTERN_SERVER_SERVICE_GRANTS_H
#define POSTERN_SERVER_SERVICE_GRANTS_H

#include "server/service/service.h"

#define LIFETIME_MAX_MS (366ULL * 86400 * 1000)

/* grant_request.c */
enum waiter_until until_from_wire(Postern__V1__Wait wait);
/* Whose request it is; the rest comes from grant_ask_from_wire(). */
struct grant_ask grant_ask_of(struct core *core, const struct rpc_call *call);
/* `ask` must not move afterwards: its record points into it, and into the message. */
enum status grant_ask_from_wire(
	const Postern__V1__GrantRequest *input, struct grant_ask *ask, struct error *err);
/* As many as the request has, each begun as a copy of `asker`; to be freed. NULL: `err` says why.
 */
struct grant_ask *bundle_asks_from_wire(
	const Postern__V1__BundleRequest *input, const struct grant_ask *asker, struct error *err);

/* grants_service.c: filters see and touch their own grants only. */
bool may_see(const struct rpc_call *call, const struct grant_record *record);
/* Why a caller who waits no more left, and what it hears: `err` is filled. */
enum leaving leaving_of(enum status why, struct error *err);

/* grant_list.c */
void handle_list(Postern__V1__Grants_Service *service, const Postern__V1__GrantListRequest *input,
	Postern__V1__GrantReply_Closure closure, void *data);
/* bundles.c */
void handle_request_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleRequest *input, Postern__V1__BundleReply_Closure closure,
	void *data);
void handle_cancel_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleCancelRequest *input, Postern__V1__BundleReply_Closure closure,
	void *data);

#endif
