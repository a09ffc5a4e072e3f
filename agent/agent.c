/* Design.
 *
 * Wishes are what the server wants, by grant id; the kernel's maps are what is. A delta goes into
 * both in one transaction; a snapshot is compared with a dump of the kernel (reconcile.c) and only
 * the difference is applied, so that a restart of the agent or of the link disturbs nobody (I7) and
 * what nobody wants is closed (I2).
 *
 * Flows come from conntrack events and, after a restart or an overrun, from a dump; `flows`
 * remembers what was reported. What neither saw (a flow that began and ended while no agent ran)
 * the element's counter tells: a moment after a snapshot the counters are compared with what the
 * server knows, and USES_MISSED makes up the difference (I5). The comparison errs on the side of
 * telling nothing: a flow must not be journalled twice.
 *
 * Boot id: the kernel's boot id and the cookie of the network namespace. Both end exactly when the
 * kernel's doors and flows do. */
#include "agent/agent.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/reconcile.h"
#include "common/clock.h"
#include "common/log.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif
#define AUDIT_US 1000000

static bool match_wish(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct wish, node)->door.grant.bytes, key, size) == 0;
}

static bool match_flow(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(&TABLE_OWNER(node, struct live_flow, node)->flow.id, key, size) == 0;
}

static struct wish *find_wish(const struct agent *agent, const struct id *grant)
{
	struct table_node *node = table_find(&agent->wishes, grant->bytes, sizeof grant->bytes);
	return node ? TABLE_OWNER(node, struct wish, node) : NULL;
}

static struct live_flow *find_flow(const struct agent *agent, uint64_t id)
{
	struct table_node *node = table_find(&agent->flows, &id, sizeof id);
	return node ? TABLE_OWNER(node, struct live_flow, node) : NULL;
}

/* ---- flows ---- */

static struct live_flow *flow_add(struct agent *agent, const struct tracked *tracked)
{
	struct live_flow *flow = calloc(1, sizeof *flow);
	if (!flow || !table_insert(&agent->flows, &flow->node, &tracked->id, sizeof tracked->id)) {
		free(flow);
		agent->reports.dropped++;
		return NULL;
	}
	flow->flow = *tracked;
	return flow;
}

static void flow_remove(struct agent *agent, struct live_flow *flow)
{
	table_remove(&agent->flows, &flow->node);
	free(flow);
}

static void report_flow(struct agent *agent, enum report_kind kind, const struct tracked *tracked)
{
	struct report *report = reports_add(&agent->reports, kind, clock_mono_us());
	if (!report)
		return;
	report->grant = tracked->grant;
	report->flow = *tracked;
	if (agent->link)
		link_wake(agent->link);
}

static void flow_began(struct agent *agent, const struct tracked *tracked)
{
	struct live_flow *known = find_flow(agent, tracked->id);
	if (known && !known->closed)
		return;
	if (known) /* the id is in use again and its DESTROY was lost */
		flow_remove(agent, known);
	if (id_is_zero(&tracked->grant) || !flow_add(agent, tracked))
		return;
	struct wish *wish = find_wish(agent, &tracked->grant);
	if (wish)
		wish->known_flows++;
	report_flow(agent, REPORT_FLOW_OPENED, tracked);
}

static void flow_ended(struct agent *agent, struct live_flow *flow, const struct tracked *last)
{
	struct tracked figures = *last;
	figures.grant = flow->flow.grant;
	if (!figures.accounted)
		(void)conntrack_figures(agent->conntrack, &figures);
	flow->closed = true;
	report_flow(agent, REPORT_FLOW_CLOSED, &figures);
}

static void on_track(void *arg, enum track_event event, const struct tracked *tracked)
{
	struct agent *agent = arg;
	struct live_flow *flow;
	switch (event) {
	case TRACK_NEW:
		flow_began(agent, tracked);
		return;
	case TRACK_UPDATE:
		flow = tracked->is_over ? find_flow(agent, tracked->id) : NULL;
		if (flow && !flow->closed)
			flow_ended(agent, flow, tracked);
		return;
	case TRACK_DESTROY:
		flow = find_flow(agent, tracked->id);
		if (flow && !flow->closed)
			flow_ended(agent, flow, tracked);
		if (flow)
			flow_remove(agent, flow);
		return;
	}
}

struct dumped {
	struct agent *agent;
	struct table seen; /* live_flow copies, by id */
	bool inventory;
};

static void on_dumped(void *arg, enum track_event event, const struct tracked *tracked)
{
	struct dumped *dumped = arg;
	struct agent *agent = dumped->agent;
	(void)event;
	if (id_is_zero(&tracked->grant))
		return;
	struct live_flow *seen = calloc(1, sizeof *seen);
	if (seen) {
		seen->flow = *tracked;
		if (!table_insert(&dumped->seen, &seen->node, &tracked->id, sizeof tracked->id))
			free(seen);
	}
	if (dumped->inventory) {
		struct live_flow *known = find_flow(agent, tracked->id);
		if (!known)
			known = flow_add(agent, tracked);
		report_flow(agent, REPORT_INVENTORY_FLOW, tracked);
		if (tracked->is_over && known && !known->closed)
			flow_ended(agent, known, tracked);
	} else {
		flow_began(agent, tracked);
		struct live_flow *known = find_flow(agent, tracked->id);
		if (tracked->is_over && known && !known->closed)
			flow_ended(agent, known, tracked);
	}
}

static void forget_unseen(struct table_node *node, void *arg)
{
	struct dumped *dumped = arg;
	struct live_flow *flow = TABLE_OWNER(node, struct live_flow, node);
	if (table_find(&dumped->seen, &flow->flow.id, sizeof flow->flow.id))
		return;
	if (!flow->closed && !dumped->inventory) {
		flow->flow.accounted = false;
		report_flow(dumped->agent, REPORT_FLOW_CLOSED,
			&flow->flow); /* its end was lost, and its figures with it */
	}
	flow_remove(dumped->agent, flow);
}

static void free_seen(struct table_node *node, void *arg)
{
	(void)arg;
	free(TABLE_OWNER(node, struct live_flow, node));
}

static void dump_flows(struct agent *agent, bool inventory)
{
	struct dumped dumped = {.agent = agent, .inventory = inventory};
	struct error err;
	table_init(&dumped.seen, match_flow);
	if (conntrack_dump(agent->conntrack, on_dumped, &dumped, &err))
		log_err("conntrack: %s", err.text);
	else
		table_each(&agent->flows, forget_unseen, &dumped);
	table_each(&dumped.seen, free_seen, NULL);
	table_fini(&dumped.seen);
}

static void on_conntrack(void *arg, uint32_t events)
{
	struct agent *agent = arg;
	(void)events;
	if (!conntrack_read(agent->conntrack, on_track, agent))
		return;
	agent->overruns++;
	log_warn("conntrack: events were lost (%llu times): taking stock",
		(unsigned long long)agent->overruns);
	dump_flows(agent, false);
	struct report *report =
		reports_add(&agent->reports, REPORT_EVENTS_OVERRUN, clock_mono_us());
	if (report)
		report->count = 1;
	if (agent->link)
		link_wake(agent->link);
}

void agent_inventory(struct agent *agent)
{
	reports_add(&agent->reports, REPORT_INVENTORY_BEGIN, clock_mono_us());
	dump_flows(agent, true);
	reports_add(&agent->reports, REPORT_INVENTORY_END, clock_mono_us());
	agent->reports.dropped = 0;
}

/* ---- doors ---- */

static void wish_put(struct agent *agent, const struct door *door)
{
	struct wish *wish = find_wish(agent, &door->grant);
	if (!wish) {
		wish = calloc(1, sizeof *wish);
		if (!wish ||
			!table_insert(&agent->wishes, &wish->node, door->grant.bytes,
				sizeof door->grant.bytes)) {
			free(wish);
			return;
		}
	}
	wish->door = *door;
	wish->until_us = clock_mono_us() + (int64_t)door->timeout_ms * 1000;
	wish->known_flows = door->connections;
}

static void wish_remove(struct agent *agent, struct wish *wish)
{
	table_remove(&agent->wishes, &wish->node);
	free(wish);
}

static void report_applied(struct agent *agent, uint64_t sequence, int64_t began_us,
	struct door_failure *failures, size_t count)
{
	struct report *report = reports_add(&agent->reports, REPORT_APPLIED, clock_mono_us());
	if (!report) {
		free(failures);
		return;
	}
	report->sync_sequence = sequence;
	report->kernel_us = (uint64_t)(clock_mono_us() - began_us);
	report->failures = failures;
	report->failure_count = count;
	if (agent->link)
		link_wake(agent->link);
}

/* Into the kernel and into the books. Failures are the server's to hear. */
static void apply(struct agent *agent, uint64_t sequence, const struct door *add, size_t add_count,
	const struct door *remove, size_t remove_count)
{
	struct door_failure *failures = calloc(add_count + 1, sizeof *failures);
	size_t failure_count = 0;
	struct error err = {0};
	int64_t began = clock_mono_us();
	enum status status = failures ? nft_apply(agent->nft, add, add_count, remove, remove_count,
						failures, &failure_count, &err)
				      : error_set(&err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (status)
		log_err("datapath: %zu doors refused: %s", add_count, err.text);
	for (size_t i = 0; status && failures && i < add_count; i++) {
		failures[i].grant = add[i].grant;
		snprintf(failures[i].cause, sizeof failures[i].cause, "%.90s", err.text);
		failure_count = i + 1;
	}
	for (size_t i = 0; i < failure_count; i++) {
		struct wish *wish = find_wish(agent, &failures[i].grant);
		if (wish)
			wish_remove(agent, wish);
	}
	report_applied(agent, sequence, began, failures, failure_count);
}

static void sync_delta(struct agent *agent, uint64_t sequence, const struct door *doors,
	size_t door_count, const struct id *removed, size_t removed_count)
{
	struct door *add = calloc(door_count + 1, sizeof *add);
	struct door *remove = calloc(removed_count + 1, sizeof *remove);
	size_t adds = 0, removes = 0;
	if (!add || !remove) {
		log_err("datapath: out of memory: item %llu was not applied",
			(unsigned long long)sequence);
		free(add);
		free(remove);
		return; /* not acknowledged: the server's deadlines withdraw it */
	}
	for (size_t i = 0; i < removed_count; i++) {
		struct wish *wish = find_wish(agent, &removed[i]);
		if (!wish)
			continue;
		remove[removes++] = wish->door;
		wish_remove(agent, wish);
	}
	for (size_t i = 0; i < door_count; i++) {
		struct door door = doors[i];
		if (!door_uses_left(&door, &door.uses) || door.timeout_ms == 0)
			continue;
		wish_put(agent, &door);
		add[adds++] = door;
	}
	apply(agent, sequence, add, adds, remove, removes);
	free(add);
	free(remove);
}

static bool snapshot_add(struct agent *agent, const struct door *door)
{
	if (agent->snapshot_count == agent->snapshot_capacity) {
		size_t capacity = agent->snapshot_capacity ? agent->snapshot_capacity * 2 : 256;
		struct door *grown = realloc(agent->snapshot, capacity * sizeof *grown);
		if (!grown)
			return false;
		agent->snapshot = grown;
		agent->snapshot_capacity = capacity;
	}
	agent->snapshot[agent->snapshot_count++] = *door;
	return true;
}

static void snapshot_remove(struct agent *agent, const struct id *grant)
{
	for (size_t i = 0; i < agent->snapshot_count; i++) {
		if (id_equal(&agent->snapshot[i].grant, grant)) {
			agent->snapshot[i] = agent->snapshot[--agent->snapshot_count];
			return;
		}
	}
}

static void free_wish(struct table_node *node, void *arg)
{
	wish_remove(arg, TABLE_OWNER(node, struct wish, node));
}

static void audit(void *arg);

static void snapshot_apply(struct agent *agent, uint64_t sequence)
{
	struct held_door *held = NULL;
	size_t held_count = 0;
	struct reconciliation work;
	struct error err;
	if (nft_dump(agent->nft, &held, &held_count, &err)) {
		log_err("datapath: %s", err.text);
		return;
	}
	if (!reconcile(agent->snapshot, agent->snapshot_count, held, held_count, &work)) {
		log_err("datapath: out of memory: the snapshot was not applied");
		free(held);
		return;
	}
	table_each(&agent->wishes, free_wish, agent);
	for (size_t i = 0; i < agent->snapshot_count; i++)
		wish_put(agent, &agent->snapshot[i]);
	log_info("sync: %zu doors wanted, %zu held: %zu kept, %zu added, %zu removed",
		agent->snapshot_count, held_count, work.kept, work.add_count, work.remove_count);
	apply(agent, sequence, work.add, work.add_count, work.remove, work.remove_count);
	loop_timer_set(agent->loop, &agent->audit, clock_mono_us() + AUDIT_US, audit, agent);
	free(work.add);
	free(work.remove);
	free(held);
}

void agent_snapshot_begin(struct agent *agent)
{
	agent->snapshot_count = 0;
}

void agent_sync(struct agent *agent, uint64_t sequence, bool snapshot, bool snapshot_end,
	const struct door *doors, size_t door_count, const struct id *removed, size_t removed_count)
{
	if (!snapshot) {
		sync_delta(agent, sequence, doors, door_count, removed, removed_count);
		return;
	}
	for (size_t i = 0; i < removed_count; i++)
		snapshot_remove(agent, &removed[i]);
	for (size_t i = 0; i < door_count; i++)
		if (!snapshot_add(agent, &doors[i]))
			log_err("datapath: out of memory: a door of the snapshot is left out");
	if (snapshot_end)
		snapshot_apply(agent, sequence);
}

/* Counters that show more flows than anybody told of (I5). Events in flight have arrived by now. */
static void audit(void *arg)
{
	struct agent *agent = arg;
	struct held_door *held = NULL;
	size_t count = 0;
	while (conntrack_read(agent->conntrack, on_track, agent))
		dump_flows(agent, false);
	if (nft_dump(agent->nft, &held, &count, NULL))
		return;
	for (size_t i = 0; i < count; i++) {
		struct wish *wish = find_wish(agent, &held[i].door.grant);
		if (!wish)
			continue;
		/* An element that was added with fewer uses than the grant has counts from there.
		 */
		uint64_t before =
			wish->door.max_connections > held[i].door.uses && held[i].door.uses
			? wish->door.max_connections - held[i].door.uses
			: 0;
		uint64_t total = before + held[i].counter;
		if (total <= wish->known_flows)
			continue;
		struct report *report =
			reports_add(&agent->reports, REPORT_USES_MISSED, clock_mono_us());
		if (!report)
			continue;
		report->grant = wish->door.grant;
		report->count = total - wish->known_flows;
		wish->known_flows = total;
	}
	free(held);
	if (agent->link)
		link_wake(agent->link);
}

/* ---- others' hands on our table ---- */

struct rebuild {
	struct door *doors;
	size_t count;
};

static void collect_wish(struct table_node *node, void *arg)
{
	struct rebuild *rebuild = arg;
	const struct wish *wish = TABLE_OWNER(node, struct wish, node);
	struct door door = wish->door;
	int64_t left = wish->until_us - clock_mono_us();
	door.connections = wish->known_flows;
	if (left < 1000 || !door_uses_left(&door, &door.uses))
		return;
	door.timeout_ms = (uint64_t)left / 1000;
	rebuild->doors[rebuild->count++] = door;
}

static void on_watch(void *arg, uint32_t events)
{
	struct agent *agent = arg;
	struct rebuild rebuild = {0};
	struct error err = {0};
	bool created;
	(void)events;
	if (!nft_watch(agent->nft))
		return;
	size_t failed = 0, wishes = table_count(&agent->wishes);
	struct door_failure *failures = calloc(wishes + 1, sizeof *failures);
	rebuild.doors = calloc(wishes + 1, sizeof *rebuild.doors);
	if (!failures || !rebuild.doors)
		error_set(&err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	/* The table first: from here on everything is dropped again that nobody granted. */
	if (!err.status && !nft_adopt(agent->nft, &created, &err)) {
		table_each(&agent->wishes, collect_wish, &rebuild);
		(void)nft_apply(
			agent->nft, rebuild.doors, rebuild.count, NULL, 0, failures, &failed, &err);
	}
	agent->rebuilds++;
	if (err.status)
		log_err("datapath: another program removed our table and it could not be rebuilt: "
			"%s",
			err.text);
	else
		log_warn("datapath: another program removed our table: rebuilt with %zu doors",
			rebuild.count);
	struct report *report = reports_add(&agent->reports, REPORT_TABLE_REBUILT, clock_mono_us());
	if (report)
		report->count = rebuild.count;
	free(rebuild.doors);
	free(failures);
	if (agent->link)
		link_wake(agent->link);
}

/* ---- start and stop ---- */

static enum status read_boot_id(char text[static 64], struct error *err)
{
	char boot[37] = "";
	uint64_t cookie = 0;
	socklen_t size = sizeof cookie;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, boot, 36) : -1;
	if (fd >= 0)
		close(fd);
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool have = sock >= 0 && getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0;
	if (sock >= 0)
		close(sock);
	if (got != 36 || !have)
		return error_set(err, STATUS_UNIMPLEMENTED,
			"cannot tell one boot from another: Linux 5.14 or newer with /proc is "
			"needed");
	snprintf(text, 64, "%s-%llx", boot, (unsigned long long)cookie);
	return STATUS_OK;
}

static enum status open_kernel(struct agent *agent, struct error *err)
{
	const struct agent_config *config = agent->config;
	struct nft_config nft = {.table = config->table,
		.enforce = config->mode == AGENT_ENFORCE,
		.priority = -10,
		.mark = (uint32_t)config->mark,
		.mark_oneway = (uint32_t)config->mark_oneway};
	bool created = false;
	enum status status = nft_open(&nft, &agent->nft, err);
	/* Listening begins before the first door can open. */
	if (!status)
		status = conntrack_open(nft.mark, &agent->conntrack, err);
	if (!status)
		status = nft_adopt(agent->nft, &created, err);
	if (status)
		return status;
	log_info("datapath: table inet %s %s, mode %s", config->table,
		created ? "created" : "adopted", nft.enforce ? "enforce" : "overlay");
	size_t used = 0;
	conntrack_prepare(agent->problems, sizeof agent->problems);
	used = strlen(agent->problems);
	if (used > 0 && used < sizeof agent->problems - 2)
		agent->problems[used++] = '\n';
	nft_find_problems(agent->nft, agent->problems + used, sizeof agent->problems - used);
	if (agent->problems[0])
		log_warn("datapath: %s", agent->problems);
	return STATUS_OK;
}

enum status agent_start(struct loop *loop, const struct agent_config *config,
	struct agent **ret_agent, struct error *err)
{
	struct agent *agent = calloc(1, sizeof *agent);
	struct id instance = id_new();
	if (!agent)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	agent->loop = loop;
	agent->config = config;
	table_init(&agent->wishes, match_wish);
	table_init(&agent->flows, match_flow);
	reports_init(&agent->reports, config->max_reports);
	id_format(&instance, agent->instance);
	enum status status = read_boot_id(agent->boot_id, err);
	if (!status)
		status = open_kernel(agent, err);
	if (!status)
		status = loop_io_add(loop, &agent->conntrack_io, conntrack_fd(agent->conntrack),
			EPOLLIN, on_conntrack, agent);
	if (!status)
		status = loop_io_add(
			loop, &agent->watch_io, nft_watch_fd(agent->nft), EPOLLIN, on_watch, agent);
	if (!status)
		status = link_start(agent, &agent->link, err);
	if (status) {
		agent_stop(agent);
		return status;
	}
	*ret_agent = agent;
	return STATUS_OK;
}

static void free_flow(struct table_node *node, void *arg)
{
	flow_remove(arg, TABLE_OWNER(node, struct live_flow, node));
}

void agent_stop(struct agent *agent)
{
	if (!agent)
		return;
	link_stop(agent->link);
	loop_timer_clear(agent->loop, &agent->audit);
	loop_io_remove(agent->loop, &agent->conntrack_io);
	loop_io_remove(agent->loop, &agent->watch_io);
	conntrack_close(agent->conntrack);
	nft_close(agent->nft);
	table_each(&agent->wishes, free_wish, agent);
	table_each(&agent->flows, free_flow, agent);
	table_fini(&agent->wishes);
	table_fini(&agent->flows);
	reports_fini(&agent->reports);
	free(agent->snapshot);
	free(agent);
}
