/* What the gateways' agents speak: Join, Report, Sync. An agent's token is tied to its gateway. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"
#include "server/service/door_wire.h"
#include "server/service/report_wire.h"
#include "server/service/service.h"

#define LINES_MAX 64

static struct gateway *gateway_of(struct services *services, const struct rpc_call *call)
{
	return gateway_find(services->core, rpc_call_principal(call)->gateway);
}

/* Only the connection that joined last may speak for the gateway. NULL: the call was failed. */
static struct gateway *joined_gateway(struct services *services, struct rpc_call *call)
{
	struct gateway *gateway = gateway_of(services, call);
	struct error err;
	if (gateway && gateway->joined && gateway->connection == rpc_call_connection(call))
		return gateway;
	error_set(&err, STATUS_FAILED_PRECONDITION,
		"this connection has not joined, or another one of the same gateway has since: "
		"connect and join");
	rpc_fail(call, &err);
	return NULL;
}

/* ---- Join ---- */

struct joining {
	struct gateway *gateway;
	struct rpc_call *call;
	uint64_t connection;
	struct gateway_record record;
};

static void on_joined(void *arg, uint64_t sequence, const struct error *err)
{
	struct joining *joining = arg;
	struct gateway *gateway = joining->gateway;
	Postern__V1__JoinReply reply = POSTERN__V1__JOIN_REPLY__INIT;
	struct error failure = *err;
	bool is_newest = gateway->connection == joining->connection;
	(void)sequence;
	if (!failure.status) {
		gateway->record = joining->record; /* on disk, whoever the connection belongs to */
		flows_check_boot(&gateway->flows);
	}
	if (!failure.status && !is_newest)
		error_set(&failure, STATUS_ABORTED, "another agent joined for this gateway");
	if (is_newest && failure.status)
		gateway->connection = 0;
	if (failure.status) {
		rpc_fail(joining->call, &failure);
	} else {
		gateway->joined = true;
		reply.gateway = gateway->record.name;
		reply.last_report = gateway->record.last_report;
		rpc_reply(joining->call, &reply.base);
	}
	free(joining);
}

/* As many whole items as fit, separated by new lines; control bytes of the peer become '?'. */
static void join_lines(char *to, size_t size, char **items, size_t count)
{
	size_t used = 0;
	to[0] = '\0';
	for (size_t i = 0; i < count && i < LINES_MAX; i++) {
		int n = snprintf(to + used, size - used, "%s%.200s", used ? "\n" : "", items[i]);
		if (n < 0 || (size_t)n >= size - used) {
			to[used] = '\0';
			return;
		}
		for (char *at = to + used + (used ? 1 : 0); *at; at++)
			if ((unsigned char)*at < 0x20 || *at == 0x7f)
				*at = '?';
		used += (size_t)n;
	}
}

static void describe(struct gateway *gateway, const Postern__V1__JoinRequest *input)
{
	copy_text(gateway->mode, sizeof gateway->mode, input->mode);
	copy_text(gateway->agent, sizeof gateway->agent, input->agent);
	copy_text(gateway->kernel, sizeof gateway->kernel, input->kernel);
	copy_text(gateway->renewal, sizeof gateway->renewal, input->renewal);
	externals_set_range(
		&gateway->externals, input->external_port_first, input->external_port_last);
	join_lines(gateway->addresses, sizeof gateway->addresses, input->addresses,
		input->n_addresses);
	join_lines(gateway->problems, sizeof gateway->problems, input->problems, input->n_problems);
}

static void add_entries(const struct gateway *gateway, const char *boot_id, struct store_txn *txn)
{
	const struct gateway_record *record = &gateway->record;
	struct entry entry;
	if (record->boot_id[0] && strcmp(record->boot_id, boot_id) != 0) {
		core_entry(&entry, ENTRY_GATEWAY_REBOOTED, "");
		copy_text(entry.gateway, sizeof entry.gateway, record->name);
		snprintf(entry.detail, sizeof entry.detail, "boot id %.60s, was %.60s", boot_id,
			record->boot_id);
		store_txn_entry(txn, &entry);
	}
	core_entry(&entry, ENTRY_GATEWAY_JOINED, record->name);
	copy_text(entry.gateway, sizeof entry.gateway, record->name);
	snprintf(entry.detail, sizeof entry.detail, "%.60s, mode %.15s", gateway->agent,
		gateway->mode);
	store_txn_entry(txn, &entry);
}

static enum status check_join(const struct gateway *gateway, const struct rpc_call *call,
	const Postern__V1__JoinRequest *input, struct error *err)
{
	if (!gateway)
		return error_reason(err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"the gateway of this token is not known any more");
	if (input->boot_id[0] == '\0' || strlen(input->boot_id) >= sizeof gateway->record.boot_id)
		return error_field(err, "boot_id", "boot_id: 1 to %zu bytes",
			sizeof gateway->record.boot_id - 1);
	if (input->instance[0] == '\0' ||
		strlen(input->instance) >= sizeof gateway->record.instance)
		return error_field(err, "instance", "instance: 1 to %zu bytes",
			sizeof gateway->record.instance - 1);
	if (gateway->connection == rpc_call_connection(call))
		return error_set(err, STATUS_FAILED_PRECONDITION,
			"this connection has joined: join once a connection");
	return STATUS_OK;
}

static void handle_join(Postern__V1__Agents_Service *service, const Postern__V1__JoinRequest *input,
	Postern__V1__JoinReply_Closure closure, void *data)
{
	struct services *services = SERVICES_OF(service, agents);
	struct gateway *gateway = gateway_of(services, data);
	struct joining *joining = calloc(1, sizeof *joining);
	struct store_txn *txn = joining ? core_decision(services->core) : NULL;
	struct error err = {0};
	(void)closure;
	if (!txn)
		(void)core_no_decision(&err);
	else
		(void)check_join(gateway, data, input, &err);
	if (err.status) {
		store_txn_free(txn);
		free(joining);
		rpc_fail(data, &err);
		return;
	}
	/* Two agents cannot hold one kernel table: the newer one is the one that lives. */
	gateway_joining(gateway, rpc_call_connection(data));
	describe(gateway, input);
	add_entries(gateway, input->boot_id, txn);
	*joining = (struct joining){.gateway = gateway,
		.call = data,
		.connection = gateway->connection,
		.record = gateway->record};
	if (strcmp(joining->record.instance, input->instance) != 0) {
		copy_text(
			joining->record.instance, sizeof joining->record.instance, input->instance);
		joining->record.last_report = 0;
	}
	copy_text(joining->record.boot_id, sizeof joining->record.boot_id, input->boot_id);
	joining->record.joined_us = clock_real_us();
	store_txn_put_gateway(txn, &joining->record);
	core_submit(services->core, txn, on_joined, joining);
}

/* ---- Report ---- */

static void on_reported(void *arg, uint64_t last_report, const struct error *err)
{
	struct rpc_call *call = arg;
	Postern__V1__ReportReply reply = POSTERN__V1__REPORT_REPLY__INIT;
	reply.last_report = last_report;
	if (!err->status) {
		rpc_reply(call, &reply.base);
		return;
	}
	/* Later reports must not be taken before these: the agent joins and sends all of them
	 * again. */
	rpc_call_disconnect(call, err);
	rpc_fail(call, err);
}

static void handle_report(Postern__V1__Agents_Service *service,
	const Postern__V1__ReportRequest *input, Postern__V1__ReportReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, agents);
	struct gateway *gateway = joined_gateway(services, data);
	struct batch *batch = NULL;
	struct error err = {0};
	(void)closure;
	if (!gateway)
		return;
	if (strcmp(input->instance, gateway->record.instance) != 0)
		error_field(&err, "instance", "instance: another one has joined");
	else
		(void)batch_from_wire(input, clock_real_us(), &batch, &err);
	if (err.status) {
		rpc_fail(data, &err);
		return;
	}
	batch->done = on_reported;
	batch->arg = data;
	inbox_put(gateway, batch);
}

/* ---- Sync ---- */

/* What one item needs besides the message. */
struct item_wire {
	struct door_wire doors[SYNC_DOORS_MAX];
	Postern__V1__Door *door_pointers[SYNC_DOORS_MAX];
	char removed[SYNC_REMOVED_MAX][ID_TEXT_SIZE], cut[SYNC_CUT_MAX][ID_TEXT_SIZE];
	char *removed_pointers[SYNC_REMOVED_MAX], *cut_pointers[SYNC_CUT_MAX];
	Postern__V1__Primary primaries[SYNC_PRIMARIES_MAX];
	Postern__V1__Primary *primary_pointers[SYNC_PRIMARIES_MAX];
	struct flow_wire primary_flows[SYNC_PRIMARIES_MAX];
	char sessions[SYNC_PRIMARIES_MAX][ID_TEXT_SIZE];
	char unwatched[SYNC_REMOVED_MAX][ID_TEXT_SIZE];
	char *unwatched_pointers[SYNC_REMOVED_MAX];
};

struct sync_stream {
	struct agent_link link;
	struct gateway *gateway;
	struct rpc_call *call;
};

static void primary_to_wire(const struct session_record *record, struct item_wire *wire, size_t i)
{
	Postern__V1__Primary *message = &wire->primaries[i];
	postern__v1__primary__init(message);
	id_format(&record->id, wire->sessions[i]);
	flow_to_wire(&record->primary, &wire->primary_flows[i]);
	message->session = wire->sessions[i];
	message->flow = &wire->primary_flows[i].message;
	wire->primary_pointers[i] = message;
}

static void primaries_to_wire(
	const struct sync_item *item, struct item_wire *wire, Postern__V1__SyncItem *message)
{
	for (size_t i = 0; i < item->primary_count; i++)
		primary_to_wire(&session_of_watch(item->primaries[i])->record, wire, i);
	for (size_t i = 0; i < item->primaries_removed_count; i++) {
		id_format(&session_of_watch(item->primaries_removed[i])->record.id,
			wire->unwatched[i]);
		wire->unwatched_pointers[i] = wire->unwatched[i];
	}
	message->n_primaries = item->primary_count;
	message->primaries = wire->primary_pointers;
	message->n_primaries_removed = item->primaries_removed_count;
	message->primaries_removed = wire->unwatched_pointers;
}

static bool stream_ready(void *arg)
{
	return rpc_credit(((struct sync_stream *)arg)->call) > 0;
}

static bool stream_send(void *arg, const struct sync_item *item)
{
	struct sync_stream *stream = arg;
	Postern__V1__SyncItem message = POSTERN__V1__SYNC_ITEM__INIT;
	struct item_wire *wire = malloc(sizeof *wire);
	if (!wire)
		return false;
	for (size_t i = 0; i < item->door_count; i++) {
		const struct grant *grant = grant_of_door(item->doors[i]);
		door_to_wire(&grant->record, grant_left_ms(grant), &wire->doors[i]);
		wire->door_pointers[i] = &wire->doors[i].message;
	}
	for (size_t i = 0; i < item->removed_count; i++) {
		id_format(&grant_of_door(item->removed[i])->record.id, wire->removed[i]);
		wire->removed_pointers[i] = wire->removed[i];
	}
	for (size_t i = 0; i < item->cut_count; i++) {
		id_format(&grant_of_cut(item->cut[i])->record.id, wire->cut[i]);
		wire->cut_pointers[i] = wire->cut[i];
	}
	message.revision = item->revision;
	message.n_cut = item->cut_count;
	message.cut = wire->cut_pointers;
	message.sequence = item->sequence;
	message.snapshot = item->snapshot;
	message.snapshot_end = item->snapshot_end;
	message.n_doors = item->door_count;
	message.doors = wire->door_pointers;
	message.n_removed = item->removed_count;
	message.removed = wire->removed_pointers;
	primaries_to_wire(item, wire, &message);
	bool sent = rpc_item(stream->call, &message.base) == STATUS_OK;
	free(wire);
	return sent;
}

static void stream_free(struct sync_stream *stream, enum status status, const char *why)
{
	struct error err;
	error_set(&err, status, "%s", why);
	rpc_fail(stream->call, &err);
	free(stream);
}

static void stream_end(void *arg, const char *why)
{
	struct sync_stream *stream = arg;
	struct error err;
	error_set(&err, STATUS_ABORTED, "%s", why);
	rpc_on_end(stream->call, NULL, NULL);
	rpc_call_disconnect(stream->call, &err);
	stream_free(stream, STATUS_ABORTED, why);
}

static void on_stream_credit(void *arg)
{
	gateway_pump(((struct sync_stream *)arg)->gateway);
}

static void on_stream_end(void *arg, enum status why)
{
	struct sync_stream *stream = arg;
	if (stream->gateway->link == &stream->link)
		gateway_lost(stream->gateway,
			why == STATUS_UNAVAILABLE ? "the connection to its agent ended"
						  : "its agent ended the stream");
	stream_free(stream, why, "the stream was ended");
}

static void handle_sync(Postern__V1__Agents_Service *service, const Postern__V1__SyncRequest *input,
	Postern__V1__SyncItem_Closure closure, void *data)
{
	struct gateway *gateway = joined_gateway(SERVICES_OF(service, agents), data);
	struct sync_stream *stream = NULL;
	struct error err = {0};
	(void)input;
	(void)closure;
	if (!gateway)
		return;
	if (gateway->link)
		error_set(&err, STATUS_FAILED_PRECONDITION,
			"this connection has its stream of doors already");
	else if (!(stream = calloc(1, sizeof *stream)))
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (err.status) {
		rpc_fail(data, &err);
		return;
	}
	stream->gateway = gateway;
	stream->call = data;
	stream->link = (struct agent_link){
		.arg = stream, .ready = stream_ready, .send = stream_send, .end = stream_end};
	rpc_on_end(data, on_stream_end, stream);
	rpc_on_credit(data, on_stream_credit, stream);
	gateway_attach(gateway, &stream->link);
}

void agents_service_init(struct services *services)
{
	Postern__V1__Agents_Service service = POSTERN__V1__AGENTS__INIT(handle_);
	services->agents = service;
}
