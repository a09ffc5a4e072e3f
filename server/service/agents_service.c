/* What the gateways' agents speak: Join, Report, Sync. An agent's token is tied to its gateway. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/service/service.h"

#define REPORTS_MAX 4096
#define AGE_MAX_MS (7ULL * 86400 * 1000)

static struct gateway *gateway_of(struct services *services, const struct rpc_call *call)
{
	return gateway_find(services->core, rpc_call_principal(call)->gateway);
}

/* Only the connection that joined last may speak for the gateway. */
static struct gateway *joined_gateway(struct services *services, struct rpc_call *call)
{
	struct gateway *gateway = gateway_of(services, call);
	struct error err;
	if (gateway && gateway->joined && gateway->connection == rpc_call_connection(call))
		return gateway;
	error_set(&err, STATUS_FAILED_PRECONDITION,
		"this connection has not joined, or another agent of the same gateway has: join "
		"first");
	rpc_fail(call, &err);
	return NULL;
}

/* ---- Join ---- */

struct joining {
	struct gateway *gateway;
	struct rpc_call *call;
	uint64_t connection;
};

static void joined(void *arg, uint64_t sequence, const struct error *err)
{
	struct joining *joining = arg;
	Postern__V1__JoinReply reply = POSTERN__V1__JOIN_REPLY__INIT;
	(void)sequence;
	if (err->status) {
		rpc_fail(joining->call, err);
	} else {
		if (joining->gateway->connection == joining->connection)
			joining->gateway->joined = true;
		reply.gateway = joining->gateway->record.name;
		reply.last_report = joining->gateway->record.last_report;
		rpc_reply(joining->call, &reply.base);
	}
	free(joining);
}

static void join_lines(char *to, size_t size, char **items, size_t count, char separator)
{
	size_t used = 0;
	to[0] = '\0';
	for (size_t i = 0; i < count && i < 64; i++) {
		int n = snprintf(
			to + used, size - used, "%.*s%.200s", i ? 1 : 0, &separator, items[i]);
		if (n < 0 || (size_t)n >= size - used) {
			to[used] = '\0';
			return;
		}
		used += (size_t)n;
	}
}

static void describe(struct gateway *gateway, const Postern__V1__JoinRequest *input)
{
	copy_text(gateway->mode, sizeof gateway->mode, input->mode);
	copy_text(gateway->agent, sizeof gateway->agent, input->agent);
	copy_text(gateway->kernel, sizeof gateway->kernel, input->kernel);
	join_lines(gateway->addresses, sizeof gateway->addresses, input->addresses,
		input->n_addresses, ',');
	join_lines(gateway->problems, sizeof gateway->problems, input->problems, input->n_problems,
		'\n');
}

static void add_joined_entries(struct gateway *gateway, const char *boot_id, struct store_txn *txn)
{
	struct entry entry;
	bool rebooted = gateway->record.boot_id[0] && strcmp(gateway->record.boot_id, boot_id) != 0;
	if (rebooted) {
		core_entry(&entry, ENTRY_GATEWAY_REBOOTED, "");
		copy_text(entry.gateway, sizeof entry.gateway, gateway->record.name);
		snprintf(entry.detail, sizeof entry.detail, "boot id %.60s, was %.60s", boot_id,
			gateway->record.boot_id);
		store_txn_entry(txn, &entry);
		flows_all_lost(gateway, "the gateway was rebooted", txn);
	}
	core_entry(&entry, ENTRY_GATEWAY_JOINED, gateway->record.name);
	copy_text(entry.gateway, sizeof entry.gateway, gateway->record.name);
	snprintf(entry.detail, sizeof entry.detail, "%.60s, mode %.15s", gateway->agent,
		gateway->mode);
	store_txn_entry(txn, &entry);
}

static void handle_join(Postern__V1__Agents_Service *service, const Postern__V1__JoinRequest *input,
	Postern__V1__JoinReply_Closure closure, void *data)
{
	struct services *services = SERVICES_OF(service, agents);
	struct rpc_call *call = data;
	struct gateway *gateway = gateway_of(services, call);
	struct error err = {0};
	struct joining *joining = NULL;
	struct store_txn *txn = NULL;
	(void)closure;
	if (!gateway)
		error_reason(&err, STATUS_NOT_FOUND, REASON_NO_SUCH_GATEWAY,
			"the gateway of this token is not known any more");
	else if (input->boot_id[0] == '\0' ||
		strlen(input->boot_id) >= sizeof gateway->record.boot_id ||
		input->instance[0] == '\0' ||
		strlen(input->instance) >= sizeof gateway->record.instance)
		error_field(&err, "boot_id", "boot_id and instance: one to 63 (39) bytes each");
	joining = err.status ? NULL : calloc(1, sizeof *joining);
	txn = joining ? store_txn_new_fact(services->core->store) : NULL;
	if (!err.status && !txn)
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
	if (err.status) {
		free(joining);
		rpc_fail(call, &err);
		return;
	}
	if (gateway->connection && gateway->connection != rpc_call_connection(call)) {
		/* Two agents cannot hold one kernel table: the newer one is the one that lives. */
		gateway_detach(gateway, "another agent joined for this gateway");
	}
	*joining = (struct joining){
		.gateway = gateway, .call = call, .connection = rpc_call_connection(call)};
	gateway->connection = joining->connection;
	gateway->joined = false;
	describe(gateway, input);
	add_joined_entries(gateway, input->boot_id, txn);
	if (strcmp(gateway->record.instance, input->instance) != 0) {
		copy_text(
			gateway->record.instance, sizeof gateway->record.instance, input->instance);
		gateway->record.last_report = 0;
	}
	copy_text(gateway->record.boot_id, sizeof gateway->record.boot_id, input->boot_id);
	gateway->record.joined_us = clock_real_us();
	store_txn_put_gateway(txn, &gateway->record);
	store_submit(services->core->store, txn, joined, joining);
}

/* ---- Report ---- */

struct reporting {
	struct rpc_call *call;
	uint64_t last;
};

static void reported(void *arg, uint64_t sequence, const struct error *err)
{
	struct reporting *reporting = arg;
	Postern__V1__ReportReply reply = POSTERN__V1__REPORT_REPLY__INIT;
	(void)sequence;
	if (err->status) {
		rpc_fail(reporting->call, err);
	} else {
		reply.last_report = reporting->last;
		rpc_reply(reporting->call, &reply.base);
	}
	free(reporting);
}

static void gateway_entry(struct gateway *gateway, enum entry_kind kind, uint64_t count,
	int64_t at_us, struct store_txn *txn)
{
	struct entry entry;
	core_entry(&entry, kind, gateway->record.name);
	copy_text(entry.gateway, sizeof entry.gateway, gateway->record.name);
	entry.count = count;
	entry.time_us = at_us;
	store_txn_entry(txn, &entry);
}

static void uses_missed(struct gateway *gateway, const struct id *id, uint64_t count, int64_t at_us,
	struct store_txn *txn)
{
	struct grant *grant = core_find_grant(gateway->core, id);
	struct entry entry;
	if (!grant || count == 0 || count > UINT32_MAX)
		return;
	grant_fill_entry(grant, ENTRY_USES_RECOVERED, &entry);
	entry.count = count;
	entry.time_us = at_us;
	store_txn_entry(txn, &entry);
	grant_used(grant, count, txn);
}

static void applied(struct gateway *gateway, const Postern__V1__Report *report)
{
	for (size_t i = 0; i < report->n_failures; i++) {
		struct id id;
		struct grant *grant = id_parse(report->failures[i]->grant, &id)
			? core_find_grant(gateway->core, &id)
			: NULL;
		if (grant && grant->gateway == gateway)
			grant_refused(grant, report->failures[i]->cause);
	}
	gateway_applied(gateway, report->sync_sequence, report->kernel_us);
}

/* One report into memory and transaction. False: it cannot be understood. */
static bool take_report(
	struct gateway *gateway, const Postern__V1__Report *report, struct store_txn *txn)
{
	struct id id = {{0}};
	struct flow flow = {0};
	uint64_t age = report->age_ms > AGE_MAX_MS ? AGE_MAX_MS : report->age_ms;
	int64_t at = clock_real_us() - (int64_t)age * 1000;
	bool needs_flow = report->kind == POSTERN__V1__REPORT_KIND__REPORT_KIND_FLOW_OPENED ||
		report->kind == POSTERN__V1__REPORT_KIND__REPORT_KIND_FLOW_CLOSED ||
		report->kind == POSTERN__V1__REPORT_KIND__REPORT_KIND_INVENTORY_FLOW;
	if (needs_flow &&
		(!id_parse(report->grant, &id) || !report->flow ||
			!flow_from_wire(report->flow, &flow) || flow.id == 0))
		return false;
	switch (report->kind) {
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_APPLIED:
		applied(gateway, report);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_FLOW_OPENED:
		flow_opened(gateway, &id, &flow, at, false, txn);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_FLOW_CLOSED:
		flow_closed(gateway, &id, &flow, at, txn);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_USES_MISSED:
		if (!id_parse(report->grant, &id))
			return false;
		uses_missed(gateway, &id, report->count, at, txn);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_INVENTORY_BEGIN:
		gateway->generation++;
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_INVENTORY_FLOW:
		flow_opened(gateway, &id, &flow, at, true, txn);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_INVENTORY_END:
		flows_inventory_end(gateway, txn);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_TABLE_REBUILT:
		gateway_entry(gateway, ENTRY_TABLE_REBUILT, report->count, at, txn);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_EVENTS_OVERRUN:
		gateway_entry(gateway, ENTRY_EVENTS_OVERRUN, report->count, at, txn);
		return true;
	case POSTERN__V1__REPORT_KIND__REPORT_KIND_UNSPECIFIED:
	case _POSTERN__V1__REPORT_KIND_IS_INT_SIZE:
		break;
	}
	return false;
}

static void handle_report(Postern__V1__Agents_Service *service,
	const Postern__V1__ReportRequest *input, Postern__V1__ReportReply_Closure closure,
	void *data)
{
	struct services *services = SERVICES_OF(service, agents);
	struct rpc_call *call = data;
	struct gateway *gateway = joined_gateway(services, call);
	struct error err = {0};
	(void)closure;
	if (!gateway)
		return;
	if (input->n_reports > REPORTS_MAX ||
		strcmp(input->instance, gateway->record.instance) != 0) {
		error_set(&err, STATUS_INVALID_ARGUMENT,
			"at most %d reports at once, of the instance that joined", REPORTS_MAX);
		rpc_fail(call, &err);
		return;
	}
	struct reporting *reporting = malloc(sizeof *reporting);
	struct store_txn *txn = reporting ? store_txn_new_fact(services->core->store) : NULL;
	if (!txn) {
		free(reporting);
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(call, &err);
		return;
	}
	for (size_t i = 0; i < input->n_reports; i++) {
		const Postern__V1__Report *one = input->reports[i];
		if (one->sequence <= gateway->record.last_report)
			continue; /* sent again: it is on disk or on its way */
		/* A report that makes no sense is passed over: it would make none the next time
		 * either. */
		(void)take_report(gateway, one, txn);
		gateway->record.last_report = one->sequence;
	}
	flows_forget(gateway);
	*reporting = (struct reporting){.call = call, .last = gateway->record.last_report};
	store_txn_report_position(
		txn, gateway->record.name, gateway->record.instance, gateway->record.last_report);
	store_submit(services->core->store, txn, reported, reporting);
}

/* ---- Sync ---- */

struct sync {
	struct agent_link link;
	struct gateway *gateway;
	struct rpc_call *call;
};

static bool sync_ready(void *arg)
{
	return rpc_credit(((struct sync *)arg)->call) > 0;
}

struct door_wire {
	Postern__V1__Door message;
	char grant[ID_TEXT_SIZE], client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE];
};

static void door_to_wire(const struct grant *grant, struct door_wire *wire)
{
	const struct grant_record *record = &grant->record;
	postern__v1__door__init(&wire->message);
	id_format(&record->id, wire->grant);
	addr_format(&record->client, wire->client);
	addr_format(&record->remote.addr, wire->remote);
	wire->message.grant = wire->grant;
	wire->message.client = wire->client;
	wire->message.remote = wire->remote;
	wire->message.remote_port = record->remote.port;
	wire->message.transport = (Postern__V1__Transport)record->transport;
	wire->message.max_connections = record->max_connections;
	wire->message.connections = record->connections;
	wire->message.remaining_ms = grant_left_ms(grant);
	wire->message.flags = record->flags;
}

static bool sync_send(void *arg, uint64_t sequence, bool snapshot, bool snapshot_end,
	struct grant *const *doors, size_t door_count, const struct id *removed,
	size_t removed_count)
{
	struct sync *sync = arg;
	Postern__V1__SyncItem item = POSTERN__V1__SYNC_ITEM__INIT;
	struct door_wire *wires = calloc(door_count ? door_count : 1, sizeof *wires);
	Postern__V1__Door **messages =
		calloc(door_count ? door_count : 1, sizeof(Postern__V1__Door *));
	char(*texts)[ID_TEXT_SIZE] = calloc(removed_count ? removed_count : 1, sizeof *texts);
	char **pointers = calloc(removed_count ? removed_count : 1, sizeof(char *));
	bool sent = false;
	if (wires && messages && texts && pointers) {
		for (size_t i = 0; i < door_count; i++) {
			door_to_wire(doors[i], &wires[i]);
			messages[i] = &wires[i].message;
		}
		for (size_t i = 0; i < removed_count; i++) {
			id_format(&removed[i], texts[i]);
			pointers[i] = texts[i];
		}
		item.sequence = sequence;
		item.snapshot = snapshot;
		item.snapshot_end = snapshot_end;
		item.n_doors = door_count;
		item.doors = messages;
		item.n_removed = removed_count;
		item.removed = pointers;
		sent = rpc_item(sync->call, &item.base) == STATUS_OK;
	}
	free(wires);
	free(messages);
	free(texts);
	free(pointers);
	return sent;
}

static void sync_credit(void *arg)
{
	gateway_flush(((struct sync *)arg)->gateway);
}

static void sync_over(void *arg, enum status why)
{
	struct sync *sync = arg;
	struct error err;
	if (sync->gateway->link == &sync->link)
		gateway_detach(sync->gateway,
			why == STATUS_UNAVAILABLE ? "the connection to its agent ended"
						  : "its agent ended the stream");
	error_set(&err, why, "the stream was ended");
	rpc_fail(sync->call, &err);
	free(sync);
}

static void handle_sync(Postern__V1__Agents_Service *service, const Postern__V1__SyncRequest *input,
	Postern__V1__SyncItem_Closure closure, void *data)
{
	struct services *services = SERVICES_OF(service, agents);
	struct gateway *gateway = joined_gateway(services, data);
	(void)input;
	(void)closure;
	if (!gateway)
		return;
	struct sync *sync = calloc(1, sizeof *sync);
	if (!sync) {
		struct error err;
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "the server is out of memory");
		rpc_fail(data, &err);
		return;
	}
	sync->gateway = gateway;
	sync->call = data;
	sync->link = (struct agent_link){.arg = sync, .ready = sync_ready, .send = sync_send};
	rpc_on_end(data, sync_over, sync);
	rpc_on_credit(data, sync_credit, sync);
	gateway_attach(gateway, &sync->link);
}

void agents_service_init(struct services *services)
{
	Postern__V1__Agents_Service service = POSTERN__V1__AGENTS__INIT(handle_);
	services->agents = service;
}
