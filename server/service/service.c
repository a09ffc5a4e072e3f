#include "server/service/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *wire_text(const char *text)
{
	return (char *)(uintptr_t)text;
}

static char *id_text(const struct id *id, char text[static ID_TEXT_SIZE])
{
	text[0] = '\0';
	if (!id_is_zero(id))
		id_format(id, text);
	return text;
}

void grant_to_wire(const struct grant_record *record, uint64_t left_ms,
	const struct grant_timing *timing, struct grant_wire *ret_wire)
{
	Postern__V1__Grant *grant = &ret_wire->grant;
	postern__v1__grant_reply__init(&ret_wire->reply);
	postern__v1__grant__init(grant);
	postern__v1__grant_timing__init(&ret_wire->timing);
	ret_wire->reply.grant = grant;
	if (timing) {
		ret_wire->reply.timing = &ret_wire->timing;
		ret_wire->timing.decide_us = timing->decide_us;
		ret_wire->timing.commit_us = timing->commit_us;
		ret_wire->timing.push_us = timing->push_us;
		ret_wire->timing.kernel_us = timing->kernel_us;
	}
	addr_format(&record->client, ret_wire->client);
	addr_format(&record->remote.addr, ret_wire->remote);
	addr_format(&record->external.addr, ret_wire->external);
	grant->id = id_text(&record->id, ret_wire->id);
	grant->session = id_text(&record->session, ret_wire->session);
	grant->request_id = id_text(&record->request_id, ret_wire->request_id);
	grant->state = (Postern__V1__GrantState)record->state;
	grant->reason = (Postern__V1__EndReason)record->reason;
	grant->gateway = wire_text(record->gateway);
	grant->filter = wire_text(record->filter);
	grant->client = ret_wire->client;
	grant->remote = ret_wire->remote;
	grant->remote_port = record->remote.port;
	grant->transport = (Postern__V1__Transport)record->transport;
	grant->flags = record->flags;
	grant->protocol = wire_text(record->protocol);
	grant->external = ret_wire->external;
	grant->external_port = record->external.port;
	grant->notify = record->notify;
	grant->context.data = record->context;
	grant->context.len = record->context_size;
	grant->lifetime_ms = record->lifetime_ms;
	grant->left_ms = left_ms;
	grant->max_connections = record->max_connections;
	grant->connections = record->connections;
	grant->created_us = record->created_us;
	grant->ended_us = record->ended_us;
	grant->rule = wire_text(record->rule);
	grant->direction = record->inbound ? POSTERN__V1__DIRECTION__DIRECTION_INBOUND
					   : POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND;
	grant->client_port = record->client_port;
	grant->n_remotes =
		remotes_to_wire(record->remotes, record->remote_count, &ret_wire->remotes);
	grant->remotes = ret_wire->remotes.pointers;
	grant->remote_port_last = record->remote_port_last;
	grant->bundle = id_text(&record->bundle, ret_wire->bundle);
	grant->lifetime_clamped = record->clamped;
	grant->renewals = record->renewals;
	grant->revision = record->revision;
	grant->user = wire_text(record->user);
	grant->site_rule = wire_text(record->site_rule);
}

void fail_without_memory(struct rpc_call *call)
{
	struct error err;
	error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	rpc_fail(call, &err);
}

void *call_state_new(struct rpc_call *call, size_t size, void (*on_end)(void *arg, enum status why))
{
	void *state = calloc(1, size);
	if (state)
		rpc_on_end(call, on_end, state);
	else
		fail_without_memory(call);
	return state;
}

enum status services_init(
	struct services *services, struct core *core, struct rpc_server *rpc, struct error *err)
{
	memset(services, 0, sizeof *services);
	services->core = core;
	services->rpc = rpc;
	grants_service_init(services);
	sessions_service_init(services);
	gateways_service_init(services);
	agents_service_init(services);
	policy_service_init(services);
	audit_service_init(services);
	feeds_service_init(services);
	enum status status = events_service_init(services, err);
	if (!status)
		status = revisions_service_init(services, err);
	ProtobufCService *all[] = {&services->grants.base, &services->sessions.base,
		&services->watch.base, &services->gateways.base, &services->agents.base,
		&services->policy.base, &services->audit.base, &services->revisions.base,
		&services->feeds.base};
	const ProtobufCServiceDescriptor *types[sizeof all / sizeof *all];
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		types[i] = all[i]->descriptor;
	if (!status)
		status = access_complete(types, sizeof types / sizeof *types, err);
	for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++)
		status = rpc_server_add(rpc, all[i], err);
	return status;
}

void services_fini(struct services *services)
{
	events_service_fini(services);
	revisions_service_fini(services);
}
