/* Inbound grants, external addresses and ports, ranges: the whole server with a scripted agent. */
#include "tests/unit/server/world_with_agents.h"

static void expect_refused(const Postern__V1__GrantRequest *request, enum status status,
	enum reason reason, const char *field)
{
	(void)ask(&world, world.ftp, request, &result);
	expect_error(&result, status, reason, field);
}

/* I1: the chosen port is on disk before the gateway hears of it. */
Test(server_inbound, the_server_chooses_a_port_and_says_which)
{
	Postern__V1__Entry *entry;
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	(void)ask(&world, world.ftp, &request, &result);
	const Postern__V1__Grant *grant = granted(&result);
	cr_expect_eq((int)grant->direction, POSTERN__V1__DIRECTION__DIRECTION_INBOUND);
	cr_expect_eq(grant->client_port, 4000);
	cr_expect_str_eq(grant->external, EXTERNAL);
	cr_expect(grant->external_port >= 30000 && grant->external_port <= 30009);
	cr_assert_eq(gw1.door_count, 1);
	const struct fake_door *door = &gw1.doors[0];
	cr_expect(door->inbound);
	cr_expect_str_eq(door->client, "10.77.1.2");
	cr_expect_eq(door->client_port, 4000);
	cr_expect_str_eq(door->remote, "10.77.2.2");
	cr_expect_eq(door->port, 0);
	cr_expect_str_eq(door->external, EXTERNAL);
	cr_expect_eq(door->external_port, grant->external_port);
	cr_expect_eq(count_entries(&world, KIND(GRANTED), grant->id, &entry), 1);
	cr_expect_eq((int)entry->direction, POSTERN__V1__DIRECTION__DIRECTION_INBOUND);
	cr_expect_eq(entry->client_port, 4000);
	cr_expect_eq(entry->external_port, grant->external_port);
	entry_free(entry);
	result_clear(&result);
	end();
}

Test(server_inbound, without_an_external_address_nothing_is_translated)
{
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	request.external = TEXT("");
	request.client = TEXT("fd77:1::2");
	request.remote = TEXT("fd77:2::2");
	get_grant(&world, &request, id);
	cr_expect_str_eq(gw1.doors[0].external, "");
	cr_expect_eq(gw1.doors[0].external_port, 0);
	cr_expect_str_eq(gw1.doors[0].client, "fd77:1::2");
	end();
}

Test(server_inbound, several_remotes_or_anybody)
{
	char *remotes[] = {TEXT("10.77.2.9"), TEXT("10.77.2.3"), TEXT("10.77.2.4")};
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	request.remote = TEXT("");
	request.n_remotes = 3;
	request.remotes = remotes;
	get_grant(&world, &request, id);
	cr_expect_str_eq(gw1.doors[0].remote, "");
	cr_assert_eq(gw1.doors[0].remote_count, 3);
	cr_expect_str_eq(gw1.doors[0].remotes[0], "10.77.2.3", "sorted");
	cr_expect_str_eq(gw1.doors[0].remotes[2], "10.77.2.9");
	const Postern__V1__Grant *grant = look(&world, id, &result);
	cr_expect_eq(grant->n_remotes, 3);
	result_clear(&result);
	Postern__V1__GrantListRequest list = POSTERN__V1__GRANT_LIST_REQUEST__INIT;
	list.all = true;
	(void)grants_call(&world, world.ftp, "List", &list.base, &result);
	cr_assert_eq(result.item_count, 1);
	grant = ((Postern__V1__GrantReply *)result.items[0])->grant;
	cr_assert_eq(grant->n_remotes, 3, "from the disk too");
	cr_expect_str_eq(grant->remotes[1], "10.77.2.4");
	cr_expect_eq(grant->client_port, 4000);
	result_clear(&result);
	/* The gateway sees the same destination: it waits in line. */
	request.n_remotes = 0;
	request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	(void)ask(&world, world.ftp, &request, &result);
	cr_expect_eq((int)granted(&result)->state, GRANT_PENDING);
	result_clear(&result);
	cr_expect_eq(gw1.door_count, 1);
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	WAIT_UNTIL(&world, gw1.door_count == 1 && gw1.doors[0].remote_count == 0);
	end();
}

Test(server_inbound, errors_name_the_field)
{
	char *many[17], *twice[] = {TEXT("10.77.2.3"), TEXT("10.77.2.3")}, *bad[] = {TEXT("x")};
	for (int i = 0; i < 17; i++)
		many[i] = TEXT("10.77.2.3");
	begin("");
	Postern__V1__GrantRequest request;
#define WRONG(set, name)                                                                           \
	do {                                                                                       \
		request = accept_request();                                                        \
		set;                                                                               \
		expect_refused(&request, STATUS_INVALID_ARGUMENT, REASON_NONE, name);              \
	} while (0)
	WRONG(request.client_port = 0, "client_port");
	WRONG(request.client_port = 65536, "client_port");
	WRONG(request.remote_port = 20, "remote_port");
	WRONG(request.remote_port_last = 20, "remote_port");
	WRONG(request.remote_port_last = 65536, "remote_port_last");
	WRONG(request.external_port = 65536, "external_port");
	WRONG(request.external = TEXT("fd77::1"), "external");
	WRONG(request.external = TEXT("x"), "external");
	WRONG((request.external = TEXT(""), request.external_port = 5), "external");
	WRONG((request.n_remotes = 1, request.remotes = bad), "remotes");
	WRONG((request.n_remotes = 17, request.remotes = many, request.remote = TEXT("")),
		"remotes");
	WRONG((request.n_remotes = 2, request.remotes = twice, request.remote = TEXT("")),
		"remotes");
	WRONG((request.n_remotes = 1, request.remotes = many), "remotes");
	WRONG(request.direction = (Postern__V1__Direction)7, "direction");
	WRONG(request.transport = (Postern__V1__Transport)1, "transport");
	cr_expect_eq(COUNT(&world, GRANTED, NULL), 0);
	end();
}

Test(server_inbound, a_port_belongs_to_one_live_grant)
{
	char first[ID_TEXT_SIZE];
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	request.external_port = 2000;
	get_grant(&world, &request, id);
	memcpy(first, id, sizeof first);
	request.client_port = 4001;
	(void)ask(&world, world.ftp, &request, &result);
	cr_expect_str_eq(result.err.grant, first, "it is the caller's own");
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	(void)ask(&world, world.admin, &request, &result);
	cr_expect_str_eq(result.err.grant, "", "it is another's");
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	/* Outbound flows leave from there: taken as well. */
	Postern__V1__GrantRequest outbound = grant_request();
	outbound.external = TEXT(EXTERNAL);
	outbound.external_port = 2000;
	expect_refused(&outbound, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	outbound.external_port = 0;
	get_grant(&world, &outbound, id);
	/* After a restart the books say the same; when the holder has ended they do not. */
	restart();
	expect_refused(&request, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	cr_expect_eq(cancel(&world, world.ftp, first, &result), STATUS_OK);
	result_clear(&result);
	get_grant(&world, &request, id);
	cr_expect_eq(agent_door(&gw1, id)->external_port, 2000);
	end();
}

Test(server_inbound, every_port_of_the_range_then_none)
{
	bool seen[10] = {false};
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	for (uint32_t i = 0; i < 10; i++) {
		request.client_port = 4000 + i;
		get_grant(&world, &request, id);
		uint32_t port = agent_door(&gw1, id)->external_port - 30000;
		cr_assert_lt(port, 10);
		cr_assert_not(seen[port], "given twice");
		seen[port] = true;
	}
	request.client_port = 4010;
	expect_refused(&request, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	get_grant(&world, &request, id);
	end();
}

Test(server_inbound, an_agent_without_a_range)
{
	begin_without_agents("");
	gw1.first_port = gw1.last_port = 0;
	agent_start(&gw1, NULL, 0);
	Postern__V1__GrantRequest request = accept_request();
	expect_refused(&request, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	request.external_port = 2000;
	get_grant(&world, &request, id);
	end();
}

/* I6: the retry does not know the port either, and gets it; also after a restart, also of an ended
 * grant. */
Test(server_inbound, a_retry_gets_the_same_port)
{
	char again[ID_TEXT_SIZE];
	struct id request_id = id_new();
	char text[ID_TEXT_SIZE];
	id_format(&request_id, text);
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	request.request_id = text;
	get_grant(&world, &request, id);
	get_grant(&world, &request, again);
	cr_expect_str_eq(again, id);
	uint32_t port = gw1.doors[0].external_port;
	restart();
	cr_expect_eq(gw1.doors[0].external_port, port);
	(void)ask(&world, world.ftp, &request, &result);
	cr_expect_str_eq(granted(&result)->id, id);
	cr_expect_eq(granted(&result)->external_port, port);
	result_clear(&result);
	Postern__V1__GrantRequest other = request;
	other.external_port = port;
	expect_refused(&other, STATUS_ALREADY_EXISTS, REASON_NONE, "request_id");
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	restart();
	(void)ask(&world, world.ftp, &request, &result);
	cr_expect_str_eq(granted(&result)->id, id);
	cr_expect_eq(granted(&result)->external_port, port);
	result_clear(&result);
	expect_refused(&other, STATUS_ALREADY_EXISTS, REASON_NONE, "request_id");
	end();
}

/* I1: the other port is journalled before the door is told again. */
Test(server_inbound, a_port_in_use_is_exchanged_for_another)
{
	Postern__V1__Entry *entry;
	begin("");
	gw1.holds_acks = true;
	Postern__V1__GrantRequest request = accept_request();
	start_request(world.ftp, &request, 0, &result);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	memcpy(id, gw1.doors[0].grant, sizeof id);
	gw1.port_in_use = gw1.doors[0].external_port;
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	cr_expect_neq(gw1.doors[0].external_port, gw1.port_in_use);
	cr_assert_eq(count_entries(&world, KIND(EXTERNAL_CHANGED), id, &entry), 1);
	cr_expect_eq(entry->external_port, gw1.doors[0].external_port);
	cr_expect_not_null(strstr(entry->detail, "port in use"));
	entry_free(entry);
	cr_expect_eq(result.done, 0);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq((int)granted(&result)->state, GRANT_ACTIVE);
	cr_expect_eq(granted(&result)->external_port, gw1.doors[0].external_port);
	result_clear(&result);
	end();
}

/* The range has one port, and it is in use: refused by the gateway, at last. */
Test(server_inbound, no_other_port_is_a_refusal)
{
	begin_without_agents("");
	gw1.last_port = 30000;
	gw1.port_in_use = 30000;
	agent_start(&gw1, NULL, 0);
	Postern__V1__GrantRequest request = accept_request();
	expect_refused(&request, STATUS_FAILED_PRECONDITION, REASON_GATEWAY_REFUSED, NULL);
	cr_expect_eq(COUNT(&world, EXTERNAL_CHANGED, NULL), 0);
	/* One that was asked for is not exchanged. */
	gw1.port_in_use = 2000;
	request.external_port = 2000;
	expect_refused(&request, STATUS_FAILED_PRECONDITION, REASON_GATEWAY_REFUSED, NULL);
	cr_expect_eq(COUNT(&world, EXTERNAL_CHANGED, NULL), 0);
	cr_expect_eq(COUNT(&world, ENDED, NULL), 2);
	end();
}

/* After a restart in the middle the choice is still the server's to change (I7). */
Test(server_inbound, a_port_is_exchanged_after_a_restart)
{
	begin("");
	gw1.holds_acks = true;
	Postern__V1__GrantRequest request = accept_request();
	request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	get_grant(&world, &request, id);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	gw1.port_in_use = gw1.doors[0].external_port;
	restart_world(&world, &gw1);
	gw1.holds_acks = false;
	agent_start(&gw1, NULL, 0);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	agent_settle(&gw1);
	cr_expect_neq(gw1.doors[0].external_port, gw1.port_in_use);
	cr_expect_eq(COUNT(&world, EXTERNAL_CHANGED, id), 1);
	expect_state(&world, id, GRANT_ACTIVE, 0);
	const Postern__V1__Grant *grant = look(&world, id, &result);
	cr_expect_eq(grant->external_port, gw1.doors[0].external_port);
	result_clear(&result);
	end();
}

/* The disk refuses the other choice: the grant ends as if there were none. */
Test(server_inbound, a_disk_that_refuses_the_other_port, .timeout = 60)
{
	begin("");
	gw1.holds_acks = true;
	Postern__V1__GrantRequest request = accept_request();
	request.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	get_grant(&world, &request, id);
	WAIT_UNTIL(&world, gw1.door_count == 1);
	gw1.port_in_use = gw1.doors[0].external_port;
	break_disk(true);
	agent_apply(&gw1, gw1.item);
	world_idle(&world, 200);
	cr_expect_eq(gw1.door_count, 0, "not told again");
	break_disk(false);
	agent_settle(&gw1);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	expect_state(&world, id, GRANT_FAILED, END_GATEWAY_REFUSED);
	cr_expect_eq(COUNT(&world, EXTERNAL_CHANGED, id), 0);
	end();
}

static void report_inbound_flow(Postern__V1__ReportKind kind)
{
	Postern__V1__Report report = POSTERN__V1__REPORT__INIT;
	Postern__V1__Flow flow = POSTERN__V1__FLOW__INIT;
	Postern__V1__ReplyTuple reply = POSTERN__V1__REPLY_TUPLE__INIT;
	report.sequence = ++gw1.reported;
	report.kind = kind;
	report.grant = id;
	report.flow = &flow;
	flow.id = 7;
	flow.client = TEXT("10.77.2.2");
	flow.client_port = 20;
	flow.remote = TEXT(EXTERNAL);
	flow.remote_port = gw1.doors[0].external_port;
	flow.transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	flow.bytes_sent = 1000; /* by the remote, who opened it */
	flow.bytes_received = 10;
	flow.accounted = kind == REPORT(FLOW_CLOSED);
	if (kind != REPORT(FLOW_CLOSED)) { /* its end need not know the translation any more */
		report.reply = &reply;
		reply.source = TEXT("10.77.1.2");
		reply.source_port = 4000;
		reply.destination = TEXT("10.77.2.2");
		reply.destination_port = 20;
	}
	agent_send(&gw1, &report);
	agent_settle(&gw1);
}

static void expect_turned(const Postern__V1__Entry *entry, uint32_t port)
{
	cr_expect_str_eq(entry->flow->client, "10.77.1.2");
	cr_expect_eq(entry->flow->client_port, 4000);
	cr_expect_str_eq(entry->flow->remote, "10.77.2.2");
	cr_expect_eq(entry->flow->remote_port, 20);
	cr_expect_str_eq(entry->flow->external, EXTERNAL);
	cr_expect_eq(entry->flow->external_port, port);
}

Test(server_inbound, flows_are_told_as_client_and_remote)
{
	Postern__V1__Entry *entry;
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	request.flags = GRANT_ALLOW_MULTIPLE;
	get_grant(&world, &request, id);
	uint32_t port = gw1.doors[0].external_port;
	report_inbound_flow(REPORT(FLOW_OPENED));
	cr_assert_eq(count_entries(&world, KIND(ESTABLISHED), id, &entry), 1);
	expect_turned(entry, port);
	entry_free(entry);
	restart_world(&world, &gw1);
	agent_join(&gw1, NULL);
	report_inbound_flow(REPORT(FLOW_CLOSED));
	cr_assert_eq(count_entries(&world, KIND(CLOSED), id, &entry), 1);
	expect_turned(entry, port);
	cr_expect_eq(entry->flow->bytes_received, 1000, "by the client");
	cr_expect_eq(entry->flow->bytes_sent, 10);
	entry_free(entry);
	end();
}

Test(server_inbound, all_flags_mean_the_same)
{
	begin("unused_timeout = 1s\n");
	Postern__V1__GrantRequest request = accept_request();
	request.flags = GRANT_TIMEOUT | GRANT_ALLOW_MULTIPLE;
	expect_refused(&request, STATUS_INVALID_ARGUMENT, REASON_NONE, "flags");
	request.flags = GRANT_TIMEOUT;
	request.lifetime_ms = 5000;
	(void)ask(&world, world.ftp, &request, &result);
	cr_expect(granted(&result)->lifetime_clamped);
	cr_expect_eq(granted(&result)->lifetime_ms, 1000);
	snprintf(id, sizeof id, "%s", granted(&result)->id);
	result_clear(&result);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	expect_state(&world, id, GRANT_EXPIRED, END_UNUSED_TIMEOUT);
	end();
}
