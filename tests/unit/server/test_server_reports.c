/* What agents report, over the wire: once each, whatever is sent again or restarted. */
#include "tests/unit/server/world_with_agents.h"

static struct fake_agent other;

static void restart_server(void)
{
	agent_settle(&gw1);
	restart_world(&world, &gw1);
}

static void expect_entries(size_t established, size_t closed, size_t ended)
{
	cr_expect_eq(COUNT(&world, ESTABLISHED, NULL), established);
	cr_expect_eq(COUNT(&world, CLOSED, NULL), closed);
	cr_expect_eq(COUNT(&world, ENDED, NULL), ended);
}

Test(server_reports, a_flow_uses_the_grant_up)
{
	Postern__V1__Entry *entry;
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.notify = true;
	request.context = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)TEXT("abc")};
	get_grant(&world, &request, id);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	agent_settle(&gw1);
	expect_state(&world, id, GRANT_USED, END_USED_UP);
	cr_expect_eq(show(&world, id).connections, 1);
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 4711, 0);
	agent_settle(&gw1);
	expect_entries(1, 1, 1);
	cr_expect_eq(count_entries(&world, KIND(CLOSED), id, &entry), 1);
	cr_expect_str_eq(entry->filter, "ftp-filter");
	cr_expect(entry->notify);
	cr_expect_eq(entry->context.len, 3);
	cr_expect(entry->flow->accounted);
	cr_expect_eq(entry->flow->bytes_received, 4711);
	cr_expect_eq(entry->flow->client_port, 40000);
	entry_free(entry);
	end();
}

/* I5: the same report again, on the same connection, after a reconnection, after a restart of the
 * server. */
Test(server_reports, repeats_change_nothing)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.flags = GRANT_ALLOW_MULTIPLE;
	get_grant(&world, &request, id);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	uint64_t opened = gw1.reported;
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 4711, 0);
	uint64_t closed = gw1.reported;
	agent_report_missed(&gw1, id, 2, 0);
	uint64_t missed = gw1.reported;
	for (int round = 0; round < 3; round++) {
		agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, opened);
		agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 4711, closed);
		agent_report_missed(&gw1, id, 2, missed);
		agent_settle(&gw1);
		cr_expect_geq(gw1.acknowledged, missed);
		expect_entries(1, 1, 0);
		cr_expect_eq(COUNT(&world, USES_RECOVERED, id), 1);
		cr_expect_eq(show(&world, id).connections, 3);
		if (round == 0)
			agent_disconnect(&gw1);
		else
			restart_server();
		cr_assert_eq(agent_join(&gw1, NULL), STATUS_OK);
		cr_expect_geq(gw1.acknowledged, missed);
	}
	end();
}

/* I5: another process of the agent finds the flow in conntrack, once more in TIME_WAIT. */
Test(server_reports, an_inventory_repeats_nothing)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	struct fake_flow flow = {id, 7};
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	agent_die(&gw1);
	agent_start(&gw1, &flow, 1);
	expect_entries(1, 0, 1);
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 4711, 0);
	agent_settle(&gw1);
	agent_die(&gw1);
	agent_start(&gw1, &flow, 1);
	expect_entries(1, 1, 1);
	restart_server();
	agent_die(&gw1);
	agent_start(&gw1, &flow, 1);
	expect_entries(1, 1, 1);
	end();
}

/* I5: what an inventory lists and nobody reported is a flow like any other. */
Test(server_reports, an_inventory_tells_what_was_missed)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	struct fake_flow flow = {id, 7};
	agent_die(&gw1);
	agent_start(&gw1, &flow, 1);
	expect_entries(1, 0, 1);
	expect_state(&world, id, GRANT_USED, END_USED_UP);
	cr_expect_eq(gw1.door_count, 0, "used up before the snapshot");
	end();
}

Test(server_reports, what_an_inventory_lacks_has_ended_unseen)
{
	enum { FLOWS = 600 }; /* more than one piece */
	Postern__V1__Entry *entry;
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.flags = GRANT_ALLOW_MULTIPLE;
	get_grant(&world, &request, id);
	for (uint64_t i = 1; i <= FLOWS; i++)
		agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, i, 0, 0);
	agent_settle(&gw1);
	struct fake_flow flow = {id, 5};
	agent_die(&gw1);
	agent_start(&gw1, &flow, 1);
	WAIT_UNTIL(&world, COUNT(&world, CLOSED, NULL) == FLOWS - 1);
	cr_expect_eq(count_entries(&world, KIND(CLOSED), id, &entry), FLOWS - 1);
	cr_expect_not(entry->flow->accounted);
	entry_free(entry);
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 5, 1, 0);
	agent_settle(&gw1);
	expect_entries(FLOWS, FLOWS, 0);
	end();
}

Test(server_reports, an_end_without_a_beginning_is_both)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 4711, 0);
	agent_settle(&gw1);
	expect_entries(1, 1, 1);
	end();
}

/* A conntrack id comes again for another flow of the same grant. */
Test(server_reports, a_flow_id_may_come_again)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.flags = GRANT_ALLOW_MULTIPLE;
	get_grant(&world, &request, id);
	for (int i = 0; i < 3; i++) {
		agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
		agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 1, 0);
		agent_settle(&gw1);
	}
	expect_entries(3, 3, 0);
	restart_server();
	agent_die(&gw1);
	agent_start(&gw1, NULL, 0);
	expect_entries(3, 3, 0);
	end();
}

/* The report comes when the grant has long ended and is in nobody's memory any more: filter,
 * notify and context come from the disk. */
Test(server_reports, a_grant_of_the_past_is_read_from_the_disk)
{
	Postern__V1__Entry *entry;
	char unknown[] = "0190f3a2-0000-7000-8000-00000000dead";
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.notify = true;
	request.context = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)TEXT("abc")};
	get_grant(&world, &request, id);
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	restart_server();
	cr_assert_eq(agent_join(&gw1, NULL), STATUS_OK);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0); /* it made it just in time */
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), id, 7, 1, 0);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), unknown, 8, 0, 0);
	agent_report_missed(&gw1, unknown, 1, 0);
	agent_settle(&gw1);
	cr_expect_eq(count_entries(&world, KIND(ESTABLISHED), id, &entry), 1);
	cr_expect_str_eq(entry->filter, "ftp-filter");
	cr_expect(entry->notify);
	cr_expect_eq(entry->context.len, 3);
	entry_free(entry);
	cr_expect_eq(COUNT(&world, CLOSED, id), 1);
	expect_state(&world, id, GRANT_CANCELLED, END_CANCELLED_BY_FILTER);
	cr_expect_eq(show(&world, id).connections, 1);
	/* A door that the journal does not know: said, not hidden. */
	cr_expect_eq(COUNT(&world, ESTABLISHED, unknown), 1);
	cr_expect_eq(gw1.reports_failed, 0);
	end();
}

/* Another gateway's grants are none of its business. */
Test(server_reports, an_agent_speaks_for_its_own_grants)
{
	begin("");
	agent_start(&gw2, NULL, 0);
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	agent_report_flow(&gw2, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_report_missed(&gw2, id, 1, 0);
	agent_settle(&gw2);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	cr_expect_eq(show(&world, id).connections, 0);
	cr_expect_eq(gw1.door_count, 1);
	end();
}

Test(server_reports, nonsense_is_passed_over)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	Postern__V1__Report report = POSTERN__V1__REPORT__INIT;
	report.sequence = ++gw1.reported;
	report.kind = REPORT(FLOW_OPENED); /* without a flow */
	report.grant = id;
	agent_send(&gw1, &report);
	report.sequence = ++gw1.reported;
	report.kind = (Postern__V1__ReportKind)99; /* a newer agent's */
	agent_send(&gw1, &report);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), "not an id", 7, 0, 0);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	cr_expect_eq(gw1.reports_failed, 0);
	cr_expect_eq(gw1.acknowledged, gw1.reported);
	expect_entries(1, 0, 1);
	end();
}

/* A flow is made before the acknowledgement of its door arrives: then the door was installed. */
Test(server_reports, a_use_may_come_before_the_acknowledgement)
{
	begin("");
	gw1.holds_acks = true;
	Postern__V1__GrantRequest request = grant_request();
	start_request(world.ftp, &request, 0, &result);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	snprintf(id, sizeof id, "%s", gw1.doors[0].grant);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	WAIT_UNTIL(&world, result.done);
	cr_expect_str_eq(granted(&result)->id, id);
	result_clear(&result);
	end();
}

/* I7: the server restarts in the middle of everything. */
Test(server_reports, a_restart_of_the_server_is_hitless)
{
	char used[ID_TEXT_SIZE];
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, used);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), used, 7, 0, 0);
	agent_settle(&gw1);
	request.remote_port = 1047;
	request.flags = GRANT_ALLOW_MULTIPLE;
	request.max_connections = 5;
	get_grant(&world, &request, id);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 8, 0, 0);
	agent_settle(&gw1);
	restart_server();
	cr_assert_eq(agent_join(&gw1, NULL), STATUS_OK);
	agent_report_flow(&gw1, REPORT(FLOW_CLOSED), used, 7, 9, 0); /* queued while it was down */
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 9, 0, 0);
	struct fake_flow flows[] = {{id, 8}, {id, 9}};
	agent_inventory(&gw1, flows, 2);
	agent_sync(&gw1);
	agent_settle(&gw1);
	cr_expect_eq(gw1.door_count, 1);
	cr_expect_str_eq(gw1.doors[0].grant, id);
	cr_expect_eq(gw1.doors[0].max_connections, 5);
	cr_expect_eq(gw1.doors[0].connections, 2);
	expect_entries(3, 1, 1);
	cr_expect_eq(COUNT(&world, INSTALLED, id), 1, "it was installed all the time");
	end();
}

/* A new boot id: what was open has ended, what lives is installed again. */
Test(server_reports, a_reboot_closes_flows_and_installs_again)
{
	Postern__V1__Entry *entry;
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.flags = GRANT_ALLOW_MULTIPLE;
	get_grant(&world, &request, id);
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	agent_die(&gw1);
	gw1.boot_id = "boot-2";
	agent_start(&gw1, NULL, 0);
	WAIT_UNTIL(&world, COUNT(&world, CLOSED, id) == 1);
	cr_expect_eq(count_entries(&world, KIND(CLOSED), id, &entry), 1);
	cr_expect_not(entry->flow->accounted);
	cr_expect_not_null(strstr(entry->detail, "rebooted"));
	entry_free(entry);
	cr_expect_eq(COUNT(&world, GATEWAY_REBOOTED, NULL), 1);
	cr_expect_eq(gw1.door_count, 1);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	/* The same conntrack id after the reboot is another flow. */
	agent_report_flow(&gw1, REPORT(FLOW_OPENED), id, 7, 0, 0);
	agent_settle(&gw1);
	expect_entries(2, 1, 0);
	end();
}

Test(server_reports, the_newer_agent_wins)
{
	begin("");
	agent_init(&other, &world, "gw1");
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	agent_start(&other, NULL, 0);
	WAIT_UNTIL(&world, gw1.stream_ends == 1);
	cr_expect_not_null(strstr(gw1.stream_err.text, "another agent"), "%s", gw1.stream_err.text);
	WAIT_UNTIL(&world, !rpc_client_is_ready(gw1.client));
	cr_expect_eq(COUNT(&world, GATEWAY_LOST, NULL), 1);
	cr_expect_eq(other.door_count, 1);
	request.remote_port = 1047;
	get_grant(&world, &request, id);
	cr_expect_eq(other.door_count, 2);
	agent_disconnect(&other);
	end();
}

Test(server_reports, calls_have_their_order)
{
	struct error err;
	begin("");
	agent_init(&other, &world, "gw1");
	/* Not without joining. */
	other.client = world_connect(&world, TOKEN_GW1);
	agent_report_simple(&other, REPORT(INVENTORY_BEGIN));
	agent_settle(&other);
	cr_expect_eq(other.reports_failed, 1);
	agent_disconnect(&other);
	/* Not with a sequence that would make repeats of all others. */
	agent_report_missed(&gw1, "", 1, UINT64_MAX);
	agent_settle(&gw1);
	cr_expect_eq(gw1.reports_failed, 1);
	/* Not for another gateway's token, and not without a boot id. */
	other.boot_id = "";
	cr_expect_eq(agent_join(&other, &err), STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(err.field, "boot_id");
	/* That did not push out the one that is there. */
	Postern__V1__GrantRequest request = grant_request();
	get_grant(&world, &request, id);
	cr_expect_eq(gw1.door_count, 1);
	agent_disconnect(&other);
	end();
}

/* An agent that does not read: deltas grow together and are one item when it reads again. */
Test(server_reports, deltas_coalesce_without_credit)
{
	enum { GRANTS = 40 };
	static struct result results[GRANTS];
	begin("");
	gw1.holds_acks = true;
	Postern__V1__GrantRequest request = grant_request();
	request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	unsigned items = gw1.items;
	for (uint32_t i = 0; i < GRANTS; i++) { /* all in one commit or two */
		request.remote_port = 2000 + i;
		start_request(world.ftp, &request, 0, &results[i]);
	}
	WAIT_UNTIL(&world, gw1.door_count == GRANTS);
	cr_expect_lt(gw1.items - items, GRANTS / 2);
	for (uint32_t i = 0; i < GRANTS; i++) {
		WAIT_UNTIL(&world, results[i].done);
		result_clear(&results[i]);
	}
	end();
}
