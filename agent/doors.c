/* Design.
 *
 * A use is journalled when a flow is reported. Events can be lost (overrun, agent down, a SYN on a
 * closing entry), the counter of the kernel's element cannot: the audit compares both (I5).
 *
 *   total = base + counter        base: uses made before this element was added; the limit it was
 *                                 added with tells, also to an agent that was started since
 *   known = what the server counts, or will when it has our reports
 *
 * total > known may mean that an event is still on its way: only a surplus seen by two audits
 * counts, and of the two the smaller one. It errs on the side of telling nothing: a flow that is
 * journalled twice is worse than one that is found by the next audit.
 *
 * A cancelled door's element is gone at once; its last counter is read before and kept in the wish,
 * which stays as retired until the audit is content. */
#include "agent/doors.h"

#include <stdlib.h>
#include <string.h>

#define FORGET_US (60 * 1000000LL) /* after its end: the server has removed it long before */

/* Of one door in many. */
struct wish_extra {
	struct endpoint outside;
	uint16_t to_port_last;
	uint8_t nat;
	size_t from_count;
	struct addr froms[];
};

static bool match_wish(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct wish, node)->grant.bytes, key, size) == 0;
}

void doors_init(struct doors *doors)
{
	table_init(&doors->table, match_wish);
}

void doors_remove(struct doors *doors, struct wish *wish)
{
	table_remove(&doors->table, &wish->node);
	free(wish->extra);
	free(wish);
}

static void remove_node(struct table_node *node, void *arg)
{
	doors_remove(arg, TABLE_OWNER(node, struct wish, node));
}

void doors_fini(struct doors *doors)
{
	table_each(&doors->table, remove_node, doors);
	table_fini(&doors->table);
}

size_t doors_count(const struct doors *doors)
{
	return table_count(&doors->table);
}

struct wish *doors_find(const struct doors *doors, const struct id *grant)
{
	struct table_node *node = table_find(&doors->table, grant->bytes, sizeof grant->bytes);
	return node ? TABLE_OWNER(node, struct wish, node) : NULL;
}

/* False: memory is out. */
static bool extra_of(const struct door *door, struct wish_extra **ret_extra)
{
	struct wish_extra *extra = NULL;
	if (door->from_count > 0 || door->to_port_last || door->nat != DOOR_AS_IS) {
		extra = calloc(1, sizeof *extra + door->from_count * sizeof *extra->froms);
		if (!extra)
			return false;
		extra->outside = door->outside;
		extra->to_port_last = door->to_port_last;
		extra->nat = door->nat;
		extra->from_count = door->from_count;
		if (door->from_count > 0)
			memcpy(extra->froms, door->froms, door->from_count * sizeof *door->froms);
	}
	*ret_extra = extra;
	return true;
}

static struct wish *add_wish(struct doors *doors, const struct id *grant)
{
	struct wish *wish = calloc(1, sizeof *wish);
	if (!wish || !table_insert(&doors->table, &wish->node, grant->bytes, sizeof grant->bytes)) {
		free(wish);
		return NULL;
	}
	wish->grant = *grant;
	return wish;
}

struct wish *doors_put(struct doors *doors, const struct door *door, int64_t now_us)
{
	struct wish *wish = doors_find(doors, &door->grant);
	struct wish_extra *extra;
	if (!extra_of(door, &extra))
		return NULL;
	if (!wish)
		wish = add_wish(doors, &door->grant);
	if (!wish) {
		free(extra);
		return NULL;
	}
	free(wish->extra);
	wish->extra = extra;
	wish->from = door->from;
	wish->to = door->to;
	wish->transport = door->transport;
	wish->oneway = door->oneway;
	wish->max_connections = door->max_connections;
	wish->until_us = door->timeout_ms > INT64_MAX / 2000
		? INT64_MAX
		: now_us + (int64_t)door->timeout_ms * 1000;
	if (door->connections > wish->known)
		wish->known = door->connections;
	wish->retired = false;
	return wish;
}

void doors_told(struct doors *doors, const struct id *grant, uint64_t count)
{
	struct wish *wish = doors_find(doors, grant);
	if (wish)
		wish->known += count;
}

void doors_key(const struct wish *wish, struct door *ret_door)
{
	*ret_door = (struct door){.grant = wish->grant,
		.from = wish->from,
		.to = wish->to,
		.transport = wish->transport,
		.oneway = wish->oneway,
		.max_connections = wish->max_connections,
		.connections = wish->known};
	if (!wish->extra)
		return;
	ret_door->froms = wish->extra->from_count > 0 ? wish->extra->froms : NULL;
	ret_door->from_count = wish->extra->from_count;
	ret_door->to_port_last = wish->extra->to_port_last;
	ret_door->nat = wish->extra->nat;
	ret_door->outside = wish->extra->outside;
}

bool doors_wanted(const struct wish *wish, int64_t now_us, struct door *ret_door)
{
	if (wish->retired || wish->until_us - now_us < 1000)
		return false;
	doors_key(wish, ret_door);
	ret_door->timeout_ms = (uint64_t)(wish->until_us - now_us) / 1000;
	return true;
}

struct list {
	struct door *doors;
	size_t count;
	int64_t now_us;
};

static void list_one(struct table_node *node, void *arg)
{
	struct list *list = arg;
	const struct wish *wish = TABLE_OWNER(node, struct wish, node);
	if (doors_wanted(wish, list->now_us, &list->doors[list->count]))
		list->count++;
}

size_t doors_list(struct doors *doors, struct door *ret_doors, int64_t now_us)
{
	struct list list = {.doors = ret_doors, .now_us = now_us};
	table_each(&doors->table, list_one, &list);
	return list.count;
}

static void retire(struct table_node *node, void *arg)
{
	struct wish *wish = TABLE_OWNER(node, struct wish, node);
	(void)arg;
	/* What is known stays until the snapshot confirms; nothing is owed for the rest. */
	wish->retired = true;
	wish->in_total = 0;
}

void doors_snapshot_begin(struct doors *doors)
{
	table_each(&doors->table, retire, NULL);
}

static void drop_retired(struct table_node *node, void *arg)
{
	struct wish *wish = TABLE_OWNER(node, struct wish, node);
	if (wish->retired)
		doors_remove(arg, wish);
}

void doors_snapshot_end(struct doors *doors)
{
	table_each(&doors->table, drop_retired, doors);
}

uint64_t doors_total(const struct wish *wish, const struct held_door *held)
{
	uint64_t uses = held->door.uses, most = wish->max_connections;
	uint64_t base = uses == 0 ? wish->base : most > uses ? most - uses : 0;
	return base + held->counter;
}

void doors_rebase(struct wish *wish, const struct held_door *held)
{
	if (held->door.uses == 0 && wish->base + held->counter < wish->known)
		wish->base = wish->known - held->counter;
}

struct audit {
	struct doors *doors;
	int64_t now_us;
	missed_cb missed;
	void *arg;
	bool again;
};

/* True: settled. */
static bool compare(struct audit *audit, struct wish *wish, uint64_t total)
{
	uint64_t surplus = total > wish->known ? total - wish->known : 0;
	uint64_t sure = surplus < wish->deficit ? surplus : wish->deficit;
	if (sure > 0 && audit->missed(audit->arg, &wish->grant, sure)) {
		wish->known += sure;
		surplus -= sure;
	}
	wish->deficit = surplus;
	audit->again |= surplus > 0;
	return surplus == 0;
}

static void audit_rest(struct table_node *node, void *arg)
{
	struct audit *audit = arg;
	struct wish *wish = TABLE_OWNER(node, struct wish, node);
	bool over = wish->until_us < audit->now_us - FORGET_US;
	if (over || (wish->retired && compare(audit, wish, wish->in_total)))
		doors_remove(audit->doors, wish);
}

bool doors_audit(struct doors *doors, const struct held_door *held, size_t count, int64_t now_us,
	missed_cb missed, void *arg)
{
	struct audit audit = {.doors = doors, .now_us = now_us, .missed = missed, .arg = arg};
	for (size_t i = 0; i < count; i++) {
		struct wish *wish = doors_find(doors, &held[i].door.grant);
		if (wish && !wish->retired)
			(void)compare(&audit, wish, doors_total(wish, &held[i]));
	}
	table_each(&doors->table, audit_rest, &audit);
	return audit.again;
}
