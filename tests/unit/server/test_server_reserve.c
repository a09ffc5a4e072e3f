/* Reservations: held without a door until they are committed, also when the disk refuses it, the
 * server restarts or the agent is gone. */
#include "tests/unit/server/world_with_agents.h"

static void reserve(Postern__V1__GrantRequest *request)
{
	request->reserve = true;
	(void)ask(&world, world.ftp, request, &result);
	cr_assert_eq((int)granted(&result)->state, GRANT_RESERVED);
	snprintf(id, sizeof id, "%s", granted(&result)->id);
	result_clear(&result);
}

Test(server_reserve, a_reservation_opens_when_it_is_committed)
{
	Postern__V1__Entry *entry;
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	request.lifetime_ms = 60000;
	reserve(&request);
	cr_expect_eq(COUNT(&world, RESERVED, id), 1);
	cr_expect_eq(COUNT(&world, GRANTED, id), 0);
	cr_expect_eq(gw1.door_count, 0);
	const Postern__V1__Grant *grant = look(&world, id, &result);
	uint32_t port = grant->external_port;
	cr_expect_neq(port, 0, "held");
	cr_expect_leq(grant->left_ms, 30000);
	result_clear(&result);
	(void)renew(&world, id, 0, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_NONE, NULL);
	cr_assert_eq(commit(&world, id, &result), STATUS_OK, "%s", result.err.text);
	cr_expect_eq((int)granted(&result)->state, GRANT_ACTIVE);
	cr_expect_gt(granted(&result)->left_ms, 59000, "its lifetime begins");
	result_clear(&result);
	cr_assert_eq(gw1.door_count, 1);
	cr_expect_eq(gw1.doors[0].external_port, port);
	cr_expect_eq(count_entries(&world, KIND(COMMITTED), id, &entry), 1);
	cr_expect_eq(entry->external_port, port);
	entry_free(entry);
	cr_assert_eq(commit(&world, id, &result), STATUS_OK, "twice is once");
	cr_expect_str_eq(granted(&result)->id, id);
	result_clear(&result);
	agent_settle(&gw1);
	cr_expect_eq(COUNT(&world, COMMITTED, id), 1);
	cr_expect_eq(COUNT(&world, INSTALLED, id), 1);
	end();
}

Test(server_reserve, a_reservation_holds_quota_and_port_until_its_end)
{
	begin("reservation_timeout = 2s\nmax_live_grants_per_filter = 1\n");
	Postern__V1__GrantRequest request = accept_request();
	request.external_port = 2000;
	request.reservation_ms = 3600000;
	int64_t before = clock_mono_us();
	reserve(&request);
	request.reserve = false;
	request.client_port = 4001;
	(void)ask(&world, world.ftp, &request, &result);
	expect_error(&result, STATUS_RESOURCE_EXHAUSTED, REASON_QUOTA, NULL);
	(void)ask(&world, world.admin, &request, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	cr_expect_gt(clock_mono_us() - before, 2000000, "the server's is the most");
	expect_state(&world, id, GRANT_EXPIRED, END_RESERVATION_TIMEOUT);
	(void)commit(&world, id, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, NULL);
	get_grant(&world, &request, id);
	end();
}

Test(server_reserve, a_shorter_reservation)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.reservation_ms = 300;
	reserve(&request);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	expect_state(&world, id, GRANT_EXPIRED, END_RESERVATION_TIMEOUT);
	end();
}

/* I7, I6: it is reserved still, its port too, and a retry gets it. */
Test(server_reserve, a_reservation_survives_a_restart)
{
	struct id request_id = id_new();
	char text[ID_TEXT_SIZE];
	id_format(&request_id, text);
	begin("");
	Postern__V1__GrantRequest request = accept_request();
	request.request_id = text;
	request.external_port = 2000;
	reserve(&request);
	restart();
	cr_expect_eq(gw1.door_count, 0);
	expect_state(&world, id, GRANT_RESERVED, 0);
	(void)ask(&world, world.ftp, &request, &result);
	cr_expect_str_eq(granted(&result)->id, id);
	result_clear(&result);
	Postern__V1__GrantRequest another = accept_request();
	another.client_port = 4001;
	another.external_port = 2000;
	(void)ask(&world, world.ftp, &another, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_EXTERNAL_TAKEN, NULL);
	cr_assert_eq(commit(&world, id, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	restart();
	expect_state(&world, id, GRANT_ACTIVE, 0);
	cr_expect_eq(gw1.door_count, 1);
	end();
}

Test(server_reserve, a_reservation_ends_while_the_server_is_down)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	request.reservation_ms = 500;
	reserve(&request);
	agent_disconnect(&gw1);
	world_stop(&world);
	world_idle(&world, 600);
	world_start(&world);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	expect_state(&world, id, GRANT_EXPIRED, END_RESERVATION_TIMEOUT);
	agent_start(&gw1, NULL, 0);
	end();
}

/* A reservation stands in no line: one that is asked for later has the door until it is there. */
Test(server_reserve, a_reservation_does_not_stand_in_line)
{
	char first[ID_TEXT_SIZE], reserved[ID_TEXT_SIZE];
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	reserve(&request);
	memcpy(reserved, id, sizeof reserved);
	get(60000, 0);
	memcpy(first, id, sizeof first);
	cr_expect_str_eq(gw1.doors[0].grant, first);
	Postern__V1__GrantCommitRequest decided = commit_request(reserved);
	decided.wait = POSTERN__V1__WAIT__WAIT_DECIDED;
	(void)grants_call(&world, world.ftp, "Commit", &decided.base, &result);
	cr_expect_eq((int)granted(&result)->state, GRANT_PENDING);
	result_clear(&result);
	restart(); /* I7: it is the older one, and still not its turn */
	cr_expect_str_eq(gw1.doors[0].grant, first);
	cr_expect_eq(gw1.door_count, 1);
	cr_expect_eq(cancel(&world, world.ftp, first, &result), STATUS_OK);
	result_clear(&result);
	WAIT_UNTIL(&world, gw1.door_count == 1 && strcmp(gw1.doors[0].grant, reserved) == 0);
	end();
}

Test(server_reserve, a_commitment_that_misses_its_deadline_is_withdrawn)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	reserve(&request);
	gw1.holds_acks = true;
	Postern__V1__GrantCommitRequest commitment = commit_request(id);
	start_grants_call(world.ftp, "Commit", &commitment.base, 300, &result);
	WAIT_UNTIL(&world, result.done);
	expect_error(&result, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE, NULL);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, COUNT(&world, ENDED, id) == 1);
	expect_state(&world, id, GRANT_FAILED, END_DEADLINE_MISSED);
	end();
}

Test(server_reserve, a_disk_that_refuses_a_commitment, .timeout = 60)
{
	char later[ID_TEXT_SIZE];
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	reserve(&request);
	break_disk(true);
	(void)commit(&world, id, &result);
	expect_error(&result, STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE, NULL);
	break_disk(false);
	expect_state(&world, id, GRANT_RESERVED, 0);
	cr_expect_eq(gw1.door_count, 0);
	request.reserve = false;
	get_grant(&world, &request, later); /* it left the line */
	cr_expect_eq(cancel(&world, world.ftp, later, &result), STATUS_OK);
	result_clear(&result);
	cr_assert_eq(commit(&world, id, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(COUNT(&world, COMMITTED, id), 1);
	end();
}

Test(server_reserve, a_reservation_ends_with_its_session_and_by_its_filter)
{
	char session[ID_TEXT_SIZE];
	begin("");
	get_session(&world, session);
	Postern__V1__GrantRequest request = grant_request();
	request.session = session;
	reserve(&request);
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_OK);
	result_clear(&result);
	expect_state(&world, id, GRANT_CANCELLED, END_SESSION_ENDED);
	request.session = TEXT("");
	reserve(&request);
	cr_expect_eq(cancel(&world, world.ftp, id, &result), STATUS_OK);
	result_clear(&result);
	expect_state(&world, id, GRANT_CANCELLED, END_CANCELLED_BY_FILTER);
	(void)commit(&world, id, &result);
	expect_error(&result, STATUS_FAILED_PRECONDITION, REASON_ALREADY_ENDED, NULL);
	end();
}

Test(server_reserve, a_commitment_needs_the_gateway)
{
	begin("");
	Postern__V1__GrantRequest request = grant_request();
	reserve(&request);
	lose_agent();
	(void)commit(&world, id, &result);
	expect_error(&result, STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN, NULL);
	expect_state(&world, id, GRANT_RESERVED, 0);
	agent_start(&gw1, NULL, 0);
	cr_assert_eq(commit(&world, id, &result), STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	end();
}
