/* Flows: what recognises a report that comes twice (I5).
 *
 * A flow is known by (grant, conntrack id). While it is open, a second "opened" for it is a repeat.
 * Once it is closed, a live report of the same id is a new flow (conntrack ids are reused), but an
 * inventory's is the closed one still lingering in conntrack (TIME_WAIT). Closed flows are
 * forgotten after FORGET_US, longer than conntrack keeps them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/core.h"

#define FORGET_US (15 * 60 * 1000000LL)
#define FORGET_A_ROUND 64

struct flow_key {
	struct id grant;
	uint64_t flow;
};

static bool match_flow(const struct table_node *node, const void *key, size_t size)
{
	const struct flow_entry *entry = TABLE_OWNER(node, struct flow_entry, node);
	const struct flow_key *wanted = key;
	(void)size;
	return entry->record.flow.id == wanted->flow &&
		id_equal(&entry->record.grant, &wanted->grant);
}

void flows_init(struct core *core)
{
	table_init(&core->flows, match_flow);
}

static struct flow_entry *find(const struct core *core, const struct id *grant, uint64_t flow)
{
	struct flow_key key = {.grant = *grant, .flow = flow};
	struct table_node *node = table_find(&core->flows, &key, sizeof key);
	return node ? TABLE_OWNER(node, struct flow_entry, node) : NULL;
}

/* Newest first in the gateway's list. */
static struct flow_entry *add(
	struct core *core, struct gateway *gateway, const struct flow_record *record)
{
	struct flow_key key = {.grant = record->grant, .flow = record->flow.id};
	struct flow_entry *entry = calloc(1, sizeof *entry);
	if (!entry)
		return NULL;
	entry->gateway = gateway;
	entry->record = *record;
	if (!table_insert(&core->flows, &entry->node, &key, sizeof key)) {
		free(entry);
		return NULL;
	}
	entry->next = gateway->flows;
	if (entry->next)
		entry->next->previous = entry;
	gateway->flows = entry;
	return entry;
}

static void unlink_entry(struct flow_entry *entry)
{
	if (entry->previous)
		entry->previous->next = entry->next;
	else
		entry->gateway->flows = entry->next;
	if (entry->next)
		entry->next->previous = entry->previous;
	entry->next = entry->previous = NULL;
}

/* Closed flows move to the gateway's list of closed ones, oldest first, so that forgetting them
 * costs O(1) each. */
static void mark_closed(struct flow_entry *entry, int64_t at_us)
{
	struct gateway *gateway = entry->gateway;
	entry->record.closed_us = at_us;
	entry->closed_mono_us = clock_mono_us();
	gateway->open_flows--;
	unlink_entry(entry);
	entry->previous = NULL;
	if (gateway->closed_last)
		gateway->closed_last->next = entry;
	else
		gateway->closed_first = entry;
	gateway->closed_last = entry;
	if (entry->grant) {
		struct grant *grant = entry->grant;
		entry->grant = NULL;
		grant_flow_closed(grant);
	}
}

void flows_forget(struct gateway *gateway)
{
	int64_t before = clock_mono_us() - FORGET_US;
	for (int i = 0; i < FORGET_A_ROUND && gateway->closed_first &&
		gateway->closed_first->closed_mono_us < before;
		i++) {
		struct flow_entry *entry = gateway->closed_first;
		gateway->closed_first = entry->next;
		if (!gateway->closed_first)
			gateway->closed_last = NULL;
		table_remove(&gateway->core->flows, &entry->node);
		free(entry);
	}
}

static void fill(const struct gateway *gateway, const struct grant *grant, const struct id *id,
	const struct flow *flow, enum entry_kind kind, int64_t at_us, struct entry *ret_entry)
{
	if (grant) {
		grant_fill_entry(grant, kind, ret_entry);
	} else {
		core_entry(ret_entry, kind, "");
		snprintf(ret_entry->gateway, sizeof ret_entry->gateway, "%s", gateway->record.name);
		ret_entry->grant = *id;
		ret_entry->client = flow->client.addr;
		ret_entry->remote = flow->remote;
		ret_entry->transport = flow->transport;
	}
	ret_entry->flow = *flow;
	ret_entry->time_us = at_us;
}

void flow_opened(struct gateway *gateway, const struct id *id, const struct flow *flow,
	int64_t at_us, bool inventory, struct store_txn *txn)
{
	struct core *core = gateway->core;
	struct grant *grant = core_find_grant(core, id);
	struct flow_entry *known = find(core, id, flow->id);
	struct flow_record record = {.grant = *id, .flow = *flow, .opened_us = at_us};
	struct entry entry;
	if (known) {
		known->generation = gateway->generation;
		if (!known->record.closed_us || inventory)
			return;
		table_remove(&core->flows, &known->node); /* the id is in use again; the old one
							     stays in the closed list */
		memset(&known->record.grant, 0, sizeof known->record.grant);
		struct flow_key unused = {.flow = known->record.flow.id};
		if (!table_insert(&core->flows, &known->node, &unused, sizeof unused))
			return;
	}
	snprintf(record.gateway, sizeof record.gateway, "%s", gateway->record.name);
	snprintf(record.boot_id, sizeof record.boot_id, "%s", gateway->record.boot_id);
	struct flow_entry *new = add(core, gateway, &record);
	if (!new)
		return;
	new->generation = gateway->generation;
	new->grant = grant;
	gateway->open_flows++;
	fill(gateway, grant, id, flow, ENTRY_ESTABLISHED, at_us, &entry);
	store_txn_entry(txn, &entry);
	store_txn_put_flow(txn, &record);
	if (grant) {
		grant->open_flows++;
		grant_used(grant, 1, txn);
	}
}

static void close_entry(struct flow_entry *entry, const struct flow *flow, int64_t at_us,
	const char *detail, struct store_txn *txn)
{
	struct entry journal;
	fill(entry->gateway, entry->grant, &entry->record.grant, flow, ENTRY_CLOSED, at_us,
		&journal);
	snprintf(journal.detail, sizeof journal.detail, "%s", detail);
	store_txn_entry(txn, &journal);
	struct flow_record record = entry->record;
	record.closed_us = at_us;
	store_txn_put_flow(txn, &record);
	mark_closed(entry, at_us);
}

void flow_closed(struct gateway *gateway, const struct id *id, const struct flow *flow,
	int64_t at_us, struct store_txn *txn)
{
	struct flow_entry *entry = find(gateway->core, id, flow->id);
	if (entry && entry->record.closed_us)
		return;
	if (!entry) {
		/* Its opening was never reported: both belong into the journal. */
		flow_opened(gateway, id, flow, at_us - (int64_t)flow->duration_us, false, txn);
		entry = find(gateway->core, id, flow->id);
	}
	if (entry)
		close_entry(entry, flow, at_us, "", txn);
}

void flows_inventory_end(struct gateway *gateway, struct store_txn *txn)
{
	int64_t now = clock_real_us();
	for (struct flow_entry *entry = gateway->flows, *next; entry; entry = next) {
		next = entry->next;
		if (entry->generation != gateway->generation)
			close_entry(
				entry, &entry->record.flow, now, "ended while nobody watched", txn);
	}
}

void flows_all_lost(struct gateway *gateway, const char *why, struct store_txn *txn)
{
	int64_t now = clock_real_us();
	while (gateway->flows)
		close_entry(gateway->flows, &gateway->flows->record.flow, now, why, txn);
}

void flow_load(struct core *core, const struct flow_record *record)
{
	struct gateway *gateway = gateway_find(core, record->gateway);
	struct flow_entry *entry = gateway ? add(core, gateway, record) : NULL;
	if (!entry)
		return;
	gateway->open_flows++;
	if (record->closed_us) {
		mark_closed(entry, record->closed_us);
		return;
	}
	entry->grant = core_find_grant(core, &record->grant);
	if (entry->grant)
		entry->grant->open_flows++;
}

static void free_entry(struct table_node *node, void *arg)
{
	(void)arg;
	free(TABLE_OWNER(node, struct flow_entry, node));
}

void flows_fini(struct core *core)
{
	table_each(&core->flows, free_entry, NULL);
	table_fini(&core->flows);
}
