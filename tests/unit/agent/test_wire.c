/* Doors and primaries as the server tells of them: what cannot be understood is a failure of that
 * door alone, and says why. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent/wire.h"

static Postern__V1__Door outbound(void)
{
	Postern__V1__Door door = POSTERN__V1__DOOR__INIT;
	door.client = (char *)"10.77.0.10";
	door.remote = (char *)"10.77.1.10";
	door.remote_port = 2000;
	door.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	door.max_connections = 5;
	door.connections = 2;
	door.remaining_ms = 60000;
	return door;
}

static Postern__V1__Door inbound(void)
{
	Postern__V1__Door door = outbound();
	door.direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	door.remote_port = 0;
	door.client_port = 2121;
	door.external = (char *)"10.77.2.101";
	door.external_port = 61000;
	return door;
}

static struct addr froms[DOOR_FROMS_MAX];

static struct door read_door(const Postern__V1__Door *message)
{
	struct door door = {0};
	const char *why = wire_read_door(message, froms, &door);
	cr_assert_null(why, "%s", why);
	return door;
}

static void expect_addr(const struct addr *addr, const char *expected)
{
	char text[ADDR_TEXT_SIZE];
	addr_format(addr, text);
	cr_assert_str_eq(text, expected);
}

Test(wire, outbound)
{
	Postern__V1__Door message = outbound();
	struct door door = read_door(&message);
	expect_addr(&door.from, "10.77.0.10");
	expect_addr(&door.to.addr, "10.77.1.10");
	cr_assert_eq(door.to.port, 2000);
	cr_assert_eq(door.to_port_last, 0);
	cr_assert_eq(door.nat, DOOR_AS_IS);
	cr_assert_eq(door.from_count, 0);
	cr_assert_eq(door.transport, IPPROTO_TCP);
	cr_assert_eq(door.max_connections, 5);
	cr_assert_eq(door.connections, 2);
	cr_assert_eq(door.timeout_ms, 60000);
	cr_assert_not(door.oneway);
}

Test(wire, outbound_from_an_external_address)
{
	Postern__V1__Door message = outbound();
	message.external = (char *)"10.77.2.101";
	struct door door = read_door(&message);
	cr_assert_eq(door.nat, DOOR_SNAT);
	expect_addr(&door.outside.addr, "10.77.2.101");
	cr_assert_eq(door.outside.port, 0, "any");
	message.external_port = 4000;
	door = read_door(&message);
	cr_assert_eq(door.outside.port, 4000);
}

Test(wire, a_range)
{
	Postern__V1__Door message = outbound();
	message.remote_port_last = 3023;
	struct door door = read_door(&message);
	cr_assert_eq(door.to.port, 2000);
	cr_assert_eq(door.to_port_last, 3023);
	message.remote_port_last = 2000;
	door = read_door(&message);
	cr_assert_eq(door.to_port_last, 0, "one port is no range");
}

Test(wire, inbound_is_the_other_way_round)
{
	Postern__V1__Door message = inbound();
	struct door door = read_door(&message);
	expect_addr(&door.from, "10.77.1.10");
	expect_addr(&door.to.addr, "10.77.0.10");
	cr_assert_eq(door.to.port, 2121);
	cr_assert_eq(door.nat, DOOR_DNAT);
	expect_addr(&door.outside.addr, "10.77.2.101");
	cr_assert_eq(door.outside.port, 61000);
}

Test(wire, inbound_from_anybody_without_translation)
{
	Postern__V1__Door message = inbound();
	message.remote = message.external = (char *)"";
	message.external_port = 0;
	struct door door = read_door(&message);
	cr_assert_eq(door.from.family, ADDR_NONE);
	cr_assert_eq(door.from_count, 0);
	cr_assert_eq(door.nat, DOOR_AS_IS);
}

Test(wire, several_remotes_are_sorted_and_each_is_there_once)
{
	char *remotes[] = {(char *)"10.77.1.30", (char *)"10.77.1.10", (char *)"10.77.1.30",
		(char *)"10.77.1.20"};
	Postern__V1__Door message = inbound();
	message.remote = (char *)"";
	message.remotes = remotes;
	message.n_remotes = 4;
	struct door door = read_door(&message);
	cr_assert_eq(door.from_count, 3);
	cr_assert_eq(door.from.family, ADDR_NONE);
	expect_addr(&door.froms[0], "10.77.1.10");
	expect_addr(&door.froms[1], "10.77.1.20");
	expect_addr(&door.froms[2], "10.77.1.30");
	remotes[1] = remotes[3] = remotes[0];
	door = read_door(&message);
	cr_assert_eq(door.from_count, 0, "one is no several");
	expect_addr(&door.from, "10.77.1.30");
}

Test(wire, send_only_unless_bidirectional)
{
	Postern__V1__Door message = inbound();
	message.transport = POSTERN__V1__TRANSPORT__TRANSPORT_UDP;
	struct door door = read_door(&message);
	cr_assert(door.oneway);
	message.flags = POSTERN__V1__GRANT_FLAG__GRANT_FLAG_BIDIRECTIONAL;
	door = read_door(&message);
	cr_assert_not(door.oneway);
}

static const char *refusal(const Postern__V1__Door *message)
{
	struct door door = {0};
	const char *why = wire_read_door(message, froms, &door);
	return why ? why : "";
}

#define REFUSED(base, change, says)                                                                \
	do {                                                                                       \
		Postern__V1__Door m = base();                                                      \
		change;                                                                            \
		cr_assert_not_null(strstr(refusal(&m), says), "%s: \"%s\"", #change, refusal(&m)); \
	} while (0)

Test(wire, what_cannot_be_understood_is_refused_with_a_reason)
{
	char *seventeen[17], *mixed[] = {(char *)"10.0.0.1", (char *)"fd77::1"};
	for (size_t i = 0; i < 17; i++)
		seventeen[i] = (char *)"10.0.0.1";
	REFUSED(outbound, m.client = (char *)"", "client's address");
	REFUSED(outbound, m.remote = (char *)"", "remote address");
	REFUSED(outbound, m.remote = (char *)"fd77::1", "different families");
	REFUSED(outbound, m.remote_port = 0, "port is none");
	REFUSED(outbound, m.remote_port = 65536, "port is none");
	REFUSED(outbound, m.remote_port_last = 1999, "range");
	REFUSED(outbound, m.remote_port_last = 65536, "range");
	REFUSED(outbound, m.remote_port_last = 2000 + 1024, "more than 1024");
	REFUSED(outbound, (m.remotes = mixed, m.n_remotes = 1), "one remote address");
	REFUSED(outbound, m.external_port = 7, "needs an external address");
	REFUSED(outbound, m.external = (char *)"x", "external address");
	REFUSED(outbound, m.external = (char *)"fd77::1", "different families");
	REFUSED(outbound, m.transport = 132, "TCP and UDP");
	REFUSED(outbound, m.direction = 2, "outbound and inbound");
	REFUSED(outbound, m.flags = POSTERN__V1__GRANT_FLAG__GRANT_FLAG_NO_KERNEL_MODE, "relay");
	REFUSED(inbound, m.client_port = 0, "client's port");
	REFUSED(inbound, m.client_port = 70000, "client's port");
	REFUSED(inbound, m.remote = (char *)"fd77::1", "different families");
	REFUSED(inbound, m.remote = (char *)"anybody", "remote address");
	REFUSED(inbound, m.remote_port_last = 9, "one port");
	REFUSED(inbound, m.external_port = 0, "not chosen");
	REFUSED(inbound, m.external_port = 65536, "external port");
	REFUSED(inbound, (m.remotes = seventeen, m.n_remotes = 17), "more than 16");
	REFUSED(inbound, (m.remotes = mixed, m.n_remotes = 2), "different families");
}

Test(wire, primaries)
{
	Postern__V1__Flow flow = POSTERN__V1__FLOW__INIT;
	struct tracked wanted;
	flow.client = (char *)"fd77::10";
	flow.client_port = 40000;
	flow.remote = (char *)"fd77:1::10";
	flow.remote_port = 21;
	flow.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	cr_assert(wire_read_primary(&flow, &wanted));
	expect_addr(&wanted.remote.addr, "fd77:1::10");
	cr_assert_eq(wanted.client.port, 40000);
	cr_assert_eq(wanted.remote.port, 21);
	cr_assert_eq(wanted.transport, IPPROTO_TCP);
	flow.client_port = 65536;
	cr_assert_not(wire_read_primary(&flow, &wanted));
	flow.client_port = 1;
	flow.remote = (char *)"10.0.0.1";
	cr_assert_not(wire_read_primary(&flow, &wanted));
	cr_assert_not(wire_read_primary(NULL, &wanted));
}

static struct wire_report written;

static void write_report(const struct report *report)
{
	wire_write_report(report, 9000000, &written);
}

Test(wire, a_translated_flow_carries_both_tuples)
{
	struct report report = {.sequence = 3, .kind = REPORT_FLOW_OPENED, .at_us = 8000000};
	report.grant.bytes[0] = 1;
	report.flow = (struct tracked){.id = 7, .transport = IPPROTO_UDP};
	report.flow.client = (struct endpoint){{ADDR_IPV4, {10, 77, 0, 10}}, 5};
	report.flow.remote = (struct endpoint){{ADDR_IPV4, {10, 77, 1, 10}}, 6};
	write_report(&report);
	cr_assert_null(written.message.reply);
	cr_assert_eq(written.message.age_ms, 1000);
	report.flow.reply_from = report.flow.remote;
	report.flow.reply_to = (struct endpoint){{ADDR_IPV4, {10, 77, 2, 101}}, 8};
	write_report(&report);
	cr_assert_not_null(written.message.reply);
	cr_assert_str_eq(written.message.reply->source, "10.77.1.10");
	cr_assert_eq(written.message.reply->source_port, 6);
	cr_assert_str_eq(written.message.reply->destination, "10.77.2.101");
	cr_assert_eq(written.message.reply->destination_port, 8);
	cr_assert_str_eq(written.message.session, "");
}

Test(wire, the_end_of_a_primary_names_its_session)
{
	struct report report = {.kind = REPORT_PRIMARY_ENDED};
	report.session.bytes[15] = 1;
	write_report(&report);
	cr_assert_str_eq(written.message.session, "00000000-0000-0000-0000-000000000001");
	cr_assert_eq(written.message.kind, POSTERN__V1__REPORT_KIND__REPORT_KIND_PRIMARY_ENDED);
}

Test(wire, failures_say_whether_another_port_may_do)
{
	struct door_failure failures[] = {
		{.external_taken = true, .cause = "taken"}, {.cause = "else"}};
	struct report report = {.failures = failures, .failure_count = 2};
	Postern__V1__Report message = POSTERN__V1__REPORT__INIT;
	struct wire_failures wire;
	cr_assert(wire_failures_init(&wire, 2));
	wire_write_failures(&wire, &report, &message);
	cr_assert_eq(message.n_failures, 2);
	cr_assert(message.failures[0]->external_taken);
	cr_assert_not(message.failures[1]->external_taken);
	cr_assert_str_eq(message.failures[1]->cause, "else");
	wire_failures_fini(&wire);
}
