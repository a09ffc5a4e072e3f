/* Design.
 *
 *   OFF --ready--> JOINING --reply--> TELLING --inventory on disk--> SNAPSHOT --its end--> LIVE
 *    ^                |                  |                              |                   |
 *    +--lost----------+------------------+------------------------------+-------------------+
 *   JOINING <--after a pause-- WAITING <--a call or the stream failed, the connection stands--+
 *
 * TELLING sends the reports that were left and an inventory, up to its end. The stream of doors is
 * asked for when all that is on the server's disk: the snapshot's numbers then include it. Until
 * the snapshot is complete no report is sent, so that for each one the books know whether the
 * server's numbers include it (sync.c).
 *
 * Report calls are pipelined, the server handles them in order; APPLIED leaves at once. When the
 * connection is lost everything unacknowledged goes again with its old sequence, and the server
 * drops what it has. When the queue has overflowed and is empty again, another inventory makes good
 * what was dropped.
 *
 * Generated protobuf types stop here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>

#include "agent/agent.h"
#include "agent/item.h"
#include "agent/notify.h"
#include "agent/wire.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/version.h"
#include "proto/rpc/rpc.h"

#define REPORTS_A_CALL 256
#define FAILURES_A_CALL 1000 /* keeps the frame under the server's 1 MiB */
#define CALLS_MOST 8
#define SYNC_CREDIT 16
#define CALL_DEADLINE_MS 20000
#define PROBLEMS_MOST 16
#define PAUSE_FIRST_US 500000 /* before joining again; doubles, with jitter */
#define PAUSE_MOST_US 15000000

enum phase { PHASE_OFF, PHASE_JOINING, PHASE_TELLING, PHASE_SNAPSHOT, PHASE_LIVE, PHASE_WAITING };

struct link {
	struct agent *agent;
	struct rpc_client *rpc;
	enum phase phase;
	unsigned calls; /* with reports, under way */
	uint64_t inventory_end; /* sequence of INVENTORY_END */
	uint64_t sync_call; /* 0 = none */
	unsigned abandoned; /* streams that were cancelled and whose end is still to come */
	int64_t pause_us;
	struct loop_timer again;
	struct loop_task wake;
	bool wake_posted, stopping;
};

static void send_reports(struct link *link);
static void join(struct link *link);

static char *text(const char *from)
{
	return (char *)(uintptr_t)from;
}

/* ---- trying again on the same connection ---- */

static void on_again(void *arg)
{
	struct link *link = arg;
	if (link->phase == PHASE_WAITING)
		join(link);
}

static void pause_link(struct link *link)
{
	if (link->phase == PHASE_OFF || link->phase == PHASE_WAITING || link->stopping)
		return;
	link->phase = PHASE_WAITING;
	if (link->sync_call) {
		uint64_t call = link->sync_call;
		link->sync_call = 0;
		link->abandoned++;
		rpc_client_cancel(link->rpc, call);
	}
	link->pause_us = link->pause_us ? link->pause_us * 2 : PAUSE_FIRST_US;
	if (link->pause_us > PAUSE_MOST_US)
		link->pause_us = PAUSE_MOST_US;
	int64_t half = link->pause_us / 2;
	uint32_t random = 0;
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
		random = (uint32_t)clock_mono_us();
	int64_t pause = half + random % half;
	loop_timer_set(link->agent->loop, &link->again, clock_mono_us() + pause, on_again, link);
}

/* A failure that the loss of the connection explains is told by on_state. */
static bool is_loss(const struct error *err)
{
	return err->status == STATUS_CANCELLED || err->status == STATUS_UNAVAILABLE;
}

/* ---- reports ---- */

static void on_reported(void *arg, const ProtobufCMessage *message, const struct error *err);

static bool send_call(struct link *link, const struct report *const *reports, size_t count,
	struct wire_failures *failures)
{
	static struct wire_report wires[REPORTS_A_CALL]; /* one loop thread */
	Postern__V1__Report *messages[REPORTS_A_CALL];
	Postern__V1__ReportRequest request = POSTERN__V1__REPORT_REQUEST__INIT;
	struct rpc_call_options options = {.deadline_ms = CALL_DEADLINE_MS};
	struct error err;
	for (size_t i = 0; i < count; i++) {
		wire_write_report(reports[i], clock_mono_us(), &wires[i]);
		if (reports[i]->failure_count > 0)
			wire_write_failures(failures, reports[i], &wires[i].message);
		messages[i] = &wires[i].message;
	}
	request.instance = link->agent->instance;
	request.reports = messages;
	request.n_reports = count;
	if (rpc_client_call(link->rpc, &postern__v1__agents__descriptor, "Report", &request.base,
		    &options, on_reported, link, NULL, &err))
		return false;
	link->calls++;
	return true;
}

/* True: a call is under way with some of them. */
static bool send_some(struct link *link)
{
	struct reports *queue = &link->agent->reports;
	const struct report *reports[REPORTS_A_CALL];
	struct wire_failures failures;
	uint64_t last = link->phase == PHASE_TELLING ? link->inventory_end : UINT64_MAX;
	size_t count = 0, failure_count = 0;
	while (count < REPORTS_A_CALL && failure_count < FAILURES_A_CALL &&
		reports_take(queue, last, &reports[count], 1) == 1)
		failure_count += reports[count++]->failure_count;
	if (count == 0)
		return false;
	bool sent = wire_failures_init(&failures, failure_count) &&
		send_call(link, reports, count, &failures);
	wire_failures_fini(&failures);
	if (!sent) {
		reports_again(queue); /* the server drops what it has */
		pause_link(link);
	}
	return sent;
}

static void tell_inventory(struct link *link)
{
	agent_inventory(link->agent);
	link->inventory_end = link->agent->reports.next_sequence - 1;
}

static void send_reports(struct link *link)
{
	struct reports *queue = &link->agent->reports;
	if (link->phase == PHASE_LIVE && queue->dropped > 0 && queue->count == 0) {
		log_warn("link: %llu reports were dropped: an inventory makes them good",
			(unsigned long long)queue->dropped);
		tell_inventory(link);
	}
	while ((link->phase == PHASE_TELLING || link->phase == PHASE_LIVE) &&
		link->calls < CALLS_MOST && send_some(link))
		;
}

static void start_sync(struct link *link);

static void on_reported(void *arg, const ProtobufCMessage *message, const struct error *err)
{
	struct link *link = arg;
	const Postern__V1__ReportReply *reply = (const Postern__V1__ReportReply *)message;
	link->calls--;
	if (link->stopping)
		return;
	if (err->status) {
		if (!is_loss(err) && link->phase != PHASE_WAITING)
			log_warn("link: the server did not take reports: %s", err->text);
		reports_again(&link->agent->reports);
		pause_link(link);
		return;
	}
	reports_acknowledge(&link->agent->reports, reply->last_report);
	if (link->phase == PHASE_TELLING && reply->last_report >= link->inventory_end)
		start_sync(link);
	send_reports(link);
}

static void on_wake(void *arg)
{
	struct link *link = arg;
	link->wake_posted = false;
	send_reports(link);
}

void link_wake(struct link *link)
{
	if (!link || link->wake_posted || link->stopping || link->phase != PHASE_LIVE)
		return;
	link->wake_posted = true;
	loop_post(link->agent->loop, &link->wake, on_wake, link);
}

/* ---- the stream of doors ---- */

static bool take_item(struct link *link, const Postern__V1__SyncItem *message)
{
	struct item item;
	bool done = item_read(&item, message);
	if (item.nameless > 0)
		log_err("link: item %llu: %zu doors or primary connections without an id: left out",
			(unsigned long long)message->sequence, item.nameless);
	done = done && sync_apply(link->agent, &item.sync);
	item_fini(&item);
	return done;
}

static void on_item(void *arg, const ProtobufCMessage *message)
{
	struct link *link = arg;
	const Postern__V1__SyncItem *item = (const Postern__V1__SyncItem *)message;
	if (link->phase != PHASE_SNAPSHOT && link->phase != PHASE_LIVE)
		return;
	if (item->snapshot != (link->phase == PHASE_SNAPSHOT)) {
		log_err("link: item %llu is %s: joining again", (unsigned long long)item->sequence,
			item->snapshot ? "a second snapshot" : "a delta before the snapshot's end");
		pause_link(link);
		return;
	}
	if (!take_item(link, item)) {
		pause_link(link); /* a new snapshot makes it good */
		return;
	}
	if (link->phase == PHASE_SNAPSHOT && item->snapshot_end) {
		link->phase = PHASE_LIVE;
		link->pause_us = 0;
		notify_status("joined; serving %zu doors", doors_count(&link->agent->doors));
	}
	send_reports(link);
}

static void on_sync_end(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct link *link = arg;
	(void)reply;
	if (link->abandoned > 0) {
		link->abandoned--;
		return;
	}
	link->sync_call = 0;
	if (!is_loss(err) && !link->stopping)
		log_warn("link: the stream of doors ended: %s", err->text);
	pause_link(link);
}

static void start_sync(struct link *link)
{
	Postern__V1__SyncRequest request = POSTERN__V1__SYNC_REQUEST__INIT;
	struct rpc_call_options options = {.on_item = on_item, .credit = SYNC_CREDIT};
	struct error err;
	request.instance = link->agent->instance;
	sync_begin(link->agent);
	link->phase = PHASE_SNAPSHOT;
	if (rpc_client_call(link->rpc, &postern__v1__agents__descriptor, "Sync", &request.base,
		    &options, on_sync_end, link, &link->sync_call, &err)) {
		link->sync_call = 0;
		log_err("link: cannot ask for doors: %s", err.text);
		pause_link(link);
	}
}

/* ---- joining ---- */

static void on_joined(void *arg, const ProtobufCMessage *message, const struct error *err)
{
	struct link *link = arg;
	const Postern__V1__JoinReply *reply = (const Postern__V1__JoinReply *)message;
	if (link->phase != PHASE_JOINING || link->stopping)
		return;
	if (err->status) {
		if (!is_loss(err))
			log_err("link: the server does not let us join: %s", err->text);
		pause_link(link);
		return;
	}
	log_info("link: joined as gateway %s", reply->gateway);
	reports_rewind(&link->agent->reports);
	reports_acknowledge(&link->agent->reports, reply->last_report);
	link->phase = PHASE_TELLING;
	tell_inventory(link);
	send_reports(link);
}

static size_t split_lines(char *lines, char *pointers[], size_t most)
{
	size_t count = 0;
	while (*lines && count < most) {
		pointers[count++] = lines;
		lines += strcspn(lines, "\n");
		if (*lines)
			*lines++ = '\0';
	}
	return count;
}

static void join(struct link *link)
{
	struct agent *agent = link->agent;
	Postern__V1__JoinRequest request = POSTERN__V1__JOIN_REQUEST__INIT;
	struct rpc_call_options options = {.deadline_ms = CALL_DEADLINE_MS};
	char addresses[HOST_ADDRESSES_MOST][ADDR_TEXT_SIZE], problems[sizeof agent->problems];
	char *address_lines[HOST_ADDRESSES_MOST], *problem_lines[PROBLEMS_MOST];
	struct utsname host;
	struct error err;
	request.boot_id = agent->boot_id;
	request.instance = agent->instance;
	request.agent = text("postern-agent " POSTERN_VERSION);
	request.mode = text(agent->config->mode == AGENT_ENFORCE ? "enforce" : "overlay");
	if (uname(&host) == 0)
		request.kernel = host.release;
	request.n_addresses = host_addresses(addresses);
	for (size_t i = 0; i < request.n_addresses; i++)
		address_lines[i] = addresses[i];
	request.addresses = address_lines;
	memcpy(problems, agent->problems, sizeof problems);
	request.n_problems = split_lines(problems, problem_lines, PROBLEMS_MOST);
	request.problems = problem_lines;
	request.external_port_first = agent->config->external_port_first;
	request.external_port_last = agent->config->external_port_last;
	request.renewal = text(agent_renewal_name(agent));
	link->phase = PHASE_JOINING;
	if (rpc_client_call(link->rpc, &postern__v1__agents__descriptor, "Join", &request.base,
		    &options, on_joined, link, NULL, &err)) {
		log_err("link: cannot join: %s", err.text);
		pause_link(link);
	}
}

/* ---- the connection ---- */

static void on_state(void *arg, enum rpc_client_state state, const struct rpc_welcome *welcome,
	const struct error *err)
{
	struct link *link = arg;
	link->phase = PHASE_OFF;
	loop_timer_clear(link->agent->loop, &link->again);
	switch (state) {
	case RPC_CLIENT_READY:
		log_info("link: connected to %s as %s", welcome->server, welcome->principal);
		if (strcmp(welcome->role, rpc_role_name(RPC_ROLE_AGENT)) != 0)
			log_warn("link: the token is of role %s, not of an agent", welcome->role);
		join(link);
		return;
	case RPC_CLIENT_CONNECTING:
		log_warn("link: %s", err->text);
		notify_status("no server; serving the doors that the kernel holds");
		return;
	case RPC_CLIENT_CLOSED:
		return;
	}
}

enum status link_start(struct agent *agent, const struct agent_config *config, const char *token,
	struct link **ret_link, struct error *err)
{
	struct link *link = calloc(1, sizeof *link);
	if (!link)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	link->agent = agent;
	struct rpc_client_config rpc = {.loop = agent->loop,
		.limits = rpc_default_limits,
		.url = config->server,
		.token = token,
		.name = "postern-agent " POSTERN_VERSION,
		.ca_file = config->ca_file,
		.server_name = config->server_name,
		.reconnect = true,
		.arg = link,
		.on_state = on_state};
	enum status status = rpc_client_new(&rpc, &link->rpc, err);
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
	struct loop *loop = link->agent->loop;
	link->stopping = true;
	rpc_client_free(link->rpc);
	loop_timer_clear(loop, &link->again);
	while (link->wake_posted)
		loop_step(loop, 0);
	free(link);
}
