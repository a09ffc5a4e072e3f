/* Every allocation of the agent's books fails once, the n-th for n from 1 until none is left to
 * fail: they stay whole. Linked with --wrap. */
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/doors.h"
#include "agent/flows.h"
#include "agent/primaries.h"
#include "agent/reconcile.h"
#include "agent/reports.h"
#include "tests/unit/failing_allocator.h"

static bool allocation_fails(void)
{
	return is_the_nth();
}

static const struct addr froms[] = {{ADDR_IPV4, {10, 1, 0, 1}}, {ADDR_IPV4, {10, 1, 0, 2}}};

static struct door door(uint8_t grant, size_t from_count)
{
	struct door door = {.transport = IPPROTO_TCP, .timeout_ms = 1000, .max_connections = 1};
	door.grant.bytes[0] = grant;
	door.froms = froms;
	door.from_count = from_count;
	return door;
}

static bool keep_doors(void)
{
	struct door one = door(1, 0), several = door(1, 2), other = door(2, 2), listed[2];
	struct doors doors;
	doors_init(&doors);
	bool done = doors_put(&doors, &one, 0) != NULL;
	size_t count = doors_count(&doors);
	if (done && !doors_put(&doors, &several, 0)) {
		done = false;
		cr_assert_eq(doors_list(&doors, listed, 0), 1);
		cr_assert_eq(listed[0].from_count, 0, "as it was");
	}
	done = done && doors_put(&doors, &other, 0);
	if (!done)
		cr_assert_leq(doors_count(&doors), count, "the one that failed is not there");
	doors_fini(&doors);
	return done;
}

static bool compare(void)
{
	struct door desired[] = {door(1, 0), door(2, 2)};
	struct held_door actual[] = {{.door = door(2, 0)}, {.door = door(3, 0)}};
	struct reconciliation work;
	if (!reconcile(desired, 2, actual, 2, 0, &work))
		return false;
	cr_assert_eq(work.add_count, 2);
	cr_assert_eq(work.remove_count, 2);
	reconciliation_fini(&work);
	return true;
}

static struct tracked entry(uint16_t port)
{
	struct tracked entry = {
		.id = port, .transport = IPPROTO_TCP, .is_granted = true, .is_primary = true};
	entry.client.port = port;
	entry.grant.bytes[0] = (uint8_t)(port & 1);
	entry.grant.bytes[1] = 1;
	return entry;
}

static bool on_flow(void *arg, const struct tracked *flow)
{
	(void)arg, (void)flow;
	return true;
}

static bool on_inventory(void *arg, const struct tracked *flow, bool told)
{
	(void)arg, (void)flow, (void)told;
	return true;
}

static bool on_read(void *arg, struct tracked *flow)
{
	(void)arg, (void)flow;
	return true;
}

static const struct flow_hooks flow_hooks = {on_flow, on_inventory, on_inventory, on_read};

static void count_one(void *arg, const struct tracked *flow)
{
	(void)flow;
	(*(size_t *)arg)++;
}

static bool keep_flows(void)
{
	struct flows flows;
	size_t found = 0;
	flows_init(&flows, &flow_hooks, NULL);
	for (uint16_t port = 1; port <= 3; port++) {
		struct tracked one = entry(port);
		flows_event(&flows, TRACK_NEW, &one, 0);
	}
	for (uint16_t port = 1; port <= 2; port++) {
		struct tracked one = entry(port);
		(void)flows_of_grant(&flows, &one.grant, count_one, &found);
	}
	cr_assert_eq(found, flows_count(&flows), "both ways lead to the same flows");
	cr_assert_eq(flows_count(&flows) + flows.dropped, 3);
	bool done = flows.dropped == 0;
	flows_dump_begin(&flows);
	flows_dump_end(&flows);
	cr_assert_eq(flows_count(&flows), 0);
	flows_fini(&flows);
	return done;
}

static bool on_find(void *arg, const struct tracked *wanted, struct tracked *ret_entry)
{
	(void)arg;
	*ret_entry = *wanted;
	return true;
}

static void on_mark(void *arg, const struct tracked *tracked, bool set)
{
	(void)arg, (void)tracked, (void)set;
}

static bool on_ended(void *arg, const struct id *session)
{
	struct reports *reports = arg;
	struct report *report = reports_add(reports, REPORT_PRIMARY_ENDED, 0);
	if (report)
		report->session = *session;
	return report != NULL;
}

static const struct primary_hooks primary_hooks = {on_find, on_mark, on_read, on_ended};

static bool keep_primaries(void)
{
	struct primaries primaries;
	struct reports reports;
	const struct id sessions[] = {{{1}}, {{2}}};
	struct tracked shared = entry(7);
	size_t put = 0;
	reports_init(&reports, 10);
	primaries_init(&primaries, &primary_hooks, &reports);
	for (size_t i = 0; i < 2; i++)
		put += primaries_put(&primaries, &sessions[i], &shared);
	cr_assert_eq(primaries_count(&primaries), put);
	primaries_event(&primaries, TRACK_DESTROY, &shared);
	size_t told = reports.count;
	(void)primaries_check(&primaries, SIZE_MAX); /* what could not be told is kept */
	cr_assert_eq(primaries_count(&primaries) + reports.count, put);
	primaries_fini(&primaries);
	reports_fini(&reports);
	return put == 2 && told == 2;
}

Test(allocation, doors)
{
	cr_assert_geq(fail_each("doors", keep_doors), 4);
}

Test(allocation, reconcile)
{
	cr_assert_geq(fail_each("reconcile", compare), 3);
}

Test(allocation, flows)
{
	cr_assert_geq(fail_each("flows", keep_flows), 6);
}

Test(allocation, primaries)
{
	cr_assert_geq(fail_each("primaries", keep_primaries), 5);
}
