/* A scripted agent for the tests of the whole server: it joins, takes doors, acknowledges and
 * reports what the test says. */
#ifndef POSTERN_TESTS_UNIT_SERVER_FAKE_AGENT_H
#define POSTERN_TESTS_UNIT_SERVER_FAKE_AGENT_H

#include "tests/unit/server/world.h"

#define AGENT_DOORS_MAX 1024
#define AGENT_PRIMARIES_MAX 1024
#define REPORT(kind) POSTERN__V1__REPORT_KIND__REPORT_KIND_##kind

struct fake_door {
	char grant[ID_TEXT_SIZE];
	char client[46], remote[46], external[46];
	char remotes[16][46];
	size_t remote_count;
	bool inbound;
	uint32_t port, port_last, client_port, external_port;
	unsigned told; /* times */
	uint64_t max_connections, connections, remaining_ms;
};

struct fake_agent {
	struct world *world;
	struct rpc_client *client;
	const char *name, *boot_id;
	char instance[ID_TEXT_SIZE];
	uint64_t reported, acknowledged; /* sequences */
	struct fake_door doors[AGENT_DOORS_MAX], building[AGENT_DOORS_MAX];
	size_t door_count, building_count;
	uint64_t item; /* newest one received */
	uint64_t revision; /* that the items named last */
	unsigned items, snapshots, stream_ends, reports_under_way, reports_failed;
	bool holds_acks; /* does not acknowledge items by itself */
	const char *refuses; /* cause: every new door fails */
	const char *refuses_grant; /* only this one */
	uint32_t port_in_use; /* external port that a program of the gateway has */
	uint32_t first_port, last_port; /* what it offers */
	char cut[64][ID_TEXT_SIZE]; /* grants whose flows it was told to end */
	size_t cut_count;
	size_t largest_item; /* most doors of one delta */
	char primaries[AGENT_PRIMARIES_MAX][ID_TEXT_SIZE]; /* sessions */
	size_t primary_count;
	char primary[160]; /* the newest one: "6 10.77.1.2:40000 10.77.2.2:21" */
	bool knows_no_primary; /* conntrack has none of them */
	bool (*conntrack_has)(const Postern__V1__Flow *primary); /* NULL = all of them */
	struct error stream_err;
};

struct fake_flow {
	const char *grant;
	uint64_t id;
};

static inline void fake_reported(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct fake_agent *agent = arg;
	agent->reports_under_way--;
	if (err->status)
		agent->reports_failed++;
	else
		agent->acknowledged = ((const Postern__V1__ReportReply *)reply)->last_report;
}

/* Sends one report with the sequence that it has. */
static inline void agent_send(struct fake_agent *agent, Postern__V1__Report *report)
{
	Postern__V1__ReportRequest request = POSTERN__V1__REPORT_REQUEST__INIT;
	struct error err = {0};
	request.instance = agent->instance;
	request.n_reports = 1;
	request.reports = &report;
	agent->reports_under_way++;
	cr_assert_eq(rpc_client_call(agent->client, &postern__v1__agents__descriptor, "Report",
			     &request.base, NULL, fake_reported, agent, NULL, &err),
		STATUS_OK, "%s", err.text);
}

/* Acknowledges everything up to `item`. */
static inline void agent_apply(struct fake_agent *agent, uint64_t item)
{
	Postern__V1__Report report = POSTERN__V1__REPORT__INIT;
	Postern__V1__DoorFailure failures[64], *pointers[64];
	char grants[64][ID_TEXT_SIZE];
	report.sequence = ++agent->reported;
	report.kind = REPORT(APPLIED);
	report.sync_sequence = item;
	report.kernel_us = 15;
	report.revision = agent->revision;
	for (size_t i = 0; i < agent->door_count && report.n_failures < 64; i++) {
		size_t at = report.n_failures;
		const struct fake_door *door = &agent->doors[i];
		bool taken = agent->port_in_use && door->external_port == agent->port_in_use;
		bool spared = agent->refuses_grant && strcmp(agent->refuses_grant, door->grant);
		if (!taken && (!agent->refuses || spared))
			continue;
		postern__v1__door_failure__init(&failures[at]);
		snprintf(grants[at], ID_TEXT_SIZE, "%s", door->grant);
		failures[at].grant = grants[at];
		failures[at].cause = TEXT(taken ? "port in use" : agent->refuses);
		failures[at].external_taken = taken;
		pointers[report.n_failures++] = &failures[at];
		agent->doors[i--] = agent->doors[--agent->door_count];
	}
	report.failures = pointers;
	agent_send(agent, &report);
}

static inline struct fake_door *agent_door(struct fake_agent *agent, const char *grant)
{
	for (size_t i = 0; i < agent->door_count; i++)
		if (strcmp(agent->doors[i].grant, grant) == 0)
			return &agent->doors[i];
	return NULL;
}

static inline void fake_door_from_wire(const Postern__V1__Door *message, struct fake_door *door)
{
	snprintf(door->grant, sizeof door->grant, "%s", message->grant);
	snprintf(door->client, sizeof door->client, "%s", message->client);
	snprintf(door->remote, sizeof door->remote, "%s", message->remote);
	door->port = message->remote_port;
	door->max_connections = message->max_connections;
	door->connections = message->connections;
	door->remaining_ms = message->remaining_ms;
	snprintf(door->external, sizeof door->external, "%s", message->external);
	door->external_port = message->external_port;
	door->inbound = message->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	door->client_port = message->client_port;
	door->port_last = message->remote_port_last;
	door->remote_count = message->n_remotes;
	for (size_t i = 0; i < message->n_remotes && i < 16; i++)
		snprintf(door->remotes[i], sizeof door->remotes[i], "%s", message->remotes[i]);
	door->told++;
}

/* The kernel holds one door a key. */
static inline void expect_distinct_keys(const struct fake_agent *agent)
{
	for (size_t i = 0; i < agent->door_count && agent->door_count < 100; i++)
		for (size_t j = i + 1; j < agent->door_count; j++) {
			const struct fake_door *a = &agent->doors[i], *b = &agent->doors[j];
			cr_assert(strcmp(a->client, b->client) || strcmp(a->remote, b->remote) ||
					a->port != b->port || a->port_last != b->port_last ||
					a->client_port != b->client_port,
				"two doors of one key");
		}
}

static inline void agent_report_primary_ended(struct fake_agent *agent, const char *session)
{
	Postern__V1__Report report = POSTERN__V1__REPORT__INIT;
	report.sequence = ++agent->reported;
	report.kind = REPORT(PRIMARY_ENDED);
	report.session = TEXT(session);
	agent_send(agent, &report);
}

static inline bool agent_follows(const struct fake_agent *agent, const char *session)
{
	for (size_t i = 0; i < agent->primary_count; i++)
		if (strcmp(agent->primaries[i], session) == 0)
			return true;
	return false;
}

static inline void fake_primaries(struct fake_agent *agent, const Postern__V1__SyncItem *item)
{
	for (size_t i = 0; i < item->n_primaries_removed; i++)
		for (size_t j = 0; j < agent->primary_count; j++)
			if (strcmp(agent->primaries[j], item->primaries_removed[i]) == 0)
				memmove(agent->primaries[j],
					agent->primaries[--agent->primary_count], ID_TEXT_SIZE);
	for (size_t i = 0; i < item->n_primaries; i++) {
		const Postern__V1__Primary *primary = item->primaries[i];
		snprintf(agent->primary, sizeof agent->primary, "%d %s:%u %s:%u",
			(int)primary->flow->transport, primary->flow->client,
			primary->flow->client_port, primary->flow->remote,
			primary->flow->remote_port);
		if (agent->knows_no_primary ||
			(agent->conntrack_has && !agent->conntrack_has(primary->flow))) {
			agent_report_primary_ended(agent, primary->session);
			continue;
		}
		cr_assert_not(agent_follows(agent, primary->session));
		snprintf(agent->primaries[agent->primary_count++], ID_TEXT_SIZE, "%s",
			primary->session);
	}
}

static inline void fake_item(void *arg, const ProtobufCMessage *message)
{
	const Postern__V1__SyncItem *item = (const Postern__V1__SyncItem *)message;
	struct fake_agent *agent = arg;
	cr_assert_gt(item->sequence, agent->item);
	agent->item = item->sequence;
	agent->items++;
	agent->revision = item->revision ? item->revision : agent->revision;
	for (size_t i = 0; i < item->n_removed; i++) {
		struct fake_door *door = agent_door(agent, item->removed[i]);
		cr_assert_not(item->snapshot);
		if (door)
			*door = agent->doors[--agent->door_count];
	}
	for (size_t i = 0; i < item->n_doors; i++) {
		struct fake_door *door = agent_door(agent, item->doors[i]->grant), fresh = {0};
		if (item->snapshot) {
			door = &agent->building[agent->building_count++];
			*door = fresh;
		} else if (!door) {
			door = &agent->doors[agent->door_count++];
			*door = fresh;
		}
		fake_door_from_wire(item->doors[i], door);
	}
	if (!item->snapshot && item->n_doors > agent->largest_item)
		agent->largest_item = item->n_doors;
	for (size_t i = 0; i < item->n_cut && agent->cut_count < 64; i++)
		snprintf(agent->cut[agent->cut_count++], ID_TEXT_SIZE, "%s", item->cut[i]);
	if (item->snapshot_end) {
		memcpy(agent->doors, agent->building, sizeof agent->doors);
		agent->door_count = agent->building_count;
		agent->snapshots++;
	}
	fake_primaries(agent, item);
	expect_distinct_keys(agent);
	if (!agent->holds_acks)
		agent_apply(agent, item->sequence);
}

static inline void fake_stream_end(
	void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct fake_agent *agent = arg;
	(void)reply;
	agent->stream_ends++;
	agent->stream_err = *err;
}

static inline void agent_init(struct fake_agent *agent, struct world *world, const char *name)
{
	struct id instance = id_new();
	memset(agent, 0, sizeof *agent);
	agent->world = world;
	agent->name = name;
	agent->boot_id = "boot-1";
	agent->first_port = 30000;
	agent->last_port = 30009;
	id_format(&instance, agent->instance);
}

static inline void agent_report_simple(struct fake_agent *agent, Postern__V1__ReportKind kind)
{
	Postern__V1__Report report = POSTERN__V1__REPORT__INIT;
	report.sequence = ++agent->reported;
	report.kind = kind;
	agent_send(agent, &report);
}

static inline void agent_report_missed(
	struct fake_agent *agent, const char *grant, uint64_t count, uint64_t sequence)
{
	Postern__V1__Report report = POSTERN__V1__REPORT__INIT;
	report.sequence = sequence ? sequence : ++agent->reported;
	report.kind = REPORT(USES_MISSED);
	report.grant = TEXT(grant);
	report.count = count;
	agent_send(agent, &report);
}

/* A flow report; repeats come with an older `sequence`, 0 = the next one. */
static inline void agent_report_flow(struct fake_agent *agent, Postern__V1__ReportKind kind,
	const char *grant, uint64_t flow_id, uint64_t bytes, uint64_t sequence)
{
	Postern__V1__Report report = POSTERN__V1__REPORT__INIT;
	Postern__V1__Flow flow = POSTERN__V1__FLOW__INIT;
	report.sequence = sequence ? sequence : ++agent->reported;
	report.kind = kind;
	report.grant = TEXT(grant);
	report.flow = &flow;
	flow.id = flow_id;
	flow.client = TEXT("10.77.1.2");
	flow.client_port = 40000;
	flow.remote = TEXT("10.77.2.2");
	flow.remote_port = 1046;
	flow.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	flow.accounted = kind == REPORT(FLOW_CLOSED);
	flow.bytes_sent = flow.bytes_received = bytes;
	flow.duration_us = 1000;
	agent_send(agent, &report);
}

/* Everything that was reported is acknowledged. */
static inline void agent_settle(struct fake_agent *agent)
{
	WAIT_UNTIL(agent->world, agent->reports_under_way == 0);
}

static inline enum status agent_join(struct fake_agent *agent, struct error *ret_err)
{
	struct world *world = agent->world;
	Postern__V1__JoinRequest join = POSTERN__V1__JOIN_REQUEST__INIT;
	struct result result;
	agent->client =
		world_connect(world, strcmp(agent->name, "gw1") == 0 ? TOKEN_GW1 : TOKEN_GW2);
	join.boot_id = TEXT(agent->boot_id);
	join.instance = agent->instance;
	join.agent = TEXT("fake-agent 0");
	join.mode = TEXT("enforce");
	join.external_port_first = agent->first_port;
	join.external_port_last = agent->last_port;
	enum status status = call(world, agent->client, &postern__v1__agents__descriptor, "Join",
		&join.base, &result);
	if (ret_err)
		*ret_err = result.err;
	if (status == STATUS_OK)
		agent->acknowledged = ((Postern__V1__JoinReply *)result.reply)->last_report;
	result_clear(&result);
	return status;
}

static inline void agent_sync(struct fake_agent *agent)
{
	Postern__V1__SyncRequest request = POSTERN__V1__SYNC_REQUEST__INIT;
	struct rpc_call_options options = {.on_item = fake_item, .credit = 8};
	struct error err = {0};
	unsigned before = agent->snapshots;
	agent->item = agent->building_count = agent->primary_count = 0;
	agent->revision = 0;
	request.instance = agent->instance;
	cr_assert_eq(rpc_client_call(agent->client, &postern__v1__agents__descriptor, "Sync",
			     &request.base, &options, fake_stream_end, agent, NULL, &err),
		STATUS_OK, "%s", err.text);
	WAIT_UNTIL(agent->world, agent->snapshots > before);
}

static inline void agent_inventory(
	struct fake_agent *agent, const struct fake_flow *flows, size_t flow_count)
{
	agent_report_simple(agent, REPORT(INVENTORY_BEGIN));
	for (size_t i = 0; i < flow_count; i++)
		agent_report_flow(agent, REPORT(INVENTORY_FLOW), flows[i].grant, flows[i].id, 0, 0);
	agent_report_simple(agent, REPORT(INVENTORY_END));
	agent_settle(agent);
}

/* Join, an inventory of these flows, Sync. */
static inline void agent_start(
	struct fake_agent *agent, const struct fake_flow *flows, size_t flow_count)
{
	struct error err;
	cr_assert_eq(agent_join(agent, &err), STATUS_OK, "%s", err.text);
	agent_inventory(agent, flows, flow_count);
	agent_sync(agent);
	agent_settle(agent);
}

/* The connection is gone, at once. */
static inline void agent_disconnect(struct fake_agent *agent)
{
	rpc_client_free(agent->client);
	agent->client = NULL;
}

/* The process is another one: its reports begin anew. */
static inline void agent_die(struct fake_agent *agent)
{
	struct id instance = id_new();
	agent_disconnect(agent);
	id_format(&instance, agent->instance);
	agent->reported = agent->acknowledged = 0;
}

#endif
