/* A flow is known by its grant and its conntrack id. While it is open, a second report of its
 * opening is a repeat. Once it is closed, a live report of the same id is another flow (conntrack
 * ids come again), but an inventory's is the closed one, lingering in conntrack (TIME_WAIT). Closed
 * flows are forgotten after FORGET_US, longer than conntrack keeps them.
 *
 * Flows that ended unseen become stale and are closed in pieces, one transaction after the other,
 * so that an inventory after a long absence neither blocks the loop nor fills the journal's queue.
 */
#include "server/fleet/flow.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/core/grant.h"
#include "server/core/session.h"
#include "server/fleet/gateway.h"

#define FORGET_US (10 * 60 * 1000000LL)
#define FORGET_AT_ONCE 16
#define SWEEP_AT_ONCE 256

struct flow_key {
	struct id grant;
	uint64_t flow;
};

struct open_flow {
	struct flow_record record;
	struct grant *grant; /* held; NULL = no such grant of this gateway */
};

struct known_flow {
	struct table_node node;
	struct known_flow *next, *previous;
	struct flow_list *list;
	struct flow_key key;
	struct open_flow *open; /* NULL = closed */
	int64_t closed_us; /* monotonic */
	unsigned inventory; /* the newest one that saw it */
};

static bool match(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(&TABLE_OWNER(node, struct known_flow, node)->key, key, size) == 0;
}

void flows_init(struct flows *flows, struct gateway *gateway)
{
	memset(flows, 0, sizeof *flows);
	flows->gateway = gateway;
	table_init(&flows->table, match);
}

static void move(struct known_flow *flow, struct flow_list *to)
{
	struct flow_list *list = flow->list;
	if (list) {
		*(flow->previous ? &flow->previous->next : &list->first) = flow->next;
		*(flow->next ? &flow->next->previous : &list->last) = flow->previous;
	}
	flow->list = to;
	flow->next = NULL;
	flow->previous = to ? to->last : NULL;
	if (to) {
		*(to->last ? &to->last->next : &to->first) = flow;
		to->last = flow;
	}
}

static struct known_flow *find(const struct flows *flows, const struct id *grant, uint64_t flow)
{
	struct flow_key key = {.grant = *grant, .flow = flow};
	struct table_node *node = table_find(&flows->table, &key, sizeof key);
	return node ? TABLE_OWNER(node, struct known_flow, node) : NULL;
}

bool flow_needs_grant(const struct flows *flows, const struct id *grant, uint64_t flow)
{
	const struct known_flow *known = find(flows, grant, flow);
	return !known || (known->open && !known->open->grant);
}

/* Another gateway's grant is none of this one's. */
static void find_grant(const struct flows *flows, struct open_flow *open)
{
	struct grant *grant = grant_find(flows->gateway->core, &open->record.grant);
	if (open->grant || !grant || grant->gateway != flows->gateway)
		return;
	open->grant = grant;
	grant->open_flows++;
	grant_hold(grant);
}

static struct known_flow *add(struct flows *flows, const struct flow_record *record, bool open)
{
	struct known_flow *flow = calloc(1, sizeof *flow);
	struct open_flow *more = open ? calloc(1, sizeof *more) : NULL;
	if (!flow || (open && !more))
		goto fail;
	flow->key = (struct flow_key){.grant = record->grant, .flow = record->flow.id};
	if (!table_insert(&flows->table, &flow->node, &flow->key, sizeof flow->key))
		goto fail;
	flow->inventory = flows->inventory;
	flow->open = more;
	if (open) {
		more->record = *record;
		find_grant(flows, more);
		flows->open_count++;
	} else {
		flow->closed_us = clock_mono_us();
	}
	move(flow, open ? &flows->open : &flows->closed);
	return flow;
fail:
	free(more);
	free(flow);
	return NULL;
}

static void forget(struct flows *flows, struct known_flow *flow)
{
	move(flow, NULL);
	table_remove(&flows->table, &flow->node);
	free(flow->open);
	free(flow);
}

static void forget_old(struct flows *flows)
{
	int64_t before = clock_mono_us() - FORGET_US;
	for (int i = 0; i < FORGET_AT_ONCE; i++) {
		struct known_flow *flow = flows->closed.first;
		if (!flow || flow->closed_us >= before)
			return;
		forget(flows, flow);
	}
}

bool flow_load(struct flows *flows, const struct flow_record *record)
{
	struct known_flow *known = find(flows, &record->grant, record->flow.id);
	bool open = record->closed_us == 0;
	if (known && !open)
		return true; /* an earlier flow of this id */
	if (known)
		forget(flows, known);
	return add(flows, record, open) != NULL;
}

static void free_flow(struct table_node *node, void *arg)
{
	struct known_flow *flow = TABLE_OWNER(node, struct known_flow, node);
	(void)arg;
	free(flow->open);
	free(flow);
}

void flows_fini(struct flows *flows)
{
	table_each(&flows->table, free_flow, NULL);
	table_fini(&flows->table);
}

/* ---- opened, closed ---- */

static void fill(const struct flows *flows, const struct grant *grant, const struct id *id,
	const struct flow *flow, enum entry_kind kind, int64_t at_us, struct entry *ret_entry)
{
	if (grant) {
		grant_fill_entry(grant, kind, ret_entry);
	} else {
		core_entry(ret_entry, kind, "");
		copy_text(
			ret_entry->gateway, sizeof ret_entry->gateway, flows->gateway->record.name);
		copy_text(ret_entry->detail, sizeof ret_entry->detail,
			"no grant of this gateway has this id");
		ret_entry->grant = *id;
		ret_entry->client = flow->client.addr;
		ret_entry->remote = flow->remote;
		ret_entry->transport = flow->transport;
	}
	ret_entry->flow = *flow;
	ret_entry->time_us = at_us;
}

static struct flow without_figures(const struct flow *flow)
{
	return (struct flow){.id = flow->id,
		.client = flow->client,
		.remote = flow->remote,
		.external = flow->external,
		.transport = flow->transport};
}

/* As its grant says; who opened it is the client when there is none. */
static struct flow turned(
	const struct flows *flows, const struct id *id, const struct told_flow *told)
{
	const struct grant *grant = grant_find(flows->gateway->core, id);
	bool inbound = grant && grant->gateway == flows->gateway && grant->record.inbound;
	return flow_turn(told, inbound);
}

void flow_opened(struct flows *flows, const struct id *id, const struct told_flow *told,
	int64_t at_us, bool inventory, struct facts *facts)
{
	struct gateway *gateway = flows->gateway;
	struct flow flow = turned(flows, id, told);
	struct flow_record record = {
		.grant = *id, .flow = without_figures(&flow), .opened_us = at_us};
	struct entry entry;
	forget_old(flows);
	struct known_flow *known = find(flows, id, flow.id);
	if (known && (known->open || inventory)) {
		known->inventory = flows->inventory;
		return;
	}
	if (known)
		forget(flows, known);
	copy_text(record.gateway, sizeof record.gateway, gateway->record.name);
	copy_text(record.boot_id, sizeof record.boot_id, gateway->record.boot_id);
	known = add(flows, &record, true);
	if (!known) {
		log_err("%s: a flow is not journalled: out of memory", gateway->record.name);
		return;
	}
	struct grant *grant = known->open->grant;
	fill(flows, grant, id, &record.flow, ENTRY_ESTABLISHED, at_us, &entry);
	store_txn_entry(facts->txn, &entry);
	store_txn_put_flow(facts->txn, &record);
	if (grant)
		grant_used(grant, 1, facts);
}

static void close_flow(struct flows *flows, struct known_flow *known, const struct flow *flow,
	int64_t at_us, const char *detail, struct facts *facts)
{
	struct open_flow *open = known->open;
	struct entry entry;
	find_grant(flows, open);
	fill(flows, open->grant, &known->key.grant, flow, ENTRY_CLOSED, at_us, &entry);
	if (detail[0])
		copy_text(entry.detail, sizeof entry.detail, detail);
	store_txn_entry(facts->txn, &entry);
	open->record.closed_us = at_us;
	store_txn_put_flow(facts->txn, &open->record);
	flows->open_count--;
	known->open = NULL;
	known->closed_us = clock_mono_us();
	move(known, &flows->closed);
	if (open->grant) {
		if (open->grant->session && !open->grant->ended)
			session_touch(open->grant->session);
		open->grant->open_flows--;
		grant_release(open->grant);
	}
	free(open);
}

/* Where it ran is known from its opening; how much, from its end. */
static struct flow with_figures(const struct flow *opened, const struct flow *closed)
{
	struct flow flow = *closed;
	flow.client = opened->client;
	flow.remote = opened->remote;
	flow.external = opened->external;
	return flow;
}

void flow_closed(struct flows *flows, const struct id *grant, const struct told_flow *told,
	int64_t at_us, struct facts *facts)
{
	struct flow flow = turned(flows, grant, told);
	struct known_flow *known = find(flows, grant, flow.id);
	if (known && !known->open)
		return;
	if (!known) {
		/* Its opening was never reported: both belong into the journal. */
		int64_t opened_us = at_us - (int64_t)(flow.duration_us % INT64_MAX);
		flow_opened(flows, grant, told, opened_us, false, facts);
		known = find(flows, grant, flow.id);
	}
	if (!known || !known->open)
		return;
	flow = with_figures(&known->open->record.flow, &flow);
	close_flow(flows, known, &flow, at_us, "", facts);
}

/* ---- ended unseen ---- */

static bool is_of_this_boot(const struct flows *flows, const struct known_flow *known)
{
	return strcmp(known->open->record.boot_id, flows->gateway->record.boot_id) == 0;
}

static void sweep(struct flows *flows);

static void on_swept(void *arg, uint64_t sequence, const struct error *err)
{
	struct flows *flows = arg;
	(void)sequence;
	(void)err;
	flows->sweeping = false;
	sweep(flows);
}

static void sweep(struct flows *flows)
{
	struct core *core = flows->gateway->core;
	if (flows->sweeping || !flows->stale.first || core->stopping)
		return;
	struct facts *facts = facts_new(core);
	if (!facts) {
		log_err("%s: ended flows stay open in the journal for now: out of memory",
			flows->gateway->record.name);
		return;
	}
	int64_t now = clock_real_us();
	for (int i = 0; i < SWEEP_AT_ONCE && flows->stale.first; i++) {
		struct known_flow *known = flows->stale.first;
		struct flow unaccounted = without_figures(&known->open->record.flow);
		close_flow(flows, known, &unaccounted, now,
			is_of_this_boot(flows, known) ? "ended unseen" : "the gateway was rebooted",
			facts);
	}
	flows->sweeping = true;
	facts_submit(facts, false, on_swept, flows);
}

void flows_inventory_begin(struct flows *flows)
{
	flows->inventory++;
}

void flows_inventory_end(struct flows *flows)
{
	for (struct known_flow *known = flows->open.first, *next; known; known = next) {
		next = known->next;
		if (known->inventory != flows->inventory)
			move(known, &flows->stale);
	}
	sweep(flows);
}

void flows_check_boot(struct flows *flows)
{
	for (struct known_flow *known = flows->open.first, *next; known; known = next) {
		next = known->next;
		if (!is_of_this_boot(flows, known))
			move(known, &flows->stale);
	}
	sweep(flows);
}
