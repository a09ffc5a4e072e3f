/* The books of doors and their audit. I5: what events missed the counter reveals, once. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "agent/doors.h"

static struct doors doors;
static uint64_t told_flows;
static int told_times;
static bool can_tell;

static void setup(void)
{
	doors_init(&doors);
	told_flows = 0;
	told_times = 0;
	can_tell = true;
}

static void teardown(void)
{
	doors_fini(&doors);
}

TestSuite(doors, .init = setup, .fini = teardown);

static struct door door(uint8_t n, uint64_t most, uint64_t made, uint64_t timeout_ms)
{
	struct door door = {.transport = IPPROTO_TCP,
		.max_connections = most,
		.connections = made,
		.timeout_ms = timeout_ms};
	door.grant.bytes[3] = n;
	return door;
}

static struct held_door held(uint8_t n, uint64_t uses, uint64_t counter)
{
	struct held_door held = {.door = door(n, 0, 0, 1), .counter = counter};
	held.door.uses = uses;
	return held;
}

static bool on_missed(void *arg, const struct id *grant, uint64_t count)
{
	(void)arg;
	(void)grant;
	if (!can_tell)
		return false;
	told_flows += count;
	told_times++;
	return true;
}

static bool audit(struct held_door one)
{
	return doors_audit(&doors, &one, 1, 0, on_missed, NULL);
}

Test(doors, lists_what_can_be_had_now)
{
	struct door listed[3], a = door(1, 5, 2, 10), b = door(2, 1, 0, 2000),
			       c = door(3, 1, 0, 50);
	doors_put(&doors, &a, 0);
	doors_put(&doors, &b, 0);
	doors_put(&doors, &c, 0)->retired = true;
	doors_told(&doors, &b.grant, 4);
	cr_assert_eq(doors_list(&doors, listed, 15000), 1, "one has expired, one is retired");
	cr_assert_eq(listed[0].grant.bytes[3], 2);
	cr_assert_eq(listed[0].timeout_ms, 1985);
	cr_assert_eq(listed[0].connections, 4, "what our reports say counts too (I4)");
}

Test(doors, what_is_known_never_shrinks)
{
	struct door first = door(1, 5, 0, 1000), again = door(1, 5, 1, 900);
	doors_put(&doors, &first, 0);
	doors_told(&doors, &first.grant, 3);
	cr_assert_eq(doors_put(&doors, &again, 0)->known, 3);
	again.connections = 4;
	cr_assert_eq(doors_put(&doors, &again, 0)->known, 4);
	cr_assert_eq(doors_count(&doors), 1);
}

Test(doors, a_renewal_moves_the_time_and_nothing_else)
{
	struct door one = door(1, 5, 0, 1000), again = door(1, 5, 0, 9000), wanted;
	struct wish *wish = doors_put(&doors, &one, 0);
	wish->base = 3;
	doors_told(&doors, &one.grant, 2);
	cr_assert_eq(doors_put(&doors, &again, 500000), wish);
	cr_assert_eq(wish->known, 2);
	cr_assert_eq(wish->base, 3);
	cr_assert(doors_wanted(wish, 1500000, &wanted), "its first time is over");
	cr_assert_eq(wanted.timeout_ms, 8000);
	cr_assert_not(doors_wanted(wish, 9500000, &wanted));
}

Test(doors, keeps_all_of_a_door_and_copies_of_its_remotes)
{
	struct addr froms[] = {{ADDR_IPV4, {10, 1, 0, 1}}, {ADDR_IPV4, {10, 1, 0, 2}}};
	struct door one = door(1, 1, 0, 1000), listed, plain = door(1, 1, 0, 1000);
	one.froms = froms;
	one.from_count = 2;
	one.to = (struct endpoint){{ADDR_IPV4, {10, 2, 0, 1}}, 20};
	one.nat = DOOR_DNAT;
	one.outside = (struct endpoint){{ADDR_IPV4, {10, 77, 2, 101}}, 61000};
	one.to_port_last = 30;
	one.oneway = true;
	doors_put(&doors, &one, 0);
	froms[1].bytes[3] = 9;
	cr_assert_eq(doors_list(&doors, &listed, 0), 1);
	cr_assert_eq(listed.from_count, 2);
	cr_assert_eq(listed.froms[1].bytes[3], 2, "its own copy");
	cr_assert(endpoint_equal(&listed.outside, &one.outside));
	cr_assert(endpoint_equal(&listed.to, &one.to));
	cr_assert_eq(listed.nat, DOOR_DNAT);
	cr_assert_eq(listed.to_port_last, 30);
	cr_assert(listed.oneway);
	doors_put(&doors, &plain, 0); /* what is not there any more is freed */
	cr_assert_eq(doors_list(&doors, &listed, 0), 1);
	cr_assert_eq(listed.from_count + listed.to_port_last + listed.nat, 0);
}

/* A gateway may hold a million: this is what the books cost for each. */
Test(doors, a_simple_one_is_small)
{
	cr_assert_leq(sizeof(struct wish), 152, "%zu bytes", sizeof(struct wish));
}

Test(doors, an_unlimited_element_shows_by_its_counter_if_it_is_new)
{
	static const struct {
		const char *what;
		uint64_t known, base, counter, expected;
	} rows[] = {
		{"in place, nothing lost", 5, 0, 5, 0},
		{"in place, events to come", 5, 0, 7, 0},
		{"new, as an earlier agent added it", 5, 0, 2, 3},
		{"new, not used yet", 5, 2, 0, 5},
		{"new, and known as such", 7, 5, 2, 5},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct door one = door((uint8_t)i, 0, rows[i].known, 1000);
		struct held_door element = held((uint8_t)i, 0, rows[i].counter);
		struct wish *wish = doors_put(&doors, &one, 0);
		wish->base = rows[i].base;
		doors_rebase(wish, &element);
		cr_assert_eq(wish->base, rows[i].expected, "%s", rows[i].what);
	}
}

Test(doors, a_snapshot_replaces_the_books)
{
	struct door a = door(1, 1, 0, 1000), b = door(2, 1, 0, 1000);
	doors_put(&doors, &a, 0);
	doors_put(&doors, &b, 0);
	doors_told(&doors, &b.grant, 1);
	doors_snapshot_begin(&doors);
	doors_put(&doors, &b, 0);
	doors_snapshot_end(&doors);
	cr_assert_null(doors_find(&doors, &a.grant));
	cr_assert_eq(doors_find(&doors, &b.grant)->known, 1);
}

Test(doors, a_surplus_counts_when_two_audits_saw_it)
{
	struct door one = door(1, 5, 0, 1000);
	doors_put(&doors, &one, 0);
	cr_assert(audit(held(1, 5, 2)), "look again");
	cr_assert_eq(told_times, 0, "events may be on their way");
	cr_assert_not(audit(held(1, 5, 2)));
	cr_assert_eq(told_flows, 2);
	cr_assert_not(audit(held(1, 5, 2)));
	cr_assert_eq(told_times, 1, "once");
}

Test(doors, late_events_settle_a_surplus)
{
	struct door one = door(1, 5, 0, 1000);
	doors_put(&doors, &one, 0);
	cr_assert(audit(held(1, 5, 2)));
	doors_told(&doors, &one.grant, 2);
	cr_assert_not(audit(held(1, 5, 2)));
	cr_assert_eq(told_times, 0);
}

Test(doors, of_two_surpluses_the_smaller_one_is_sure)
{
	struct door one = door(1, 9, 0, 1000);
	doors_put(&doors, &one, 0);
	cr_assert(audit(held(1, 9, 1)));
	cr_assert(audit(held(1, 9, 4)), "three are new and may be on their way");
	cr_assert_eq(told_flows, 1);
	doors_told(&doors, &one.grant, 3);
	cr_assert_not(audit(held(1, 9, 4)));
	cr_assert_eq(told_flows, 1);
}

Test(doors, an_element_counts_from_the_uses_it_was_added_with)
{
	/* After a restart: the server knows of 3 of 5, the element was added with 2 and has 1. */
	struct door one = door(1, 5, 3, 1000);
	doors_put(&doors, &one, 0);
	cr_assert(audit(held(1, 2, 1)));
	cr_assert_not(audit(held(1, 2, 1)));
	cr_assert_eq(told_flows, 1);
}

Test(doors, an_unlimited_element_counts_from_its_base)
{
	struct door one = door(1, 0, 7, 1000);
	doors_put(&doors, &one, 0)->base = 7;
	cr_assert(audit(held(1, 0, 2)));
	cr_assert_not(audit(held(1, 0, 2)));
	cr_assert_eq(told_flows, 2);
}

Test(doors, what_cannot_be_told_now_is_told_later)
{
	struct door one = door(1, 5, 0, 1000);
	doors_put(&doors, &one, 0);
	can_tell = false;
	cr_assert(audit(held(1, 5, 2)));
	cr_assert(audit(held(1, 5, 2)), "still open");
	can_tell = true;
	cr_assert_not(audit(held(1, 5, 2)));
	cr_assert_eq(told_flows, 2);
}

Test(doors, a_retired_door_tells_its_last_counter)
{
	struct door one = door(1, 5, 0, 1000);
	struct wish *wish = doors_put(&doors, &one, 0);
	wish->retired = true;
	wish->in_total = 2;
	cr_assert(doors_audit(&doors, NULL, 0, 0, on_missed, NULL));
	doors_told(&doors, &one.grant, 1);
	cr_assert_not(doors_audit(&doors, NULL, 0, 0, on_missed, NULL));
	cr_assert_eq(told_flows, 1);
	cr_assert_eq(doors_count(&doors), 0, "and is forgotten");
}

Test(doors, expired_ones_are_forgotten_in_the_end)
{
	struct door one = door(1, 5, 0, 1000);
	doors_put(&doors, &one, 0);
	doors_audit(&doors, NULL, 0, 2000000, on_missed, NULL);
	cr_assert_eq(doors_count(&doors), 1);
	doors_audit(&doors, NULL, 0, 100000000, on_missed, NULL);
	cr_assert_eq(doors_count(&doors), 0);
}

Test(doors, an_endless_lifetime_does_not_overflow)
{
	struct door one = door(1, 5, 0, UINT64_MAX), listed;
	doors_put(&doors, &one, 1000);
	cr_assert_eq(doors_list(&doors, &listed, 2000), 1);
	cr_assert_gt(listed.timeout_ms, 1000000000);
}
