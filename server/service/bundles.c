/* Grants.RequestBundle and CancelBundle. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/core/bundle.h"
#include "server/service/grants.h"

/* A call that waits for a bundle. */
struct bundle_call {
	struct services *services;
	struct rpc_call *call;
	struct id bundle;
	bool cut; /* CancelBundle */
	bool reading; /* the read's callback ends it */
	struct bundle_waiter waiter;
};

static void call_free(struct bundle_call *call)
{
	bundle_waiter_fini(&call->waiter);
	free(call);
}

static void call_fail(struct bundle_call *call, const struct error *err)
{
	rpc_fail(call->call, err);
	call_free(call);
}

static void reply(struct bundle_call *call)
{
	const struct bundle_waiter *waiter = &call->waiter;
	Postern__V1__BundleReply message = POSTERN__V1__BUNDLE_REPLY__INIT;
	struct grant_wire *wires = calloc(waiter->count, sizeof *wires);
	Postern__V1__GrantReply *pointers[BUNDLE_MAX];
	char id[ID_TEXT_SIZE];
	if (!wires) {
		fail_without_memory(call->call);
		return;
	}
	for (size_t i = 0; i < waiter->count; i++) {
		const struct grant *grant = waiter->members[i].grant;
		grant_to_wire(&grant->record, grant_left_ms(grant), &grant->timing, &wires[i]);
		pointers[i] = &wires[i].reply;
	}
	id_format(&waiter->bundle, id);
	message.bundle = id;
	message.n_grants = waiter->count;
	message.grants = pointers;
	rpc_reply(call->call, &message.base);
	free(wires);
}

static void on_bundle(void *arg, struct bundle_waiter *waiter, const struct error *err)
{
	struct bundle_call *call = arg;
	(void)waiter;
	if (err->status) {
		call_fail(call, err);
		return;
	}
	reply(call);
	call_free(call);
}

/* NULL: the call was failed. */
static struct bundle_call *call_new(
	struct services *services, struct rpc_call *rpc, void (*on_end)(void *, enum status))
{
	struct bundle_call *call = call_state_new(rpc, sizeof *call, on_end);
	if (!call)
		return NULL;
	call->services = services;
	call->call = rpc;
	call->waiter.done = on_bundle;
	call->waiter.arg = call;
	return call;
}

static enum status parse_bundle(const char *text, struct id *ret_id, struct error *err)
{
	if (text[0] == '\0' || id_parse(text, ret_id))
		return STATUS_OK;
	return error_field(err, "bundle", "bundle: \"%.60s\" is not a UUID", text);
}

/* ---- RequestBundle ---- */

static void on_request_end(void *arg, enum status why)
{
	struct bundle_call *call = arg;
	struct error err;
	enum leaving leaving = leaving_of(why, &err);
	bundle_leave(&call->waiter, leaving);
	call_fail(call, &err);
}

void handle_request_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleRequest *input, Postern__V1__BundleReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct bundle_call *call = call_new(services, data, on_request_end);
	struct grant_ask *asks = NULL;
	struct error err;
	(void)closure;
	if (!call)
		return;
	struct grant_ask asker = grant_ask_of(services->core, data);
	enum status status = parse_bundle(input->bundle, &call->bundle, &err);
	if (!status) {
		asks = bundle_asks_from_wire(input, &asker, &err);
		status = asks ? STATUS_OK : err.status;
	}
	if (!status)
		status = core_request_bundle(
			services->core, &call->bundle, asks, input->n_grants, &call->waiter, &err);
	free(asks);
	if (status)
		call_fail(call, &err);
}

/* ---- CancelBundle ---- */

static void on_cancel_end(void *arg, enum status why)
{
	struct bundle_call *call = arg;
	struct error err;
	error_set(&err, why, "the cancellation is under way: look at the grants again");
	rpc_on_end(call->call, NULL, NULL);
	rpc_fail(call->call, &err);
	call->call = NULL;
	if (call->reading)
		return;
	bundle_leave(&call->waiter, LEAVE_GONE);
	call_free(call);
}

static void on_found(
	void *arg, const struct grant_record *grants, size_t count, const struct error *err)
{
	struct bundle_call *call = arg;
	struct error failure = *err;
	call->reading = false;
	if (!call->call) {
		call_free(call);
		return;
	}
	if (!failure.status && (count == 0 || !may_see(call->call, &grants[0])))
		error_set(&failure, STATUS_NOT_FOUND, "no bundle has this id");
	const char *caller = rpc_call_principal(call->call)->name;
	if (!failure.status) {
		bool own = strcmp(grants[0].filter, caller) == 0;
		(void)core_cancel_bundle(call->services->core, &call->bundle, grants[0].filter,
			own ? END_CANCELLED_BY_FILTER : END_REVOKED_BY_OPERATOR, caller, call->cut,
			&call->waiter, &failure);
	}
	if (failure.status)
		call_fail(call, &failure);
}

void handle_cancel_bundle(Postern__V1__Grants_Service *service,
	const Postern__V1__BundleCancelRequest *input, Postern__V1__BundleReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, grants);
	struct bundle_call *call = call_new(services, data, on_cancel_end);
	struct store_grant_query query = {.limit = BUNDLE_MAX};
	struct error err;
	(void)closure;
	if (!call)
		return;
	if (!id_parse(input->bundle, &call->bundle)) {
		error_field(&err, "bundle", "bundle: \"%.60s\" is not a bundle's id (UUID)",
			input->bundle);
		call_fail(call, &err);
		return;
	}
	call->cut = input->cut;
	call->reading = true;
	query.bundle = call->bundle;
	if (rpc_call_principal(data)->role == RPC_ROLE_FILTER)
		copy_text(query.filter, sizeof query.filter, rpc_call_principal(data)->name);
	store_read_grants(services->core->store, &query, on_found, call);
}
