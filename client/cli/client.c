/* One connection at a time, no second thread: every function here runs the loop until what it waits
 * for has happened. A connection never heals by itself; client_connect makes a new rpc_client in
 * place of the old. So a caller always knows on which side of a loss its call was, and decides
 * itself whether to ask again. */
#include "client/cli/client.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/loop.h"
#include "common/version.h"
#include "proto/rpc/rpc.h"

#define CONNECT_LIMIT_US                                                                           \
	(10 * 1000000LL) /* handshake and hello take 5 s at most, looking up the name the rest */
#define PAUSE_FIRST_US 100000LL /* a restarted server listens again within a few of these */
#define PAUSE_MOST_US 2000000LL
#define CREDIT 64

struct client {
	struct loop *loop;
	struct rpc_client *rpc;
	struct client_config config;
	char *token;
	struct rpc_welcome welcome;
	bool welcomed;
	/* Of the try that is under way. */
	bool settled;
	enum status connect_status;
	struct error connect_error;
};

/* What a call waits for; lives on client_call's stack. */
struct waiting {
	const struct client_call *call;
	bool done;
	bool stopped; /* on_message had enough */
	struct error err;
};

static void on_state(void *arg, enum rpc_client_state state, const struct rpc_welcome *welcome,
	const struct error *err)
{
	struct client *client = arg;

	if (state == RPC_CLIENT_READY) {
		client->welcome = *welcome;
		client->welcomed = true;
		client->connect_status = STATUS_OK;
		client->settled = true;
	} else if (state == RPC_CLIENT_CLOSED && !client->settled) {
		client->connect_error = *err;
		client->connect_status =
			err->status != STATUS_OK ? err->status : STATUS_UNAVAILABLE;
		client->settled = true;
	}
}

enum status client_new(
	const struct client_config *config, struct client **ret_client, struct error *err)
{
	struct client *client = calloc(1, sizeof(*client));
	struct error why;

	if (client == NULL)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	client->config = *config;
	if (file_read_secret(config->token_file, &client->token, &why) != STATUS_OK) {
		client_free(client);
		return error_set(err, STATUS_UNAUTHENTICATED, "no token: %.300s", why.text);
	}
	enum status status = loop_new(&client->loop, err);
	if (status != STATUS_OK) {
		client_free(client);
		return status;
	}
	*ret_client = client;
	return STATUS_OK;
}

void client_free(struct client *client)
{
	if (client == NULL)
		return;
	rpc_client_free(client->rpc);
	loop_free(client->loop);
	file_free_secret(client->token);
	free(client);
}

static void set_flag(void *arg)
{
	*(bool *)arg = true;
}

static enum status begin_try(struct client *client, struct error *err)
{
	struct rpc_client_config config = {
		.loop = client->loop,
		.limits = rpc_default_limits,
		.url = client->config.url,
		.token = client->token,
		.name = "postern " POSTERN_VERSION,
		.ca_file = client->config.ca_file,
		.server_name = client->config.server_name,
		.arg = client,
		.on_state = on_state,
	};

	rpc_client_free(client->rpc);
	client->rpc = NULL;
	client->settled = false;
	enum status status = rpc_client_new(&config, &client->rpc, err);
	if (status == STATUS_OK)
		rpc_client_start(client->rpc);
	return status;
}

static enum status give_up(struct client *client, bool by_deadline, struct error *err)
{
	client->settled = true; /* what comes now comes too late */
	rpc_client_close(client->rpc);
	if (by_deadline)
		return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"%.200s did not answer in time: is it the right server?",
			client->config.url);
	return error_set(err, STATUS_UNAVAILABLE,
		"%.200s did not answer within 10 s: is it the right server?", client->config.url);
}

enum status client_connect(struct client *client, int64_t deadline_us, struct error *err)
{
	int64_t limit_us = clock_mono_us() + CONNECT_LIMIT_US;
	struct loop_timer timer = {0};
	bool late = false;

	enum status status = begin_try(client, err);
	if (status != STATUS_OK)
		return status;
	loop_timer_set(client->loop, &timer, deadline_us < limit_us ? deadline_us : limit_us,
		set_flag, &late);
	while (!client->settled && !late)
		loop_step(client->loop, -1);
	loop_timer_clear(client->loop, &timer);
	if (!client->settled)
		return give_up(client, deadline_us < limit_us, err);
	if (client->connect_status != STATUS_OK && err != NULL) {
		*err = client->connect_error;
		err->status = client->connect_status;
	}
	return client->connect_status;
}

static void pause_for(struct client *client, int64_t us)
{
	struct loop_timer timer = {0};
	bool over = false;

	loop_timer_set(client->loop, &timer, clock_mono_us() + us, set_flag, &over);
	while (!over)
		loop_step(client->loop, -1);
}

static bool is_worth_retrying(enum status status)
{
	return status == STATUS_UNAVAILABLE || status == STATUS_DEADLINE_EXCEEDED ||
		status == STATUS_RESOURCE_EXHAUSTED;
}

enum status client_reconnect(struct client *client, int64_t deadline_us, struct error *err)
{
	int64_t pause_us = PAUSE_FIRST_US;
	struct error last = {0};

	for (;;) {
		struct error why = {0};
		enum status status = client_connect(client, deadline_us, &why);

		if (status == STATUS_OK)
			return STATUS_OK;
		if (!is_worth_retrying(status)) {
			if (err != NULL)
				*err = why;
			return status;
		}
		/* The cause of an earlier try says more than that time is over. */
		if (status != STATUS_DEADLINE_EXCEEDED || last.text[0] == '\0')
			last = why;
		int64_t left_us =
			deadline_us == CLOCK_NEVER ? CLOCK_NEVER : deadline_us - clock_mono_us();
		if (left_us <= 0)
			return error_set(err, STATUS_UNAVAILABLE, "%s", last.text);
		pause_for(client, pause_us < left_us ? pause_us : left_us);
		pause_us = pause_us * 2 < PAUSE_MOST_US ? pause_us * 2 : PAUSE_MOST_US;
	}
}

const struct rpc_welcome *client_welcome(const struct client *client)
{
	return client->welcomed ? &client->welcome : NULL;
}

/* ---- calls ---- */

static void on_item(void *arg, const ProtobufCMessage *item)
{
	struct waiting *waiting = arg;

	if (!waiting->stopped && !waiting->call->on_message(waiting->call->arg, item))
		waiting->stopped = true;
}

static void on_done(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct waiting *waiting = arg;

	waiting->done = true;
	waiting->err = *err;
	if (err->status == STATUS_OK && reply != NULL && !waiting->call->stream)
		waiting->call->on_message(waiting->call->arg, reply);
}

/* Milliseconds of a deadline on the wire, where 0 means none; false when it has passed. */
static bool deadline_left(int64_t deadline_us, uint32_t *ret_ms)
{
	*ret_ms = 0;
	if (deadline_us == CLOCK_NEVER)
		return true;
	int64_t left_us = deadline_us - clock_mono_us();
	if (left_us <= 0)
		return false;
	int64_t left_ms = (left_us + 999) / 1000;
	*ret_ms = left_ms > INT32_MAX ? INT32_MAX : (uint32_t)left_ms;
	return true;
}

enum status client_call(struct client *client, const struct client_call *call, struct error *err)
{
	struct waiting waiting = {.call = call};
	struct rpc_call_options options = {
		.on_item = call->stream ? on_item : NULL, .credit = CREDIT};

	if (!deadline_left(call->deadline_us, &options.deadline_ms))
		return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"the deadline passed before the server was asked: give --deadline more "
			"time");
	if (!rpc_client_is_ready(client->rpc))
		return error_set(err, STATUS_UNAVAILABLE, "the connection to the server was lost");
	enum status status = rpc_client_call(client->rpc, call->service, call->method,
		call->request, &options, on_done, &waiting, NULL, err);
	if (status != STATUS_OK)
		return status;
	while (!waiting.done && !waiting.stopped)
		loop_step(client->loop, -1);
	if (waiting.stopped) {
		/* The stream's end is not waited for: the connection goes with it. */
		rpc_client_close(client->rpc);
		return STATUS_OK;
	}
	if (waiting.err.status != STATUS_OK && err != NULL)
		*err = waiting.err;
	return waiting.err.status;
}

bool client_was_lost(const struct client *client, const struct error *err)
{
	return err->status == STATUS_UNAVAILABLE &&
		(err->reason == REASON_NONE || client->rpc == NULL ||
			!rpc_client_is_ready(client->rpc));
}
