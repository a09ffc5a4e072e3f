/* Sessions that are tied to a primary connection, which the gateway's agent looks for and follows.
 */
#include "tests/unit/server/world_with_agents.h"

static void watched_session(char id[static ID_TEXT_SIZE])
{
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, result.done);
	cr_assert_eq(result.err.status, STATUS_OK, "%s", result.err.text);
	snprintf(id, ID_TEXT_SIZE, "%s", ((Postern__V1__Session *)result.reply)->id);
	result_clear(&result);
}

static void tied_grant(const char *session, uint32_t port, char id[static ID_TEXT_SIZE])
{
	Postern__V1__GrantRequest request = grant_request();
	request.session = TEXT(session);
	request.remote_port = port;
	get_grant(&world, &request, id);
}

static char session[ID_TEXT_SIZE], tied[ID_TEXT_SIZE];

/* `session`, and the grant `tied` to it. */
static void session_with_grant(void)
{
	watched_session(session);
	tied_grant(session, 1046, tied);
}

static void expect_refused(enum status status, enum reason reason)
{
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq(result.err.status, status, "%s: %s", status_name(result.err.status),
		result.err.text);
	cr_expect_eq(result.err.reason, reason, "%s", result.err.text);
	result_clear(&result);
}

static size_t open_sessions(void)
{
	Postern__V1__SessionListRequest request = POSTERN__V1__SESSION_LIST_REQUEST__INIT;
	cr_assert_eq(call(&world, world.admin, &postern__v1__sessions__descriptor, "List",
			     &request.base, &result),
		STATUS_OK);
	size_t count = result.item_count;
	result_clear(&result);
	return count;
}

static void expect_closed(const char *why)
{
	Postern__V1__Entry *entry = NULL;
	WAIT_UNTIL(&world, COUNT(&world, SESSION_CLOSED, NULL) == 1);
	(void)count_entries(
		&world, POSTERN__V1__ENTRY_KIND__ENTRY_KIND_SESSION_CLOSED, NULL, &entry);
	cr_expect_str_eq(entry->detail, why);
	cr_expect_str_eq(entry->actor, "");
	protobuf_c_message_free_unpacked(&entry->base, NULL);
}

/* They end because the connection did, and the agent forgets that. */
static void expect_end_of_both(void)
{
	expect_closed("its primary connection ended");
	WAIT_UNTIL(&world, gw1.door_count == 0 && gw1.primary_count == 0);
	expect_state(&world, tied, GRANT_CANCELLED, END_SESSION_ENDED);
}

/* I1: neither the journal nor the caller hears of it before the agent follows the connection. */
Test(server_primaries, open_when_the_agent_follows_it)
{
	Postern__V1__Entry *entry = NULL;
	begin("");
	gw1.holds_acks = true;
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, gw1.primary_count == 1);
	cr_expect_str_eq(gw1.primary, "6 10.77.1.2:40000 10.77.2.2:21");
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 0);
	cr_expect_eq(result.done, 0);
	unsigned items = gw1.items;
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_assert_eq(result.err.status, STATUS_OK, "%s", result.err.text);
	const Postern__V1__Session *reply = (Postern__V1__Session *)result.reply;
	cr_assert_not_null(reply->primary);
	cr_expect_str_eq(reply->primary->remote, "10.77.2.2");
	cr_expect_eq(reply->primary->client_port, 40000);
	snprintf(session, sizeof session, "%s", reply->id);
	result_clear(&result);
	cr_expect(agent_follows(&gw1, session));
	cr_expect_eq(gw1.items, items, "one round trip");
	cr_expect_eq(count_entries(&world, POSTERN__V1__ENTRY_KIND__ENTRY_KIND_SESSION_OPENED, NULL,
			     &entry),
		1);
	cr_expect_str_eq(entry->client, "10.77.1.2");
	cr_expect_eq(entry->client_port, 40000);
	cr_expect_str_eq(entry->remote, "10.77.2.2");
	cr_expect_eq(entry->remote_port, 21);
	cr_expect_eq(entry->transport, POSTERN__V1__TRANSPORT__TRANSPORT_TCP);
	protobuf_c_message_free_unpacked(&entry->base, NULL);
	gw1.holds_acks = false;
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_OK);
	result_clear(&result);
	WAIT_UNTIL(&world, gw1.primary_count == 0);
	end();
}

Test(server_primaries, a_gateway_that_does_not_know_it)
{
	begin("");
	gw1.knows_no_primary = true;
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, result.done);
	cr_expect(strstr(result.err.text,
			  "knows no tcp connection from 10.77.1.2:40000 to 10.77.2.2:21"),
		"%s", result.err.text);
	expect_refused(STATUS_FAILED_PRECONDITION, REASON_NO_SUCH_CONNECTION);
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 0);
	cr_expect_eq(open_sessions(), 0);
	end();
}

Test(server_primaries, a_gateway_that_is_down)
{
	begin("");
	lose_agent();
	start_watched_session(world.ftp, 0, &result);
	expect_refused(STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN);
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 0);
	/* A session without a primary needs no agent. */
	cr_expect_eq(open_session(&world, world.ftp, &result), STATUS_OK);
	result_clear(&result);
	end();
}

/* The caller's deadline, or the server's: then the agent is to forget the connection. */
Test(server_primaries, a_deadline_withdraws_it)
{
	begin("request_deadline = 300ms");
	gw1.holds_acks = true;
	for (int i = 0; i < 2; i++) {
		start_watched_session(world.ftp, i == 0 ? 150 : 0, &result);
		expect_refused(STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE);
		WAIT_UNTIL(&world, gw1.primary_count == 0);
	}
	agent_apply(&gw1, gw1.item);
	agent_settle(&gw1);
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 0);
	cr_expect_eq(open_sessions(), 0);
	end();
}

/* A link that is cut and heals in time costs time only; one that does not, the session. */
Test(server_primaries, a_link_that_is_cut_while_the_agent_is_asked)
{
	begin("request_deadline = 1s");
	gw1.holds_acks = true;
	start_watched_session(world.ftp, 10000, &result);
	WAIT_UNTIL(&world, gw1.primary_count == 1);
	agent_disconnect(&gw1);
	gw1.holds_acks = false;
	agent_start(&gw1, NULL, 0);
	WAIT_UNTIL(&world, result.done);
	cr_expect_eq(result.err.status, STATUS_OK, "%s", result.err.text);
	result_clear(&result);
	cr_expect_eq(gw1.primary_count, 1);
	gw1.holds_acks = true;
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, gw1.primary_count == 2);
	agent_disconnect(&gw1);
	expect_refused(STATUS_UNAVAILABLE, REASON_GATEWAY_DOWN);
	gw1.holds_acks = false;
	agent_start(&gw1, NULL, 0);
	cr_expect_eq(gw1.primary_count, 1);
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 1);
	end();
}

/* Nobody knows its id: an open that is repeated leaves nothing behind. */
Test(server_primaries, whoever_opens_it_goes_away)
{
	begin("");
	gw1.holds_acks = true;
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, gw1.primary_count == 1);
	rpc_client_cancel(world.ftp, result.id);
	expect_refused(STATUS_CANCELLED, REASON_NONE);
	WAIT_UNTIL(&world, gw1.primary_count == 0);
	agent_apply(&gw1, gw1.item);
	agent_settle(&gw1);
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 0);
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, gw1.primary_count == 1);
	rpc_client_free(world.ftp);
	world.ftp = NULL;
	WAIT_UNTIL(&world, gw1.primary_count == 0);
	result_clear(&result);
	/* The connection breaks while the journal is being written. */
	world.ftp = world_connect(&world, TOKEN_FTP);
	Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	request.gateway = TEXT("gw1");
	request.client = TEXT("10.77.1.2");
	start_call(
		world.ftp, &postern__v1__sessions__descriptor, "Open", &request.base, 0, &result);
	rpc_client_cancel(world.ftp, result.id);
	expect_refused(STATUS_CANCELLED, REASON_NONE);
	expect_closed("whoever opened it went away before the answer");
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 1);
	cr_expect_eq(open_sessions(), 0);
	end();
}

Test(server_primaries, its_end_ends_session_and_grants)
{
	begin("");
	session_with_grant();
	agent_report_primary_ended(&gw1, session);
	agent_report_primary_ended(&gw1, session);
	expect_end_of_both();
	cr_expect_eq(close_session(&world, world.ftp, session, &result), STATUS_NOT_FOUND);
	result_clear(&result);
	agent_report_primary_ended(&gw1, session); /* late: nobody is hurt */
	agent_settle(&gw1);
	cr_expect_eq(gw1.reports_failed, 0);
	end();
}

Test(server_primaries, is_nobody_elses_to_end)
{
	char plain[ID_TEXT_SIZE];
	begin("");
	agent_start(&gw2, NULL, 0);
	watched_session(session);
	get_session(&world, plain);
	cr_expect_eq(gw2.primary_count, 0);
	agent_report_primary_ended(&gw2, session);
	agent_report_primary_ended(&gw1, plain); /* it has none */
	agent_report_primary_ended(&gw1, "01930000-0000-7000-8000-000000000000");
	agent_report_primary_ended(&gw1, "nonsense");
	agent_settle(&gw1);
	agent_settle(&gw2);
	world_idle(&world, 100);
	cr_expect_eq(open_sessions(), 2);
	end();
}

Test(server_primaries, a_linger)
{
	char later[ID_TEXT_SIZE];
	begin("session_linger = 400ms");
	session_with_grant();
	int64_t ended = clock_mono_us();
	agent_report_primary_ended(&gw1, session);
	agent_settle(&gw1);
	tied_grant(session, 1047, later); /* what the connection ordered in its last words */
	agent_report_primary_ended(&gw1, session); /* again: it is not put off */
	agent_settle(&gw1);
	cr_expect_eq(open_sessions(), 1);
	expect_closed("its primary connection ended");
	cr_expect_geq(clock_mono_us() - ended, 400000);
	WAIT_UNTIL(&world, gw1.door_count == 0);
	expect_state(&world, later, GRANT_CANCELLED, END_SESSION_ENDED);
	end();
}

/* The agent that is asked about all open sessions' connections says again which of them ended. */
Test(server_primaries, a_restart_in_the_linger)
{
	begin("session_linger = 1h");
	session_with_grant();
	agent_report_primary_ended(&gw1, session);
	agent_settle(&gw1);
	agent_disconnect(&gw1);
	world_stop(&world);
	world.config.session_linger_ms = 400;
	world_start(&world);
	cr_expect_eq(open_sessions(), 1);
	gw1.knows_no_primary = true;
	int64_t told = clock_mono_us();
	agent_start(&gw1, NULL, 0);
	expect_closed("its primary connection ended");
	cr_expect_geq(clock_mono_us() - told, 400000, "it lingers from then on");
	expect_end_of_both();
	end();
}

/* I7: a restart of the server and of the agent keeps what lives. */
Test(server_primaries, restarts)
{
	begin("");
	watched_session(session);
	restart();
	cr_expect_eq(gw1.primary_count, 1);
	cr_expect(agent_follows(&gw1, session));
	cr_expect_str_eq(gw1.primary, "6 10.77.1.2:40000 10.77.2.2:21");
	agent_die(&gw1);
	agent_start(&gw1, NULL, 0);
	cr_expect(agent_follows(&gw1, session));
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 1);
	cr_expect_eq(COUNT(&world, SESSION_CLOSED, NULL), 0);
	agent_report_primary_ended(&gw1, session);
	expect_closed("its primary connection ended");
	end();
}

Test(server_primaries, one_that_ends_while_the_link_is_down)
{
	begin("");
	session_with_grant();
	lose_agent();
	cr_expect_eq(open_sessions(), 1);
	gw1.knows_no_primary = true;
	agent_start(&gw1, NULL, 0);
	expect_end_of_both();
	end();
}

/* While it is followed a session is not idle; when nobody follows it the limit counts. */
Test(server_primaries, idleness)
{
	begin("session_idle_limit = 1s");
	watched_session(session);
	world_idle(&world, 1300);
	cr_expect_eq(open_sessions(), 1);
	int64_t down = clock_mono_us();
	agent_disconnect(&gw1);
	expect_closed("idle for longer than its limit");
	cr_expect_geq(clock_mono_us() - down, 1000000);
	end();
}

Test(server_primaries, count_against_the_quota)
{
	static struct result second;
	begin("max_open_sessions_per_filter = 1");
	gw1.holds_acks = true;
	start_watched_session(world.ftp, 0, &result);
	WAIT_UNTIL(&world, gw1.primary_count == 1);
	start_watched_session(world.ftp, 0, &second);
	WAIT_UNTIL(&world, second.done);
	cr_expect_eq(second.err.reason, REASON_QUOTA);
	result_clear(&second);
	gw1.holds_acks = false;
	agent_apply(&gw1, gw1.item);
	WAIT_UNTIL(&world, result.done);
	cr_assert_eq(result.err.status, STATUS_OK);
	char first[ID_TEXT_SIZE];
	snprintf(first, sizeof first, "%s", ((Postern__V1__Session *)result.reply)->id);
	result_clear(&result);
	/* What is closed is not counted, though the agent has yet to forget its connection. */
	gw1.holds_acks = true;
	cr_expect_eq(close_session(&world, world.ftp, first, &result), STATUS_OK);
	result_clear(&result);
	get_session(&world, first);
	end();
}

/* More than one item of a snapshot holds. */
Test(server_primaries, many)
{
	static struct result results[300];
	begin("");
	for (int i = 0; i < 300; i++)
		start_watched_session(world.ftp, 0, &results[i]);
	for (int i = 0; i < 300; i++) {
		WAIT_UNTIL(&world, results[i].done);
		cr_assert_eq(results[i].err.status, STATUS_OK, "%s", results[i].err.text);
		result_clear(&results[i]);
	}
	cr_expect_eq(gw1.primary_count, 300);
	agent_disconnect(&gw1);
	agent_start(&gw1, NULL, 0);
	cr_expect_eq(gw1.primary_count, 300);
	cr_expect_eq(open_sessions(), 300);
	end();
}

/* ---- what is wrong with a request ---- */

Test(server_primaries, are_checked)
{
	static const struct {
		const char *client, *primary_client, *remote;
		uint32_t client_port, remote_port;
		int transport;
		const char *words; /* NULL = good */
	} rows[] = {
		{"10.77.1.2", "10.77.1.2", "10.77.2.2", 40000, 21, 6, NULL},
		{"10.77.1.2", "10.77.1.2", "10.77.2.2", 40000, 69, 17, NULL},
		{"fd77:1::2", "fd77:1::2", "fd77:2::2", 40000, 21, 6, NULL},
		{"10.77.1.2", "10.77.1.3", "10.77.2.2", 40000, 21, 6, "differs"},
		{"fd77:1::2", "fd77:1::3", "fd77:2::2", 40000, 21, 6, "differs"},
		{"10.77.1.2", "", "10.77.2.2", 40000, 21, 6, ""},
		{"10.77.1.2", "10.77.1.2", "", 40000, 21, 6, ""},
		{"10.77.1.2", "10.77.1.2", "ftp.example", 40000, 21, 6, "needed"},
		{"10.77.1.2", "10.77.1.2", "10.77.2.2", 0, 21, 6, "needed"},
		{"10.77.1.2", "10.77.1.2", "10.77.2.2", 40000, 0, 6, "needed"},
		{"10.77.1.2", "10.77.1.2", "10.77.2.2", 70000, 21, 6, "needed"},
		{"10.77.1.2", "10.77.1.2", "10.77.2.2", 40000, 21, 1, "needed"},
		{"10.77.1.2", "10.77.1.2", "127.0.0.1", 40000, 21, 6, "forwards"},
		{"fd77:1::2", "fd77:1::2", "ff02::1", 40000, 21, 6, "forwards"},
		{"10.77.1.2", "10.77.1.2", "fd77:2::2", 40000, 21, 6, "both"},
	};
	begin("");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
		Postern__V1__Flow primary = POSTERN__V1__FLOW__INIT;
		request.gateway = TEXT("gw1");
		request.client = TEXT(rows[i].client);
		request.primary = &primary;
		primary.client = TEXT(rows[i].primary_client);
		primary.client_port = rows[i].client_port;
		primary.remote = TEXT(rows[i].remote);
		primary.remote_port = rows[i].remote_port;
		primary.transport = (Postern__V1__Transport)rows[i].transport;
		enum status status = call(&world, world.ftp, &postern__v1__sessions__descriptor,
			"Open", &request.base, &result);
		cr_expect_eq(status, rows[i].words ? STATUS_INVALID_ARGUMENT : STATUS_OK,
			"row %zu: %s", i, result.err.text);
		cr_expect_str_eq(result.err.field, rows[i].words ? "primary" : "", "row %zu", i);
		if (rows[i].words)
			cr_expect(strstr(result.err.text, rows[i].words), "row %zu: %s", i,
				result.err.text);
		result_clear(&result);
	}
	cr_expect_eq(open_sessions(), 3);
	end();
}

/* ---- a disk that refuses writes ---- */

/* An open is refused and the agent forgets the connection; an end waits for the disk. */
Test(server_primaries, no_journal, .timeout = 60)
{
	begin("");
	session_with_grant();
	agent_settle(&gw1);
	break_disk(true);
	start_watched_session(world.ftp, 0, &result);
	expect_refused(STATUS_UNAVAILABLE, REASON_JOURNAL_UNAVAILABLE);
	WAIT_UNTIL(&world, gw1.primary_count == 1);
	agent_report_primary_ended(&gw1, session);
	world_idle(&world, 300);
	break_disk(false);
	agent_settle(&gw1);
	expect_end_of_both();
	cr_expect_eq(COUNT(&world, SESSION_OPENED, NULL), 1);
	end();
}
