/* Gateways: the desired state of each and how it reaches the agent.
 *
 * Desired state is the list of armed grants. What the agent does not know yet waits in `pending`
 * (doors) and `removed` (ids); a flush turns both into one item of the Sync stream, which the agent
 * applies in one kernel transaction. Flushes are posted to the loop, so that all grants of one
 * commit group travel together, and wait for credit: a slow agent gets fewer, larger items.
 *
 * A new Sync stream starts from nothing: every armed grant is pending again, and items are marked
 * as the snapshot until that list has run empty once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/core.h"

#define DOORS_AN_ITEM 500
#define REMOVED_AN_ITEM 2000

static bool match_gateway(const struct table_node *node, const void *key, size_t size)
{
	const char *name = TABLE_OWNER(node, struct gateway, by_name)->record.name;
	return strlen(name) == size && memcmp(name, key, size) == 0;
}

static bool match_key(const struct table_node *node, const void *key, size_t size)
{
	return grant_has_key(TABLE_OWNER(node, struct grant, by_key), key, size);
}

void gateways_init(struct core *core)
{
	table_init(&core->gateways, match_gateway);
	core->gateway_end = &core->first_gateway;
}

struct gateway *gateway_find(const struct core *core, const char *name)
{
	struct table_node *node = table_find(&core->gateways, name, strlen(name));
	return node ? TABLE_OWNER(node, struct gateway, by_name) : NULL;
}

struct gateway *gateway_load(struct core *core, const struct gateway_record *record)
{
	struct gateway *gateway = calloc(1, sizeof *gateway);
	if (!gateway)
		return NULL;
	gateway->core = core;
	gateway->record = *record;
	table_init(&gateway->keys, match_key);
	if (!table_insert(&core->gateways, &gateway->by_name, record->name, strlen(record->name))) {
		free(gateway);
		return NULL;
	}
	*core->gateway_end = gateway;
	core->gateway_end = &gateway->next;
	return gateway;
}

bool gateway_is_up(const struct gateway *gateway)
{
	return gateway->joined && gateway->link;
}

/* ---- desired state ---- */

static void flush_task(void *arg)
{
	struct gateway *gateway = arg;
	gateway->flush_posted = false;
	gateway_flush(gateway);
}

static void post_flush(struct gateway *gateway)
{
	if (!gateway->link || gateway->flush_posted)
		return;
	gateway->flush_posted = true;
	loop_post(gateway->core->loop, &gateway->flush, flush_task, gateway);
}

static struct grant_list *list_of(struct gateway *gateway, enum grant_way way)
{
	switch (way) {
	case WAY_PENDING:
		return &gateway->pending;
	case WAY_SENT:
		return &gateway->sent;
	case WAY_NONE:
	case WAY_APPLIED:
		break;
	}
	return NULL;
}

/* Takes the grant out of the list it is in, if any, and appends it to the one of its new way. */
static void set_way(struct gateway *gateway, struct grant *grant, enum grant_way way)
{
	struct grant_list *list = list_of(gateway, grant->way);
	if (list) {
		*(grant->way_previous ? &grant->way_previous->way_next : &list->first) =
			grant->way_next;
		*(grant->way_next ? &grant->way_next->way_previous : &list->last) =
			grant->way_previous;
	}
	list = list_of(gateway, way);
	grant->way = way;
	grant->way_next = NULL;
	grant->way_previous = list ? list->last : NULL;
	if (list) {
		*(list->last ? &list->last->way_next : &list->first) = grant;
		list->last = grant;
	}
}

void gateway_arm(struct grant *grant)
{
	struct gateway *gateway = grant->gateway;
	grant->armed = true;
	grant->armed_previous = NULL;
	grant->armed_next = gateway->armed;
	if (gateway->armed)
		gateway->armed->armed_previous = grant;
	gateway->armed = grant;
	if (!gateway->link)
		return;
	set_way(gateway, grant, WAY_PENDING);
	post_flush(gateway);
}

static void add_removed(struct gateway *gateway, const struct id *id)
{
	if (gateway->removed_count == gateway->removed_capacity) {
		size_t capacity = gateway->removed_capacity ? gateway->removed_capacity * 2 : 64;
		struct id *grown = realloc(gateway->removed, capacity * sizeof *grown);
		if (!grown) {
			/* It cannot be told which door to close: let the agent start over with a
			 * snapshot that lacks it. */
			gateway_detach(gateway, "out of memory");
			return;
		}
		gateway->removed = grown;
		gateway->removed_capacity = capacity;
	}
	gateway->removed[gateway->removed_count++] = *id;
}

void gateway_disarm(struct grant *grant)
{
	struct gateway *gateway = grant->gateway;
	if (!grant->armed)
		return;
	grant->armed = false;
	if (grant->armed_previous)
		grant->armed_previous->armed_next = grant->armed_next;
	else
		gateway->armed = grant->armed_next;
	if (grant->armed_next)
		grant->armed_next->armed_previous = grant->armed_previous;
	bool told = grant->way == WAY_SENT || grant->way == WAY_APPLIED;
	set_way(gateway, grant, WAY_NONE);
	if (told && gateway->link)
		add_removed(gateway, &grant->record.id);
	post_flush(gateway);
}

static size_t take_doors(struct gateway *gateway, struct grant **doors)
{
	size_t count = 0;
	int64_t now = clock_mono_us();
	while (gateway->pending.first && count < DOORS_AN_ITEM) {
		struct grant *grant = gateway->pending.first;
		set_way(gateway, grant, WAY_SENT);
		grant->sync_sequence = gateway->sync_sequence;
		grant->sent_us = now;
		doors[count++] = grant;
	}
	return count;
}

void gateway_flush(struct gateway *gateway)
{
	struct grant *doors[DOORS_AN_ITEM];
	while (gateway->link &&
		(gateway->pending.first || gateway->removed_count > 0 || gateway->in_snapshot)) {
		if (!gateway->link->ready(gateway->link->arg))
			return; /* called again when there is credit */
		gateway->sync_sequence++;
		size_t door_count = take_doors(gateway, doors);
		size_t removed_count = gateway->removed_count < REMOVED_AN_ITEM
			? gateway->removed_count
			: REMOVED_AN_ITEM;
		bool snapshot = gateway->in_snapshot;
		gateway->in_snapshot = snapshot && gateway->pending.first;
		if (!gateway->link->send(gateway->link->arg, gateway->sync_sequence, snapshot,
			    snapshot && !gateway->in_snapshot, doors, door_count, gateway->removed,
			    removed_count))
			return;
		gateway->removed_count -= removed_count;
		if (gateway->removed_count)
			memmove(gateway->removed, gateway->removed + removed_count,
				gateway->removed_count * sizeof *gateway->removed);
	}
}

void gateway_attach(struct gateway *gateway, struct agent_link *link)
{
	gateway->link = link;
	gateway->removed_count = 0;
	gateway->in_snapshot = true;
	for (struct grant *grant = gateway->armed; grant; grant = grant->armed_next)
		set_way(gateway, grant, WAY_PENDING);
	gateway_flush(gateway);
}

void gateway_detach(struct gateway *gateway, const char *why)
{
	struct entry entry;
	if (!gateway->joined && !gateway->link)
		return;
	gateway->link = NULL;
	gateway->joined = false;
	gateway->connection = 0;
	gateway->lost_us = clock_real_us();
	core_entry(&entry, ENTRY_GATEWAY_LOST, "");
	snprintf(entry.gateway, sizeof entry.gateway, "%s", gateway->record.name);
	snprintf(entry.detail, sizeof entry.detail, "%s", why);
	if (!gateway->core->stopping)
		core_fact(gateway->core, &entry);
}

void gateway_applied(struct gateway *gateway, uint64_t sync_sequence, uint64_t kernel_us)
{
	while (gateway->sent.first && gateway->sent.first->sync_sequence <= sync_sequence) {
		struct grant *grant = gateway->sent.first;
		set_way(gateway, grant, WAY_APPLIED);
		grant_installed(grant, kernel_us);
	}
}

void gateways_fini(struct core *core)
{
	for (struct gateway *gateway = core->first_gateway, *next; gateway; gateway = next) {
		next = gateway->next;
		table_fini(&gateway->keys);
		free(gateway->removed);
		free(gateway);
	}
	table_fini(&core->gateways);
}
