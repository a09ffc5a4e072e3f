/* Design.
 *
 *              NEW, dump                TIME_WAIT, CLOSE, DESTROY, gone from a dump
 *   (none) ---------------> open ------------------------------------------------> closed
 *      ^                     | DESTROY                                                | DESTROY
 *      +---------------------+--------------------------------------------------------+
 *
 * A TCP flow is closed for the server when conntrack sees its end, but conntrack keeps the entry
 * for a while (TIME_WAIT: two minutes); it stays here as closed, so that its DESTROY, a dump or an
 * inventory does not tell of it again.
 *
 * Conntrack's ids are hashes of 32 bits: two flows that live at once may share one, and a flow may
 * have the id of an earlier one. Flows are therefore known by id and tuple, and a NEW for a flow
 * that is closed here begins another one.
 *
 * When the queue of reports is full a flow keeps `told` or `closed` unset, and an inventory makes
 * good what was left out. */
#include "agent/flows.h"

#include <stdlib.h>
#include <string.h>

/* The flows of one grant: found at once when they are to be cut. */
struct group {
	struct table_node node;
	struct id grant;
	struct flow *first;
};

struct flow {
	struct table_node node;
	struct group *group;
	struct flow *next, *previous; /* in the group */
	struct tracked tracked;
	int64_t opened_us; /* monotonic */
	unsigned generation; /* the dump that saw it last, or the one before its birth */
	bool told; /* the server was told that it is open */
	bool closed; /* the server was told that it is over */
};

static bool match_flow(const struct table_node *node, const void *key, size_t size)
{
	struct tracked_key own;
	tracked_key(&TABLE_OWNER(node, struct flow, node)->tracked, &own);
	return memcmp(&own, key, size) == 0;
}

static bool match_group(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct group, node)->grant.bytes, key, size) == 0;
}

void flows_init(struct flows *flows, const struct flow_hooks *hooks, void *arg)
{
	memset(flows, 0, sizeof *flows);
	table_init(&flows->table, match_flow);
	table_init(&flows->groups, match_group);
	flows->hooks = hooks;
	flows->arg = arg;
}

static struct group *find_group(const struct flows *flows, const struct id *grant)
{
	struct table_node *node = table_find(&flows->groups, grant->bytes, sizeof grant->bytes);
	return node ? TABLE_OWNER(node, struct group, node) : NULL;
}

static struct group *add_group(struct flows *flows, const struct id *grant)
{
	struct group *group = calloc(1, sizeof *group);
	if (!group ||
		!table_insert(&flows->groups, &group->node, grant->bytes, sizeof grant->bytes)) {
		free(group);
		return NULL;
	}
	group->grant = *grant;
	return group;
}

static bool join_group(struct flows *flows, struct flow *flow)
{
	const struct id *grant = &flow->tracked.grant;
	struct group *group = find_group(flows, grant);
	if (!group)
		group = add_group(flows, grant);
	if (!group)
		return false;
	flow->group = group;
	flow->next = group->first;
	if (flow->next)
		flow->next->previous = flow;
	group->first = flow;
	return true;
}

static void leave_group(struct flows *flows, struct flow *flow)
{
	struct group *group = flow->group;
	if (flow->next)
		flow->next->previous = flow->previous;
	if (flow->previous)
		flow->previous->next = flow->next;
	else
		group->first = flow->next;
	if (group->first)
		return;
	table_remove(&flows->groups, &group->node);
	free(group);
}

static void forget(struct flows *flows, struct flow *flow)
{
	leave_group(flows, flow);
	table_remove(&flows->table, &flow->node);
	free(flow);
}

static void forget_node(struct table_node *node, void *arg)
{
	forget(arg, TABLE_OWNER(node, struct flow, node));
}

void flows_fini(struct flows *flows)
{
	table_each(&flows->table, forget_node, flows);
	table_fini(&flows->table);
	table_fini(&flows->groups);
}

size_t flows_count(const struct flows *flows)
{
	return table_count(&flows->table);
}

static struct flow *find(const struct flows *flows, const struct tracked *tracked)
{
	struct tracked_key key;
	tracked_key(tracked, &key);
	struct table_node *node = table_find(&flows->table, &key, sizeof key);
	return node ? TABLE_OWNER(node, struct flow, node) : NULL;
}

static struct flow *add(struct flows *flows, const struct tracked *tracked, int64_t now_us)
{
	struct flow *flow = calloc(1, sizeof *flow);
	struct tracked_key key;
	tracked_key(tracked, &key);
	bool added = flow != NULL;
	if (added) {
		flow->tracked = *tracked;
		added = join_group(flows, flow);
	}
	if (added && !table_insert(&flows->table, &flow->node, &key, sizeof key)) {
		leave_group(flows, flow);
		added = false;
	}
	if (!added) {
		free(flow);
		flows->dropped++;
		return NULL;
	}
	flow->opened_us = now_us;
	flow->generation = flows->generation;
	return flow;
}

/* `last` has what is known of its end. */
static void close_flow(
	struct flows *flows, struct flow *flow, const struct tracked *last, int64_t now_us)
{
	struct tracked figures = *last;
	figures.grant = flow->tracked.grant;
	if (figures.accounted && figures.duration_us == 0 && now_us > flow->opened_us)
		figures.duration_us = (uint64_t)(now_us - flow->opened_us);
	flow->tracked = figures;
	flow->tracked.is_over = true;
	flow->closed = flows->hooks->closed(flows->arg, &figures, flow->told);
}

static void begin(struct flows *flows, const struct tracked *tracked, int64_t now_us)
{
	struct tracked whole = *tracked;
	struct flow *flow = find(flows, tracked);
	if (flow && !flow->closed)
		return;
	if (flow) /* the same id and tuple again, and the DESTROY in between was lost */
		forget(flows, flow);
	if (id_is_zero(&whole.grant) && !flows->hooks->read(flows->arg, &whole)) {
		flows->unknown++;
		return;
	}
	if (id_is_zero(&whole.grant)) /* a mark without a label is not our doing */
		return;
	flow = add(flows, &whole, now_us);
	if (flow)
		flow->told = flows->hooks->opened(flows->arg, &whole);
}

static void update(struct flows *flows, const struct tracked *tracked, int64_t now_us)
{
	struct flow *flow = find(flows, tracked);
	if (!flow) {
		begin(flows, tracked, now_us); /* its NEW was lost */
		flow = find(flows, tracked);
	}
	if (!flow || flow->closed || !tracked->is_over)
		return;
	struct tracked last = *tracked;
	if (!last.accounted)
		(void)flows->hooks->read(flows->arg, &last);
	close_flow(flows, flow, &last, now_us);
}

void flows_event(
	struct flows *flows, enum track_event event, const struct tracked *tracked, int64_t now_us)
{
	struct flow *flow;
	if (!tracked->is_granted)
		return;
	switch (event) {
	case TRACK_NEW:
		begin(flows, tracked, now_us);
		return;
	case TRACK_UPDATE:
		update(flows, tracked, now_us);
		return;
	case TRACK_DESTROY:
		flow = find(flows, tracked);
		if (!flow) {
			flows->unknown++; /* no label: the door's counter tells of it */
			return;
		}
		if (!flow->closed)
			close_flow(flows, flow, tracked, now_us);
		forget(flows, flow);
		return;
	}
}

size_t flows_of_grant(const struct flows *flows, const struct id *grant, flow_cb cb, void *arg)
{
	const struct group *group = find_group(flows, grant);
	size_t count = 0;
	for (const struct flow *flow = group ? group->first : NULL; flow;
		flow = flow->next, count++)
		cb(arg, &flow->tracked);
	return count;
}

/* ---- dumps ---- */

void flows_dump_begin(struct flows *flows)
{
	flows->generation++;
}

/* Its end was lost, and its figures with it. */
static void end_unseen(struct flows *flows, struct flow *flow)
{
	if (!flow->closed) {
		struct tracked last = flow->tracked;
		last.accounted = false;
		(void)flows->hooks->closed(flows->arg, &last, flow->told);
	}
	forget(flows, flow);
}

void flows_dump_entry(
	struct flows *flows, const struct tracked *tracked, bool silent, int64_t now_us)
{
	struct flow *flow = find(flows, tracked);
	if (!tracked->is_granted || id_is_zero(&tracked->grant))
		return;
	if (flow && !id_equal(&flow->tracked.grant, &tracked->grant)) {
		end_unseen(flows, flow); /* the same id and tuple, let in by another grant */
		flow = NULL;
	}
	if (!flow && silent) {
		flow = add(flows, tracked, now_us);
	} else if (!flow) {
		begin(flows, tracked, now_us);
		flow = find(flows, tracked);
	}
	if (!flow)
		return;
	flow->generation = flows->generation;
	if (flow->closed)
		return;
	flow->tracked = *tracked;
	if (tracked->is_over && !silent)
		close_flow(flows, flow, tracked, now_us);
}

static void sweep(struct table_node *node, void *arg)
{
	struct flows *flows = arg;
	struct flow *flow = TABLE_OWNER(node, struct flow, node);
	if (flow->generation != flows->generation)
		end_unseen(flows, flow);
}

void flows_dump_end(struct flows *flows)
{
	table_each(&flows->table, sweep, flows);
}

static void tell(struct table_node *node, void *arg)
{
	struct flows *flows = arg;
	struct flow *flow = TABLE_OWNER(node, struct flow, node);
	if (flow->closed)
		return;
	if (flows->hooks->inventory(flows->arg, &flow->tracked, flow->told))
		flow->told = true;
	if (flow->tracked.is_over)
		flow->closed = flows->hooks->closed(flows->arg, &flow->tracked, flow->told);
}

void flows_inventory(struct flows *flows)
{
	table_each(&flows->table, tell, flows);
}
