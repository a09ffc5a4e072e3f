/* Calls and streams of the RPC runtime, over every transport. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/proto/rig.h"

TestSuite(rpc, .init = rig_setup, .fini = rig_teardown, .timeout = 60);

/* ---- calls ---- */

static void unary_over(const char *transport)
{
	rig_connect(transport);
	cr_assert_eq(ask("gw1", NULL, &one, NULL), STATUS_OK);
	cr_assert_not(one.done, "the callback must not run inside the call");
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_OK, "%s", one.err.text);
	cr_expect_str_eq(one.name, "gw1");
}

Test(rpc, unary_over_ipc)
{
	unary_over("ipc");
}

Test(rpc, unary_over_tcp)
{
	unary_over("tcp");
}

Test(rpc, unary_over_tcp_of_ipv6)
{
	unary_over("tcp://[::1]:0");
}

Test(rpc, unary_over_tls)
{
	unary_over("tls+tcp");
}

Test(rpc, unary_over_tls_of_ipv6)
{
	unary_over("tls+tcp://[::1]:0");
}

Test(rpc, errors_carry_reason_and_rule)
{
	rig_connect("ipc");
	ask("fail", NULL, &one, NULL);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_PERMISSION_DENIED);
	cr_expect_eq(one.err.reason, REASON_DENIED_PROTOCOL_RULES);
	cr_expect_str_eq(one.err.rule, "a rule");
	cr_expect_str_eq(one.err.text, "no rule allows it");
}

static struct answer many[500];

static bool many_done(void)
{
	return answers == 500;
}

Test(rpc, many_calls_end_in_any_order)
{
	rig_connect("tcp");
	cr_assert_eq(ask("hold", NULL, &one, NULL), STATUS_OK);
	for (int i = 0; i < 500; i++) {
		char name[16];
		snprintf(name, sizeof name, "gw%d", i);
		cr_assert_eq(ask(name, NULL, &many[i], NULL), STATUS_OK);
	}
	step_until(many_done);
	for (int i = 0; i < 500; i++) {
		char name[16];
		snprintf(name, sizeof name, "gw%d", i);
		cr_assert_str_eq(many[i].name, name);
	}
	cr_expect_not(one.done, "the first call is still held");
}

Test(rpc, calls_in_flight_are_capped_on_both_sides)
{
	struct rpc_limits limits = rpc_default_limits;
	limits.max_calls = 3;
	rig_serve("ipc", &limits);
	rig_dial(&(struct rig_dial){0});
	step_until(is_ready);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(ask("hold", NULL, &many[i], NULL), STATUS_OK);
	cr_expect_eq(ask("gw1", NULL, &one, NULL), STATUS_RESOURCE_EXHAUSTED);
	cr_expect_not_null(strstr(one.err.text, "in flight"));
}

Test(rpc, deadline_ends_the_call_on_both_sides)
{
	rig_connect("ipc");
	struct rpc_call_options options = {.deadline_ms = 100};
	cr_assert_eq(ask("hold", &options, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_DEADLINE_EXCEEDED);
	cr_expect_eq(held_ended, 1);
	cr_expect_eq(held_why, STATUS_DEADLINE_EXCEEDED);
}

Test(rpc, cancel_is_told_to_the_handler)
{
	uint64_t id;
	rig_connect("ipc");
	ask("hold", NULL, &one, &id);
	step_until(is_held);
	rpc_client_cancel(client, id);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_CANCELLED);
	cr_expect_eq(held_why, STATUS_CANCELLED);
}

static enum status call_with(const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request)
{
	memset(&one, 0, sizeof one);
	enum status status = rpc_client_call(
		client, service, method, request, NULL, on_answer, &one, NULL, &one.err);
	if (status)
		return status;
	step_until(one_done);
	return one.err.status;
}

Test(rpc, methods_that_are_forbidden_unknown_or_not_implemented)
{
	Postern__V1__GatewayAddRequest request = POSTERN__V1__GATEWAY_ADD_REQUEST__INIT;
	Postern__V1__SessionCloseRequest close = POSTERN__V1__SESSION_CLOSE_REQUEST__INIT;
	rig_connect("ipc");
	cr_expect_eq(call_with(&postern__v1__gateways__descriptor, "Add", &request.base),
		STATUS_PERMISSION_DENIED);
	cr_expect_neq(
		call_with(&postern__v1__gateways__descriptor, "Nothing", &request.base), STATUS_OK);
	cr_expect_eq(call_with(&postern__v1__sessions__descriptor, "Close", &close.base),
		STATUS_UNIMPLEMENTED);
}

Test(rpc, a_request_or_reply_larger_than_a_frame_is_an_error_not_a_hang)
{
	struct rpc_limits limits = rpc_default_limits;
	char *name = calloc(1, 2000);
	memset(name, 'x', 1999);
	rig_connect("ipc");
	cr_assert_eq(ask("large", NULL, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_RESOURCE_EXHAUSTED, "%s", one.err.text);
	cr_expect_eq(state, RPC_CLIENT_READY, "the connection stays");
	rpc_client_free(client);
	client = NULL;
	rpc_server_free(server);
	server = NULL;
	limits.max_frame_bytes = 1000; /* the server's; the client would send more */
	rig_serve("ipc", &limits);
	rig_dial(&(struct rig_dial){0});
	step_until(is_ready);
	cr_assert_eq(ask(name, NULL, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_INVALID_ARGUMENT, "%s", one.err.text);
	cr_expect_eq(state, RPC_CLIENT_READY, "the connection stays");
	free(name);
}

Test(rpc, texts_that_are_not_utf8_are_refused)
{
	rig_connect("ipc");
	cr_assert_eq(ask("caf\xe9", NULL, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_eq(one.err.status, STATUS_INVALID_ARGUMENT);
	cr_expect_not_null(strstr(one.err.text, "UTF-8"), "%s", one.err.text);
	cr_assert_eq(ask("caf\xc3\xa9", NULL, &one, NULL), STATUS_OK);
	step_until(one_done);
	cr_expect_str_eq(one.name, "caf\xc3\xa9");
}

/* ---- streams ---- */

static uint64_t items;
static bool in_order = true;
static struct answer stream_end;

static void on_item(void *arg, const ProtobufCMessage *item)
{
	(void)arg;
	in_order &= ((const Postern__V1__EventBatch *)item)->cursor == ++items;
}

static void start_stream(uint64_t count, uint32_t credit, rpc_item_cb cb)
{
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	struct rpc_call_options options = {.on_item = cb, .credit = credit};
	request.cursor = count;
	cr_assert_eq(
		rpc_client_call(client, &postern__v1__events__descriptor, "Watch", &request.base,
			&options, on_answer, &stream_end, NULL, &stream_end.err),
		STATUS_OK);
}

static bool stream_ended(void)
{
	return stream_end.done;
}

static void stream_over(const char *transport)
{
	rig_connect(transport);
	start_stream(10000, 16, on_item);
	step_until(stream_ended);
	cr_expect_eq(stream_end.err.status, STATUS_OK, "%s", stream_end.err.text);
	cr_expect_eq(items, 10000);
	cr_expect(in_order);
}

Test(rpc, a_stream_delivers_all_items_in_order_and_ends)
{
	stream_over("tcp");
}

Test(rpc, a_stream_over_tls)
{
	stream_over("tls+tcp");
}

static bool has_items(void)
{
	return items > 0;
}

Test(rpc, a_stream_needs_credit)
{
	rig_connect("tcp");
	start_stream(1000000, 4, on_item);
	step_until(has_items);
	cr_expect_leq(
		sent_items, items + 4, "no more items are under way than credit was given for");
}

Test(rpc, a_slow_stream_does_not_hold_up_calls)
{
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	rig_connect("tcp");
	request.cursor = 5;
	/* Without on_item there is no credit, and the stream stands still. */
	cr_assert_eq(rpc_client_call(client, &postern__v1__events__descriptor, "Watch",
			     &request.base, NULL, on_answer, &stream_end, NULL, &stream_end.err),
		STATUS_OK);
	ask("gw1", NULL, &one, NULL);
	step_until(one_done);
	cr_expect_eq(sent_items, 0);
	cr_expect_not(stream_end.done);
}

/* ---- closing inside callbacks ---- */

static void close_on_item(void *arg, const ProtobufCMessage *item)
{
	(void)arg;
	(void)item;
	items++;
	rpc_client_close(client);
}

Test(rpc, the_client_may_be_closed_inside_an_item)
{
	rig_connect("tcp");
	start_stream(1000, 100, close_on_item);
	step_until(stream_ended);
	cr_expect_eq(items, 1, "nothing is delivered after the close");
	cr_expect_eq(stream_end.err.status, STATUS_CANCELLED);
	step_until(all_gone);
}

static void close_on_answer(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	on_answer(arg, reply, err);
	rpc_client_close(client);
}

static bool all_answered(void)
{
	return answers == 100;
}

Test(rpc, the_client_may_be_closed_inside_an_answer)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	rig_connect("ipc");
	request.name = (char *)(uintptr_t) "gw1";
	for (int i = 0; i < 100; i++)
		cr_assert_eq(rpc_client_call(client, &postern__v1__gateways__descriptor, "Show",
				     &request.base, NULL, i == 50 ? close_on_answer : on_answer,
				     &many[i], NULL, &many[i].err),
			STATUS_OK);
	step_until(all_answered);
	cr_expect_eq(many[50].err.status, STATUS_OK);
	cr_expect_eq(many[99].err.status, STATUS_CANCELLED);
}
