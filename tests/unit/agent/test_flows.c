/* Flows: every one is told once (I5), whatever events, dumps and inventories say and in what order.
 */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flows.h"

#define IDS 64

static struct flows flows;
static int opened[IDS], closed[IDS], listed[IDS], accounted[IDS];
static uint64_t last_duration;
static bool queue_full, entry_is_there;
static struct tracked entry, last_listed;

static bool on_opened(void *arg, const struct tracked *flow)
{
	(void)arg;
	if (!queue_full)
		opened[flow->client.port]++;
	return !queue_full;
}

static bool on_inventory(void *arg, const struct tracked *flow, bool told)
{
	(void)arg;
	(void)told;
	listed[flow->client.port]++;
	last_listed = *flow;
	return true;
}

static bool on_closed(void *arg, const struct tracked *flow, bool told)
{
	(void)arg;
	(void)told;
	if (queue_full)
		return false;
	cr_assert_not(id_is_zero(&flow->grant), "an end without its grant");
	closed[flow->client.port]++;
	accounted[flow->client.port] += flow->accounted;
	last_duration = flow->duration_us;
	return true;
}

static bool on_read(void *arg, struct tracked *flow)
{
	(void)arg;
	if (entry_is_there && flow->id == entry.id)
		*flow = entry;
	return entry_is_there;
}

static const struct flow_hooks hooks = {on_opened, on_inventory, on_closed, on_read};

static void setup(void)
{
	flows_init(&flows, &hooks, NULL);
	memset(opened, 0, sizeof opened);
	memset(closed, 0, sizeof closed);
	memset(listed, 0, sizeof listed);
	memset(accounted, 0, sizeof accounted);
	queue_full = entry_is_there = false;
}

static void teardown(void)
{
	flows_fini(&flows);
}

TestSuite(flows, .init = setup, .fini = teardown);

/* Flow n: conntrack id 100 + n, client port n. */
static struct tracked flow(uint16_t n, bool labelled, bool over, bool counted)
{
	struct tracked flow = {.id = 100U + n,
		.transport = IPPROTO_TCP,
		.is_granted = true,
		.is_over = over,
		.accounted = counted};
	flow.client = (struct endpoint){{ADDR_IPV4, {10, 0, 0, 1}}, n};
	flow.remote = (struct endpoint){{ADDR_IPV4, {10, 0, 0, 2}}, 80};
	if (labelled)
		flow.grant.bytes[0] = 7;
	return flow;
}

static void event_at(enum track_event kind, struct tracked tracked, int64_t now_us)
{
	flows_event(&flows, kind, &tracked, now_us);
}

static void event(enum track_event kind, struct tracked tracked)
{
	event_at(kind, tracked, 5000000);
}

static void dump(int count, const struct tracked *entries, bool silent)
{
	flows_dump_begin(&flows);
	for (int i = 0; i < count; i++)
		flows_dump_entry(&flows, &entries[i], silent, 5000000);
	flows_dump_end(&flows);
}

Test(flows, tcp_is_closed_at_its_end_and_not_again)
{
	event(TRACK_NEW, flow(1, true, false, false));
	event(TRACK_UPDATE, flow(1, false, false, false));
	cr_assert_eq(closed[1], 0);
	entry_is_there = true;
	entry = flow(1, true, true, true);
	event(TRACK_UPDATE, flow(1, false, true, false));
	event(TRACK_UPDATE, flow(1, false, true, false));
	event(TRACK_DESTROY, flow(1, false, true, true));
	cr_assert_eq(opened[1], 1);
	cr_assert_eq(closed[1], 1);
	cr_assert_eq(accounted[1], 1, "the entry was read for its figures");
	cr_assert_eq(flows_count(&flows), 0);
}

Test(flows, destroy_closes_what_is_open)
{
	event_at(TRACK_NEW, flow(1, true, false, false), 1000);
	event_at(TRACK_DESTROY, flow(1, false, false, true), 9000);
	cr_assert_eq(closed[1], 1);
	cr_assert_eq(last_duration, 8000, "without the kernel's time stamps ours serve");
}

Test(flows, an_update_reveals_a_flow_whose_new_was_lost)
{
	entry_is_there = true;
	entry = flow(1, true, false, true);
	event(TRACK_UPDATE, flow(1, false, false, false));
	cr_assert_eq(opened[1], 1);
	event(TRACK_UPDATE, flow(1, false, false, false));
	cr_assert_eq(opened[1], 1);
}

Test(flows, unknown_ends_are_counted)
{
	event(TRACK_DESTROY, flow(1, false, false, true));
	event(TRACK_UPDATE, flow(2, false, true, false));
	cr_assert_eq(flows.unknown, 2);
	cr_assert_eq(flows_count(&flows), 0);
}

Test(flows, a_mark_without_a_label_is_not_ours)
{
	entry_is_there = true;
	entry = flow(1, false, false, true);
	event(TRACK_NEW, flow(1, false, false, false));
	cr_assert_eq(flows_count(&flows), 0);
	dump(1, &entry, false);
	cr_assert_eq(flows_count(&flows), 0);
}

Test(flows, two_flows_may_share_a_hash)
{
	struct tracked a = flow(1, true, false, false), b = flow(2, true, false, false);
	b.id = a.id;
	event(TRACK_NEW, a);
	event(TRACK_NEW, b);
	cr_assert_eq(opened[1] + opened[2], 2);
	b.accounted = true;
	event(TRACK_DESTROY, b);
	cr_assert_eq(closed[1], 0);
	cr_assert_eq(closed[2], 1);
}

Test(flows, the_same_tuple_again_is_another_flow)
{
	event(TRACK_NEW, flow(1, true, false, false));
	event(TRACK_UPDATE, flow(1, false, true, true));
	event(TRACK_NEW, flow(1, true, false, false)); /* the DESTROY in between was lost */
	cr_assert_eq(opened[1], 2);
	event(TRACK_DESTROY, flow(1, false, false, true));
	cr_assert_eq(closed[1], 2);
}

Test(flows, a_dump_finds_what_began_and_what_ended_unseen)
{
	event(TRACK_NEW, flow(1, true, false, false));
	event(TRACK_NEW, flow(2, true, false, false));
	event(TRACK_NEW, flow(3, true, false, false));
	event(TRACK_UPDATE, flow(3, false, true, true));
	struct tracked entries[] = {
		flow(2, true, true, true), flow(3, true, true, true), flow(4, true, false, true)};
	dump(3, entries, false);
	cr_assert_eq(closed[1], 1);
	cr_assert_eq(accounted[1], 0, "its figures went with it");
	cr_assert_eq(closed[2], 1);
	cr_assert_eq(accounted[2], 1);
	cr_assert_eq(closed[3], 1, "told before");
	cr_assert_eq(opened[4], 1);
	dump(3, entries, false);
	cr_assert_eq(opened[1] + opened[2] + opened[3] + opened[4], 4);
	cr_assert_eq(closed[1] + closed[2] + closed[3] + closed[4], 3);
}

Test(flows, events_during_a_dump_are_not_swept_away)
{
	flows_dump_begin(&flows);
	event(TRACK_NEW, flow(1, true, false, false));
	flows_dump_end(&flows);
	cr_assert_eq(closed[1], 0);
	cr_assert_eq(flows_count(&flows), 1);
}

Test(flows, the_first_dump_waits_for_the_inventory)
{
	struct tracked entries[] = {flow(1, true, false, true), flow(2, true, true, true)};
	dump(2, entries, true);
	cr_assert_eq(opened[1] + opened[2] + closed[1] + closed[2], 0);
	flows_inventory(&flows);
	cr_assert_eq(listed[1], 1);
	cr_assert_eq(listed[2], 1, "the server may never have heard of it");
	cr_assert_eq(closed[1], 0);
	cr_assert_eq(closed[2], 1);
	event(TRACK_DESTROY, flow(2, false, true, true));
	cr_assert_eq(closed[2], 1);
	flows_inventory(&flows);
	cr_assert_eq(listed[1], 2, "every inventory lists what is open");
}

Test(flows, closed_ones_are_in_no_inventory)
{
	event(TRACK_NEW, flow(1, true, false, false));
	event(TRACK_UPDATE, flow(1, false, true, true));
	flows_inventory(&flows);
	cr_assert_eq(listed[1], 0);
}

static uint64_t ports_seen;

static void on_of_grant(void *arg, const struct tracked *flow)
{
	(void)arg;
	ports_seen |= 1ULL << flow->client.port;
}

static uint64_t ports_of(uint8_t grant, size_t expected)
{
	struct id id = {{grant}};
	ports_seen = 0;
	cr_assert_eq(flows_of_grant(&flows, &id, on_of_grant, NULL), expected);
	return ports_seen;
}

Test(flows, are_found_by_their_grant)
{
	struct tracked other = flow(4, true, false, false);
	other.grant.bytes[0] = 8;
	cr_assert_eq(ports_of(7, 0), 0);
	for (uint16_t n = 1; n <= 3; n++)
		event(TRACK_NEW, flow(n, true, false, false));
	event(TRACK_NEW, other);
	cr_assert_eq(ports_of(7, 3), 0xe);
	cr_assert_eq(ports_of(8, 1), 0x10);
	event(TRACK_UPDATE, flow(1, false, true, true)); /* over, and still in conntrack */
	event(TRACK_DESTROY, flow(2, false, false, true)); /* from the middle of the list */
	cr_assert_eq(ports_of(7, 2), 0xa);
	event(TRACK_DESTROY, flow(3, false, false, true));
	event(TRACK_DESTROY, flow(1, false, true, true));
	cr_assert_eq(ports_of(7, 0), 0);
	cr_assert_eq(ports_of(8, 1), 0x10);
}

Test(flows, primaries_of_sessions_are_none)
{
	struct tracked primary = flow(1, true, false, true);
	primary.is_granted = false;
	primary.is_primary = true;
	entry_is_there = true;
	entry = primary;
	event(TRACK_NEW, primary);
	event(TRACK_UPDATE, primary);
	event(TRACK_DESTROY, primary);
	dump(1, &primary, false);
	cr_assert_eq(opened[1] + closed[1], 0);
	cr_assert_eq(flows.unknown, 0);
	primary.is_granted = true; /* let in by a door, and a primary: both */
	event(TRACK_NEW, primary);
	cr_assert_eq(opened[1], 1);
}

Test(flows, keep_both_tuples)
{
	struct tracked translated = flow(1, true, false, false);
	translated.reply_from = translated.remote;
	translated.reply_to = (struct endpoint){{ADDR_IPV4, {10, 77, 2, 101}}, 999};
	event(TRACK_NEW, translated);
	flows_inventory(&flows);
	cr_assert_eq(last_listed.reply_to.port, 999);
	cr_assert(tracked_is_translated(&last_listed));
}

Test(flows, the_same_entry_of_another_grant_is_another_flow)
{
	struct tracked again = flow(1, true, false, true);
	event(TRACK_NEW, flow(1, true, false, false));
	again.grant.bytes[0] = 8;
	dump(1, &again, false); /* DESTROY and NEW in between were lost */
	cr_assert_eq(closed[1], 1);
	cr_assert_eq(opened[1], 2);
	cr_assert_eq(ports_of(7, 0), 0);
	cr_assert_eq(ports_of(8, 1), 2);
}

Test(flows, a_full_queue_loses_nothing_that_an_inventory_cannot_tell)
{
	queue_full = true;
	event(TRACK_NEW, flow(1, true, false, false));
	event(TRACK_UPDATE, flow(1, false, true, true));
	cr_assert_eq(opened[1] + closed[1], 0);
	queue_full = false;
	flows_inventory(&flows);
	cr_assert_eq(listed[1], 1);
	cr_assert_eq(closed[1], 1);
	cr_assert_eq(accounted[1], 1, "with its figures");
}

/* Random lives of flows; a quarter of the events is lost. */
struct life {
	bool born, alive, over;
	bool seen; /* by an event or a dump */
};

static void live_on(struct life *life, uint16_t n)
{
	bool lost = random() % 4 == 0;
	if (!life->born) {
		life->born = life->alive = true;
		life->seen = !lost;
		if (!lost)
			event(TRACK_NEW, flow(n, true, false, false));
	} else if (life->alive && !life->over && random() % 2) {
		life->over = true;
		life->seen |= !lost;
		entry_is_there = true;
		entry = flow(n, true, true, true);
		if (!lost)
			event(TRACK_UPDATE, flow(n, false, true, false));
		entry_is_there = false;
	} else if (life->alive) {
		life->alive = false;
		if (!lost)
			event(TRACK_DESTROY, flow(n, false, life->over, true));
	}
}

static void dump_lives(struct life *lives)
{
	flows_dump_begin(&flows);
	for (uint16_t n = 0; n < IDS; n++) {
		struct tracked one = flow(n, true, lives[n].over, true);
		lives[n].seen |= lives[n].alive;
		if (lives[n].alive)
			flows_dump_entry(&flows, &one, false, 0);
	}
	flows_dump_end(&flows);
}

/* At the end every flow was opened and closed once, except those that nothing ever told of. */
Test(flows, model)
{
	for (unsigned seed = 1; seed <= 300; seed++) {
		struct life lives[IDS] = {0};
		teardown();
		setup();
		srandom(seed);
		for (int step = 0; step < 400; step++) {
			uint16_t n = (uint16_t)(random() % IDS);
			live_on(&lives[n], n);
			if (random() % 40 == 0)
				dump_lives(lives);
		}
		dump(0, NULL, false);
		cr_assert_eq(flows_count(&flows), 0);
		for (int n = 0; n < IDS; n++) {
			cr_assert_eq(opened[n], lives[n].seen, "seed %u flow %d", seed, n);
			cr_assert_eq(closed[n], lives[n].seen, "seed %u flow %d", seed, n);
		}
	}
}
