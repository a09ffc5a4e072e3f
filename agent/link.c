/* The link to the server: Join, inventory, Sync, and reports until the server has them on disk.
 *
 *   READY -> Join -> (last_report: forget what is on disk) -> inventory queued -> reports flow ->
 * INVENTORY_END acknowledged -> Sync
 *
 * Sync waits for the inventory, so that the snapshot's numbers include it. Report calls are
 * pipelined (the server handles them in order); when the connection is lost everything
 * unacknowledged goes again with its old sequence. Generated protobuf types stop here. */
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include <systemd/sd-daemon.h>

#include "agent/agent.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/version.h"
#include "postern/v1/agents.pb-c.h"
#include "proto/rpc/rpc.h"

#define REPORTS_A_CALL 256
#define CALLS_MOST 8
#define GRANT_FLAG_BIDIRECTIONAL 16
#define ADDRESSES_MOST 32

struct link {
	struct agent *agent;
	struct rpc_client *rpc;
	bool joined, syncing, wake_posted;
	unsigned calls;
	uint64_t inventory_end; /* sequence of INVENTORY_END */
	struct loop_task wake;
};

static char *text(const char *from)
{
	return (char *)(uintptr_t)from;
}

/* ---- reports ---- */

struct report_wire {
	Postern__V1__Report message;
	Postern__V1__Flow flow;
	char grant[ID_TEXT_SIZE], client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE];
};

static void flow_to_wire(const struct tracked *flow, struct report_wire *wire)
{
	postern__v1__flow__init(&wire->flow);
	addr_format(&flow->client.addr, wire->client);
	addr_format(&flow->remote.addr, wire->remote);
	wire->flow.id = flow->id;
	wire->flow.client = wire->client;
	wire->flow.client_port = flow->client.port;
	wire->flow.remote = wire->remote;
	wire->flow.remote_port = flow->remote.port;
	wire->flow.transport = (Postern__V1__Transport)flow->transport;
	wire->flow.accounted = flow->accounted;
	wire->flow.packets_sent = flow->packets_sent;
	wire->flow.bytes_sent = flow->bytes_sent;
	wire->flow.packets_received = flow->packets_received;
	wire->flow.bytes_received = flow->bytes_received;
	wire->flow.duration_us = flow->duration_us;
	wire->message.flow = &wire->flow;
}

/* The failures of one APPLIED as messages; freed with the call. */
static Postern__V1__DoorFailure **failures_to_wire(
	const struct report *report, char (**ret_texts)[ID_TEXT_SIZE])
{
	size_t count = report->failure_count;
	Postern__V1__DoorFailure *messages = calloc(count, sizeof *messages);
	Postern__V1__DoorFailure **pointers = calloc(count, sizeof(Postern__V1__DoorFailure *));
	char(*texts)[ID_TEXT_SIZE] = calloc(count, sizeof *texts);
	if (!messages || !pointers || !texts) {
		free(messages);
		free(pointers);
		free(texts);
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		postern__v1__door_failure__init(&messages[i]);
		id_format(&report->failures[i].grant, texts[i]);
		messages[i].grant = texts[i];
		messages[i].cause = report->failures[i].cause;
		pointers[i] = &messages[i];
	}
	*ret_texts = texts;
	return pointers;
}

static void report_to_wire(const struct report *report, struct report_wire *wire)
{
	int64_t age = clock_mono_us() - report->at_us;
	postern__v1__report__init(&wire->message);
	wire->message.sequence = report->sequence;
	wire->message.kind = (Postern__V1__ReportKind)report->kind;
	wire->message.age_ms = age > 0 ? (uint64_t)age / 1000 : 0;
	wire->message.count = report->count;
	wire->message.sync_sequence = report->sync_sequence;
	wire->message.kernel_us = report->kernel_us;
	if (!id_is_zero(&report->grant)) {
		id_format(&report->grant, wire->grant);
		wire->message.grant = wire->grant;
	}
	if (report->flow.id)
		flow_to_wire(&report->flow, wire);
}

static void send_reports(struct link *link);
static void start_sync(struct link *link);

static void on_reported(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct link *link = arg;
	link->calls--;
	if (err->status) {
		if (err->status != STATUS_UNAVAILABLE && err->status != STATUS_CANCELLED)
			log_err("link: the server refused reports: %s", err->text);
		return; /* a lost connection: they go again after the next join */
	}
	reports_acknowledge(
		&link->agent->reports, ((const Postern__V1__ReportReply *)reply)->last_report);
	if (link->joined && !link->syncing && link->inventory_end &&
		((const Postern__V1__ReportReply *)reply)->last_report >= link->inventory_end)
		start_sync(link);
	send_reports(link);
}

static bool send_some(struct link *link)
{
	const struct report *reports[REPORTS_A_CALL];
	static struct report_wire wires[REPORTS_A_CALL]; /* one loop thread */
	Postern__V1__Report *messages[REPORTS_A_CALL];
	char(*texts[REPORTS_A_CALL])[ID_TEXT_SIZE];
	Postern__V1__ReportRequest request = POSTERN__V1__REPORT_REQUEST__INIT;
	struct error err;
	size_t count = reports_take(&link->agent->reports, reports, REPORTS_A_CALL);
	if (count == 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		report_to_wire(reports[i], &wires[i]);
		texts[i] = NULL;
		if (reports[i]->failure_count > 0)
			wires[i].message.failures = failures_to_wire(reports[i], &texts[i]);
		if (wires[i].message.failures)
			wires[i].message.n_failures = reports[i]->failure_count;
		messages[i] = &wires[i].message;
	}
	request.instance = link->agent->instance;
	request.reports = messages;
	request.n_reports = count;
	enum status status = rpc_client_call(link->rpc, &postern__v1__agents__descriptor, "Report",
		&request.base, NULL, on_reported, link, NULL, &err);
	for (size_t i = 0; i < count; i++) {
		if (wires[i].message.failures)
			free(wires[i].message.failures[0]);
		free(wires[i].message.failures);
		free(texts[i]);
	}
	if (status)
		return false;
	link->calls++;
	return true;
}

static void send_reports(struct link *link)
{
	while (link->joined && link->calls < CALLS_MOST && send_some(link))
		;
}

static void on_wake(void *arg)
{
	struct link *link = arg;
	link->wake_posted = false;
	send_reports(link);
}

void link_wake(struct link *link)
{
	if (link->wake_posted || !link->joined)
		return;
	link->wake_posted = true;
	loop_post(link->agent->loop, &link->wake, on_wake, link);
}

/* ---- sync ---- */

static bool door_from_wire(const Postern__V1__Door *message, struct door *ret_door)
{
	struct door door = {0};
	if (!id_parse(message->grant, &door.grant) || !addr_parse(message->client, &door.client) ||
		!addr_parse(message->remote, &door.remote.addr) || message->remote_port == 0 ||
		message->remote_port > UINT16_MAX ||
		door.client.family != door.remote.addr.family ||
		(message->transport != 6 && message->transport != 17))
		return false;
	door.remote.port = (uint16_t)message->remote_port;
	door.transport = (uint8_t)message->transport;
	door.oneway = message->transport == 17 && !(message->flags & GRANT_FLAG_BIDIRECTIONAL);
	door.timeout_ms = message->remaining_ms;
	door.max_connections = message->max_connections;
	door.connections = message->connections;
	*ret_door = door;
	return true;
}

static void on_item(void *arg, const ProtobufCMessage *message)
{
	struct link *link = arg;
	const Postern__V1__SyncItem *item = (const Postern__V1__SyncItem *)message;
	struct door *doors = calloc(item->n_doors + 1, sizeof *doors);
	struct id *removed = calloc(item->n_removed + 1, sizeof *removed);
	size_t door_count = 0, removed_count = 0;
	if (doors && removed) {
		for (size_t i = 0; i < item->n_doors; i++) {
			if (door_from_wire(item->doors[i], &doors[door_count]))
				door_count++;
			else
				log_err("link: a door of item %llu cannot be understood: left out",
					(unsigned long long)item->sequence);
		}
		for (size_t i = 0; i < item->n_removed; i++)
			removed_count += id_parse(item->removed[i], &removed[removed_count]);
		agent_sync(link->agent, item->sequence, item->snapshot, item->snapshot_end, doors,
			door_count, removed, removed_count);
	}
	free(doors);
	free(removed);
}

static void on_sync_end(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct link *link = arg;
	(void)reply;
	link->syncing = false;
	if (err->status != STATUS_CANCELLED)
		log_warn("link: the stream of doors ended: %s", err->text);
}

static void start_sync(struct link *link)
{
	Postern__V1__SyncRequest request = POSTERN__V1__SYNC_REQUEST__INIT;
	struct rpc_call_options options = {.on_item = on_item, .credit = 8};
	struct error err;
	request.instance = link->agent->instance;
	agent_snapshot_begin(link->agent);
	link->syncing =
		rpc_client_call(link->rpc, &postern__v1__agents__descriptor, "Sync", &request.base,
			&options, on_sync_end, link, NULL, &err) == STATUS_OK;
	if (!link->syncing)
		log_err("link: cannot ask for doors: %s", err.text);
}

/* ---- join ---- */

static void on_joined(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct link *link = arg;
	const Postern__V1__JoinReply *joined = (const Postern__V1__JoinReply *)reply;
	if (err->status) {
		if (err->status != STATUS_CANCELLED)
			log_err("link: the server does not let us join: %s", err->text);
		return;
	}
	log_info("link: joined as gateway %s", joined->gateway);
	sd_notifyf(0, "STATUS=joined as gateway %s", joined->gateway);
	reports_rewind(&link->agent->reports);
	reports_acknowledge(&link->agent->reports, joined->last_report);
	link->joined = true;
	agent_inventory(link->agent);
	link->inventory_end = link->agent->reports.next_sequence - 1;
	send_reports(link);
}

/* The host's own addresses, for people and for external addresses. Texts of `storage`. */
static size_t own_addresses(
	char storage[ADDRESSES_MOST][ADDR_TEXT_SIZE], char *pointers[ADDRESSES_MOST])
{
	struct ifaddrs *list = NULL;
	size_t count = 0;
	if (getifaddrs(&list) != 0)
		return 0;
	for (const struct ifaddrs *at = list; at && count < ADDRESSES_MOST; at = at->ifa_next) {
		struct endpoint endpoint;
		if (!at->ifa_addr || (at->ifa_flags & IFF_LOOPBACK) ||
			!endpoint_from_sockaddr(at->ifa_addr, &endpoint) ||
			!addr_is_forwardable(&endpoint.addr))
			continue;
		addr_format(&endpoint.addr, storage[count]);
		pointers[count] = storage[count];
		count++;
	}
	freeifaddrs(list);
	return count;
}

static void join(struct link *link)
{
	struct agent *agent = link->agent;
	Postern__V1__JoinRequest request = POSTERN__V1__JOIN_REQUEST__INIT;
	char storage[ADDRESSES_MOST][ADDR_TEXT_SIZE], problems[sizeof agent->problems];
	char *addresses[ADDRESSES_MOST], *lines[16];
	struct utsname host;
	struct error err;
	request.boot_id = agent->boot_id;
	request.instance = agent->instance;
	request.agent = text("postern-agent " POSTERN_VERSION);
	request.mode = text(agent->config->mode == AGENT_ENFORCE ? "enforce" : "overlay");
	if (uname(&host) == 0)
		request.kernel = host.release;
	request.n_addresses = own_addresses(storage, addresses);
	request.addresses = addresses;
	snprintf(problems, sizeof problems, "%s", agent->problems);
	for (char *at = problems; *at && request.n_problems < 16;) {
		lines[request.n_problems++] = at;
		at += strcspn(at, "\n");
		if (*at)
			*at++ = '\0';
	}
	request.problems = lines;
	if (rpc_client_call(link->rpc, &postern__v1__agents__descriptor, "Join", &request.base,
		    NULL, on_joined, link, NULL, &err))
		log_err("link: cannot join: %s", err.text);
}

static void on_state(void *arg, enum rpc_client_state state, const struct rpc_welcome *welcome,
	const struct error *err)
{
	struct link *link = arg;
	link->joined = false;
	link->inventory_end = 0;
	switch (state) {
	case RPC_CLIENT_READY:
		log_info("link: connected to %s", welcome->server);
		join(link);
		return;
	case RPC_CLIENT_CONNECTING:
		log_warn("link: %s", err->text);
		sd_notify(0, "STATUS=not connected; serving what the kernel holds");
		return;
	case RPC_CLIENT_CLOSED:
		return;
	}
}

enum status link_start(struct agent *agent, struct link **ret_link, struct error *err)
{
	char *token = NULL;
	enum status status = file_read_secret(agent->config->token_file, &token, err);
	if (status)
		return status;
	struct link *link = calloc(1, sizeof *link);
	if (!link) {
		file_free_secret(token);
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	}
	link->agent = agent;
	struct rpc_client_config config = {.loop = agent->loop,
		.limits = rpc_default_limits,
		.url = agent->config->server,
		.token = token,
		.name = "postern-agent " POSTERN_VERSION,
		.ca_file = agent->config->ca_file,
		.server_name = agent->config->server_name,
		.reconnect = true,
		.arg = link,
		.on_state = on_state};
	status = rpc_client_new(&config, &link->rpc, err);
	file_free_secret(token);
	if (status) {
		free(link);
		return status;
	}
	rpc_client_start(link->rpc);
	*ret_link = link;
	return STATUS_OK;
}

void link_stop(struct link *link)
{
	if (!link)
		return;
	link->joined = false;
	rpc_client_free(link->rpc);
	while (link->wake_posted)
		loop_step(link->agent->loop, 0);
	free(link);
}
