/* The RPC services: between generated messages and the core. The only files of the server that know
 * generated types. */
#ifndef POSTERN_SERVER_SERVICE_SERVICE_H
#define POSTERN_SERVER_SERVICE_SERVICE_H

#include "proto/rpc/rpc.h"
#include "server/core/core.h"
#include "server/core/grant.h"
#include "server/journal/wire.h"

#include "postern/v1/agents.pb-c.h"
#include "postern/v1/audit.pb-c.h"
#include "postern/v1/events.pb-c.h"
#include "postern/v1/feeds.pb-c.h"
#include "postern/v1/gateways.pb-c.h"
#include "postern/v1/grants.pb-c.h"
#include "postern/v1/policy.pb-c.h"
#include "postern/v1/revisions.pb-c.h"
#include "postern/v1/sessions.pb-c.h"

struct events;
struct uploads;

struct services {
	struct core *core;
	struct rpc_server *rpc;
	struct events *events;
	struct uploads *uploads;
	Postern__V1__Grants_Service grants;
	Postern__V1__Sessions_Service sessions;
	Postern__V1__Events_Service watch;
	Postern__V1__Gateways_Service gateways;
	Postern__V1__Agents_Service agents;
	Postern__V1__Policy_Service policy;
	Postern__V1__Audit_Service audit;
	Postern__V1__Revisions_Service revisions;
	Postern__V1__Feeds_Service feeds;
};

/* Fills every handler and registers the services; checks that access.c knows each method. */
enum status services_init(
	struct services *services, struct core *core, struct rpc_server *rpc, struct error *err);
void services_fini(struct services *services);

/* access.c: who may call what; every method of every service stands there. */
enum status access_check(
	const struct rpc_principal *principal, const char *method, struct error *err);
/* Every method has its row, and every row its method. */
enum status access_complete(
	const ProtobufCServiceDescriptor *const *services, size_t count, struct error *err);

void grants_service_init(struct services *services);
void sessions_service_init(struct services *services);
enum status events_service_init(struct services *services, struct error *err);
void events_service_fini(struct services *services);
void gateways_service_init(struct services *services);
void agents_service_init(struct services *services);
void policy_service_init(struct services *services);
void audit_service_init(struct services *services);
enum status revisions_service_init(struct services *services, struct error *err);
void revisions_service_fini(struct services *services);
void feeds_service_init(struct services *services);

/* What the handlers share. `data` is the struct rpc_call of a generated handler's closure_data. */
static inline bool is_admin(const struct rpc_call *call)
{
	return rpc_call_principal(call)->role == RPC_ROLE_ADMIN;
}
/* The member of struct services that embeds a generated service. */
#define SERVICES_OF(service, member)                                                               \
	((struct services *)((char *)(service)-offsetof(struct services, member)))
char *wire_text(const char *text);

/* outbox.c: a list of items, filled (in one go, or over several turns of the loop) and then sent as
 * credit allows. It watches the call's end from the beginning. */
struct outbox;
struct outbox *outbox_new(struct rpc_call *call); /* NULL: the call was failed */
void outbox_add(struct outbox *outbox, const ProtobufCMessage *item);
void outbox_send(struct outbox *outbox); /* takes it; ends the call */
void outbox_fail(struct outbox *outbox, const struct error *err); /* the same, with a failure */

struct grant_wire {
	Postern__V1__GrantReply reply;
	Postern__V1__Grant grant;
	Postern__V1__GrantTiming timing;
	char id[ID_TEXT_SIZE], session[ID_TEXT_SIZE], request_id[ID_TEXT_SIZE];
	char bundle[ID_TEXT_SIZE];
	struct remotes_wire remotes;
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE], external[ADDR_TEXT_SIZE];
};
/* Fails a call for want of memory. */
void fail_without_memory(struct rpc_call *call);
/* Zeroed memory for a call that is answered later; `on_end` gets it when nobody waits any more.
 * NULL: the call was failed. */
void *call_state_new(
	struct rpc_call *call, size_t size, void (*on_end)(void *arg, enum status why));
void grant_to_wire(const struct grant_record *record, uint64_t left_ms,
	const struct grant_timing *timing, struct grant_wire *ret_wire);

#endif
