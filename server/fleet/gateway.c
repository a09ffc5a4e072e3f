/* One agent speaks for a gateway: the one whose connection joined last. It is up when its join is
 * on disk and its Sync stream runs. What it must be told waits in fleet/sync.c and is sent by a
 * task of the loop, so that all grants of one commit travel in one item; without credit the items
 * wait and grow, and a slow agent gets fewer and larger ones. */
#include "server/fleet/gateway.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "server/core/grant.h"
#include "server/core/session.h"

struct grant *grant_of_door(struct wanted *door)
{
	return (struct grant *)((char *)door - offsetof(struct grant, door));
}

struct session *session_of_watch(struct wanted *watch)
{
	return (struct session *)((char *)watch - offsetof(struct session, watch));
}

struct grant *grant_of_cut(struct wanted *cut)
{
	return (struct grant *)((char *)cut - offsetof(struct grant, cut));
}

static bool match(const struct table_node *node, const void *key, size_t size)
{
	const char *name = TABLE_OWNER(node, struct gateway, by_name)->record.name;
	return strlen(name) == size && memcmp(name, key, size) == 0;
}

void gateways_init(struct core *core)
{
	table_init(&core->gateways, match);
	core->gateway_end = &core->first_gateway;
}

void gateways_fini(struct core *core)
{
	for (struct gateway *gateway = core->first_gateway, *next; gateway; gateway = next) {
		next = gateway->next;
		while (gateway->pump.queued)
			loop_step(core->loop, 0);
		lines_fini(&gateway->lines);
		externals_fini(&gateway->externals);
		free(gateway);
	}
	table_fini(&core->gateways);
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
	if (!table_insert(&core->gateways, &gateway->by_name, record->name, strlen(record->name))) {
		free(gateway);
		return NULL;
	}
	gateway->down_since_us = clock_mono_us();
	sync_init(&gateway->sync, (uint64_t)clock_real_us());
	lines_init(&gateway->lines);
	externals_init(&gateway->externals);
	flows_init(&gateway->flows, gateway);
	inbox_init(&gateway->inbox);
	*core->gateway_end = gateway;
	core->gateway_end = &gateway->next;
	return gateway;
}

bool gateway_is_up(const struct gateway *gateway)
{
	return gateway->joined && gateway->link;
}

/* ---- its agent ---- */

void gateway_joining(struct gateway *gateway, uint64_t connection)
{
	static const char replaced[] = "another agent joined for this gateway";
	struct agent_link *link = gateway->link;
	if (gateway->connection)
		gateway_lost(gateway, link ? replaced : "its connection ended before it was ready");
	if (link)
		link->end(link->arg, replaced);
	inbox_abandon(gateway);
	gateway->connection = connection;
	gateway->joined = false;
	gateway->obeys = 0; /* until this agent says */
}

void gateway_attach(struct gateway *gateway, struct agent_link *link)
{
	gateway->link = link;
	sync_open(&gateway->sync);
	gateway_pump(gateway);
}

static void forget_leaving(struct gateway *gateway)
{
	struct wanted *door, *watch;
	sync_close(&gateway->sync);
	while ((door = wanted_pop_gone(&gateway->sync.doors, 0)))
		grant_door_gone(grant_of_door(door));
	while ((watch = wanted_pop_gone(&gateway->sync.primaries, 0)))
		session_unwatched(session_of_watch(watch));
}

void gateway_lost(struct gateway *gateway, const char *why)
{
	struct entry entry;
	bool was_up = gateway->joined;
	if (gateway->link)
		gateway->down_since_us = clock_mono_us();
	gateway->link = NULL;
	gateway->joined = false;
	gateway->connection = 0;
	forget_leaving(gateway);
	if (!was_up || gateway->core->stopping)
		return;
	gateway->lost_us = clock_real_us();
	core_entry(&entry, ENTRY_GATEWAY_LOST, "");
	copy_text(entry.gateway, sizeof entry.gateway, gateway->record.name);
	copy_text(entry.detail, sizeof entry.detail, why);
	core_note(gateway->core, &entry);
}

/* ---- its doors ---- */

static void on_pump(void *arg)
{
	gateway_pump(arg);
}

static void post_pump(struct gateway *gateway)
{
	if (gateway->link && !gateway->pump.queued && !gateway->core->stopping)
		loop_post(gateway->core->loop, &gateway->pump, on_pump, gateway);
}

void gateway_pump(struct gateway *gateway)
{
	struct sync_item item;
	while (gateway->link && sync_has_item(&gateway->sync)) {
		struct agent_link *link = gateway->link;
		if (!link->ready(link->arg))
			return; /* called again when there is credit */
		sync_next(&gateway->sync, clock_mono_us(), &item);
		if (link->send(link->arg, &item))
			continue;
		gateway_lost(gateway, "it could not be told what to do");
		link->end(link->arg, "an item could not be sent: begin anew");
	}
}

void gateway_arm(struct gateway *gateway, struct wanted *door)
{
	wanted_add(&gateway->sync.doors, door);
	post_pump(gateway);
}

bool gateway_disarm(struct gateway *gateway, struct wanted *door)
{
	bool out = wanted_remove(&gateway->sync.doors, door);
	if (!out)
		post_pump(gateway);
	return out;
}

void gateway_watch(struct gateway *gateway, struct wanted *watch)
{
	wanted_add(&gateway->sync.primaries, watch);
	post_pump(gateway);
}

bool gateway_unwatch(struct gateway *gateway, struct wanted *watch)
{
	bool out = wanted_remove(&gateway->sync.primaries, watch);
	if (!out)
		post_pump(gateway);
	return out;
}

void gateway_retell(struct gateway *gateway, struct wanted *door)
{
	wanted_retell(&gateway->sync.doors, door);
	post_pump(gateway);
}

void gateway_cut(struct gateway *gateway, struct wanted *cut)
{
	sync_add_cut(&gateway->sync, cut);
	post_pump(gateway);
}

void gateway_obey(struct gateway *gateway, uint64_t revision)
{
	sync_obey(&gateway->sync, revision);
	post_pump(gateway);
}

void gateway_obeys(struct gateway *gateway, uint64_t revision)
{
	if (revision && revision <= gateway->sync.revision_told)
		gateway->obeys = revision;
}

void gateway_applied(
	struct gateway *gateway, uint64_t sequence, uint64_t kernel_us, struct facts *facts)
{
	struct wanted *door, *watch;
	while ((door = wanted_pop_held(&gateway->sync.doors, sequence)))
		grant_installed(grant_of_door(door), kernel_us, facts);
	while ((door = sync_pop_cut(&gateway->sync, sequence)))
		grant_cut_done(grant_of_cut(door), facts);
	while ((door = wanted_pop_gone(&gateway->sync.doors, sequence)))
		grant_door_gone(grant_of_door(door));
	while ((watch = wanted_pop_held(&gateway->sync.primaries, sequence)))
		session_watched(session_of_watch(watch));
	while ((watch = wanted_pop_gone(&gateway->sync.primaries, sequence)))
		session_unwatched(session_of_watch(watch));
}
