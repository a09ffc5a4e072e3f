#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/service/grants.h"

/* A call that waits for a grant. */
struct waiting_call {
	struct rpc_call *call;
	struct waiter waiter;
};

static void reply_grant(struct rpc_call *call, const struct grant *grant)
{
	struct grant_wire wire;
	grant_to_wire(&grant->record, grant_left_ms(grant), &grant->timing, &wire);
	rpc_reply(call, &wire.reply.base);
}

static void on_answer(void *arg, const struct grant *grant, const struct error *err)
{
	struct waiting_call *waiting = arg;
	if (err->status)
		rpc_fail(waiting->call, err);
	else
		reply_grant(waiting->call, grant);
	free(waiting);
}

enum leaving leaving_of(enum status why, struct error *err)
{
	if (why == STATUS_DEADLINE_EXCEEDED) {
		error_reason(err, why, REASON_DEADLINE,
			"the gateway did not acknowledge the door before the deadline: it was "
			"withdrawn");
		return LEAVE_DEADLINE;
	}
	error_set(err, why, "the caller went away");
	return why == STATUS_CANCELLED ? LEAVE_CANCELLED : LEAVE_GONE;
}

/* The caller waits no more. */
static void on_request_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	struct error err;
	enum leaving leaving = leaving_of(why, &err);
	if (waiting->waiter.grant)
		id_format(&waiting->waiter.grant->record.id, err.grant);
	waiter_leave(&waiting->waiter, leaving);
	rpc_fail(waiting->call, &err);
	free(waiting);
}

/* NULL: the call was failed. */
static struct waiting_call *waiting_new(struct rpc_call *call, void (*on_end)(void *, enum status))
{
	struct waiting_call *waiting = call_state_new(call, sizeof *waiting, on_end);
	if (!waiting)
		return NULL;
	waiting->call = call;
	waiting->waiter.done = on_answer;
	waiting->waiter.arg = waiting;
	return waiting;
}

static void waiting_fail(struct waiting_call *waiting, const struct error *err)
{
	rpc_fail(waiting->call, err);
	free(waiting);
}

static void handle_request(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantRequest *input, Postern__V1__GrantReply_Closure closure, void *data)
{
	struct core *core = SERVICES_OF(service, grants)->core;
	struct grant_ask ask = grant_ask_of(core, data);
	struct waiting_call *waiting = waiting_new(data, on_request_end);
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	enum status status = grant_ask_from_wire(input, &ask, &err);
	if (!status)
		status = core_request(core, &ask, &waiting->waiter, &err);
	if (status)
		waiting_fail(waiting, &err);
}

bool may_see(const struct rpc_call *call, const struct grant_record *record)
{
	const struct rpc_principal *principal = rpc_call_principal(call);
	return principal->role != RPC_ROLE_FILTER || strcmp(record->filter, principal->name) == 0;
}

static enum status parse_id(const char *text, struct id *ret_id, struct error *err)
{
	if (id_parse(text, ret_id))
		return STATUS_OK;
	return error_field(err, "id", "id: \"%.60s\" is not a grant's id (UUID)", text);
}

/* A grant that is not in memory: it can be shown, and nothing else. */
struct lookup {
	struct rpc_call *call;
	bool show;
};

static void found_on_disk(
	void *arg, const struct grant_record *grants, size_t count, const struct error *err)
{
	struct lookup *lookup = arg;
	struct error failure = *err;
	struct grant_wire wire;
	if (!failure.status && (count == 0 || !may_see(lookup->call, &grants[0])))
		error_set(&failure, STATUS_NOT_FOUND, "no grant has this id");
	else if (!failure.status && !lookup->show)
		error_reason(&failure, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED,
			"the grant has already ended: %s",
			end_reason_name((enum end_reason)grants[0].reason));
	if (failure.status) {
		rpc_fail(lookup->call, &failure);
	} else {
		grant_to_wire(&grants[0], 0, NULL, &wire);
		rpc_reply(lookup->call, &wire.reply.base);
	}
	free(lookup);
}

static void look_up(
	struct services *services, struct rpc_call *call, const struct id *id, bool to_show)
{
	struct lookup *lookup = malloc(sizeof *lookup);
	struct store_grant_query query = {.id = *id, .limit = 1};
	if (!lookup) {
		struct error err;
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(call, &err);
		return;
	}
	*lookup = (struct lookup){.call = call, .show = to_show};
	store_read_grants(services->core->store, &query, found_on_disk, lookup);
}

/* The end is decided; only the gateway's acknowledgement may be missing. That flows were cut is
 * said when it is so. */
static void on_cancel_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	const struct grant *grant = waiting->waiter.grant;
	struct error err;
	error_set(&err, why, "the cancellation is under way: look at the grant again");
	if (grant && grant->end_committed && grant->record.cut)
		error_reason(&err, why, REASON_DEADLINE,
			"the grant has ended, but gateway %s has not said yet that its flows are "
			"cut: they will be when it is connected",
			grant->record.gateway);
	else if (why == STATUS_DEADLINE_EXCEEDED && grant && grant->end_committed)
		err.status = STATUS_OK;
	if (err.status)
		rpc_fail(waiting->call, &err);
	else
		reply_grant(waiting->call, grant);
	waiter_leave(&waiting->waiter, LEAVE_GONE);
	free(waiting);
}

/* The grant of a request whose answer the caller never got: it knows only the request's id. */
static struct grant *asked_for(
	const struct core *core, const struct rpc_call *call, const char *text, struct error *err)
{
	struct id request_id;
	struct grant *grant = NULL;
	if (id_parse(text, &request_id))
		grant = grant_find_request(core, rpc_call_principal(call)->name, &request_id);
	else
		error_field(err, "request_id", "request_id: \"%.60s\" is not a UUID", text);
	if (!grant && !err->status)
		error_set(err, STATUS_NOT_FOUND, "no live grant of yours has this request id");
	return grant;
}

static void cancel(struct core *core, struct rpc_call *call, struct grant *grant, bool cut)
{
	const char *caller = rpc_call_principal(call)->name;
	bool own = strcmp(grant->record.filter, caller) == 0;
	struct waiting_call *waiting = waiting_new(call, on_cancel_end);
	struct error err;
	if (waiting &&
		core_cancel(core, grant, own ? END_CANCELLED_BY_FILTER : END_REVOKED_BY_OPERATOR,
			caller, cut, &waiting->waiter, &err))
		waiting_fail(waiting, &err);
}

static void handle_cancel(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantCancelRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct core *core = services->core;
	bool by_request = input->id[0] == '\0' && input->request_id[0] != '\0';
	struct grant *grant = NULL;
	struct error err = {0};
	struct id id = {{0}};
	(void)closure;
	if (by_request)
		grant = asked_for(core, data, input->request_id, &err);
	else if (!parse_id(input->id, &id, &err))
		grant = grant_find(core, &id);
	if (err.status)
		rpc_fail(data, &err);
	else if (grant && may_see(data, &grant->record) && (grant->committed || by_request))
		cancel(core, data, grant, input->cut);
	else
		look_up(services, data, &id, false);
}

static void handle_show(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantShowRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct error err;
	struct id id;
	(void)closure;
	if (parse_id(input->id, &id, &err)) {
		rpc_fail(data, &err);
		return;
	}
	struct grant *grant = grant_find(services->core, &id);
	if (!grant || !may_see(data, &grant->record) || !grant->committed)
		look_up(services, data, &id, true);
	else
		reply_grant(data, grant);
}

/* ---- of a live grant: renewal, commitment ---- */

/* The caller's grant, by its id. NULL: the call was failed, or is. */
static struct grant *find_own(struct services *services, struct rpc_call *call, const char *text)
{
	struct error err;
	struct id id;
	if (parse_id(text, &id, &err)) {
		rpc_fail(call, &err);
		return NULL;
	}
	struct grant *grant = grant_find(services->core, &id);
	if (grant && may_see(call, &grant->record) && grant->committed)
		return grant;
	look_up(services, call, &id, false);
	return NULL;
}

/* The renewal is on disk, or on its way there; the gateway may not know yet. */
static void on_renewal_end(void *arg, enum status why)
{
	struct waiting_call *waiting = arg;
	const struct grant *grant = waiting->waiter.grant;
	bool known = grant && waiting->waiter.until == UNTIL_INSTALLED;
	struct error err;
	error_set(&err, why, "the renewal is under way: look at the grant again");
	if (why == STATUS_DEADLINE_EXCEEDED && known)
		reply_grant(waiting->call, grant);
	else
		rpc_fail(waiting->call, &err);
	waiter_leave(&waiting->waiter, LEAVE_GONE);
	free(waiting);
}

static void handle_renew(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantRenewRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct grant *grant = find_own(SERVICES_OF(service, grants), data, input->id);
	struct waiting_call *waiting = grant ? waiting_new(data, on_renewal_end) : NULL;
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	enum status status = STATUS_OK;
	if (input->lifetime_ms > LIFETIME_MAX_MS)
		status = error_field(&err, "lifetime_ms", "lifetime_ms: at most 366 days");
	if (!status)
		status = core_renew(grant, input->lifetime_ms, rpc_call_principal(data)->name,
			&waiting->waiter, &err);
	if (status)
		waiting_fail(waiting, &err);
}

static void handle_commit(Postern__V1__Grants_Service *service,
	const Postern__V1__GrantCommitRequest *input, Postern__V1__GrantReply_Closure closure,
	void *data)
{
	struct grant *grant = find_own(SERVICES_OF(service, grants), data, input->id);
	struct waiting_call *waiting = grant ? waiting_new(data, on_request_end) : NULL;
	struct error err;
	(void)closure;
	if (!waiting)
		return;
	waiting->waiter.until = until_from_wire(input->wait);
	if (core_commit(grant, rpc_call_principal(data)->name, rpc_call_deadline(data),
		    &waiting->waiter, &err))
		waiting_fail(waiting, &err);
}

void grants_service_init(struct services *services)
{
	Postern__V1__Grants_Service service = POSTERN__V1__GRANTS__INIT(handle_);
	services->grants = service;
}
