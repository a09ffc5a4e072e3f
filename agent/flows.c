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

struct flow {
	struct table_node node;
	struct tracked tracked;
	int64_t opened_us; /* monotonic */
	unsigned generation; /* the dump that saw it last, or the one before its birth */
	bool told; /* the server was told that it is open */
	bool closed; /* the server was told that it is over */
};

struct flow_key {
	uint64_t id;
	uint8_t client[16], remote[16];
	uint16_t client_port, remote_port;
	uint8_t transport, family;
	uint8_t none[2];
};

static void make_key(const struct tracked *tracked, struct flow_key *ret_key)
{
	memset(ret_key, 0, sizeof *ret_key);
	ret_key->id = tracked->id;
	memcpy(ret_key->client, tracked->client.addr.bytes, sizeof ret_key->client);
	memcpy(ret_key->remote, tracked->remote.addr.bytes, sizeof ret_key->remote);
	ret_key->client_port = tracked->client.port;
	ret_key->remote_port = tracked->remote.port;
	ret_key->transport = tracked->transport;
	ret_key->family = tracked->client.addr.family;
}

static bool match_flow(const struct table_node *node, const void *key, size_t size)
{
	struct flow_key own;
	make_key(&TABLE_OWNER(node, struct flow, node)->tracked, &own);
	return memcmp(&own, key, size) == 0;
}

void flows_init(struct flows *flows, const struct flow_hooks *hooks, void *arg)
{
	memset(flows, 0, sizeof *flows);
	table_init(&flows->table, match_flow);
	flows->hooks = hooks;
	flows->arg = arg;
}

static void forget(struct flows *flows, struct flow *flow)
{
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
}

size_t flows_count(const struct flows *flows)
{
	return table_count(&flows->table);
}

static struct flow *find(const struct flows *flows, const struct tracked *tracked)
{
	struct flow_key key;
	make_key(tracked, &key);
	struct table_node *node = table_find(&flows->table, &key, sizeof key);
	return node ? TABLE_OWNER(node, struct flow, node) : NULL;
}

static struct flow *add(struct flows *flows, const struct tracked *tracked, int64_t now_us)
{
	struct flow *flow = calloc(1, sizeof *flow);
	struct flow_key key;
	make_key(tracked, &key);
	if (!flow || !table_insert(&flows->table, &flow->node, &key, sizeof key)) {
		free(flow);
		flows->dropped++;
		return NULL;
	}
	flow->tracked = *tracked;
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

/* ---- dumps ---- */

void flows_dump_begin(struct flows *flows)
{
	flows->generation++;
}

void flows_dump_entry(
	struct flows *flows, const struct tracked *tracked, bool silent, int64_t now_us)
{
	struct flow *flow = find(flows, tracked);
	if (id_is_zero(&tracked->grant))
		return;
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
	if (flow->generation == flows->generation)
		return;
	if (!flow->closed) {
		/* Its end was lost, and its figures with it. */
		struct tracked last = flow->tracked;
		last.accounted = false;
		(void)flows->hooks->closed(flows->arg, &last, flow->told);
	}
	forget(flows, flow);
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
