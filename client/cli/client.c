#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/loop.h"
#include "common/version.h"

#define DEADLINE_MS 10000

static const char *setting(const struct cli *cli, const char *option, const char *variable)
{
	const char *value = args_get(cli, option);
	return value ? value : getenv(variable);
}

static void on_state(void *arg, enum rpc_client_state state, const struct rpc_welcome *welcome,
	const struct error *err)
{
	struct cli *cli = arg;
	(void)welcome;
	cli->ready = state == RPC_CLIENT_READY;
	if (cli->ready) {
		cli->was_ready = true;
		return;
	}
	cli->link_error = *err;
	cli->failed = true;
}

enum status cli_connect(struct cli *cli, struct error *err)
{
	const char *server = setting(cli, "server", "POSTERN_SERVER");
	const char *token_file = setting(cli, "token-file", "POSTERN_TOKEN_FILE");
	enum status status;
	if (cli->rpc)
		return STATUS_OK;
	if (!server)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"which server? give --server URL or set POSTERN_SERVER");
	if (!token_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"who are you? give --token-file FILE or set POSTERN_TOKEN_FILE");
	status = file_read_secret(token_file, &cli->token, err);
	if (!status)
		status = loop_new(&cli->loop, err);
	if (status)
		return status;
	struct rpc_client_config config = {.loop = cli->loop,
		.limits = rpc_default_limits,
		.url = server,
		.token = cli->token,
		.name = "postern " POSTERN_VERSION,
		.ca_file = setting(cli, "ca-file", "POSTERN_CA_FILE"),
		.server_name = args_get(cli, "server-name"),
		.reconnect = true,
		.arg = cli,
		.on_state = on_state};
	status = rpc_client_new(&config, &cli->rpc, err);
	if (status)
		return status;
	rpc_client_start(cli->rpc);
	/* One try decides, so that a wrong address or token is told at once. */
	int64_t until = clock_mono_us() +
		(int64_t)(cli->deadline_ms ? cli->deadline_ms : DEADLINE_MS) * 1000;
	while (!cli->ready && !cli->failed && clock_mono_us() < until)
		loop_step(cli->loop, 100);
	if (cli->ready)
		return STATUS_OK;
	*err = cli->link_error;
	if (!cli->failed)
		error_reason(
			err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE, "%s: no answer", server);
	return err->status;
}

void cli_fini(struct cli *cli)
{
	rpc_client_free(cli->rpc);
	loop_free(cli->loop);
	file_free_secret(cli->token);
}

struct waiting {
	struct cli *cli;
	reply_cb cb;
	void *arg;
	bool done;
	struct error err;
};

static void on_item(void *arg, const ProtobufCMessage *item)
{
	struct waiting *waiting = arg;
	waiting->cb(waiting->cli, item, waiting->arg);
}

static void on_done(void *arg, const ProtobufCMessage *reply, const struct error *err)
{
	struct waiting *waiting = arg;
	waiting->done = true;
	waiting->err = *err;
	if (reply && waiting->cb)
		waiting->cb(waiting->cli, reply, waiting->arg);
}

enum status call_raw(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, bool stream, reply_cb cb, void *arg, struct error *err)
{
	struct waiting waiting = {.cli = cli, .cb = cb, .arg = arg};
	enum status status = cli_connect(cli, err);
	if (status)
		return status;
	struct rpc_call_options options = {.wait_for_ready = true,
		.on_item = stream ? on_item : NULL,
		.credit = stream ? 32 : 0};
	options.deadline_ms = (uint32_t)(cli->deadline_ms ? cli->deadline_ms
			: stream                          ? 0
							  : DEADLINE_MS);
	status = rpc_client_call(
		cli->rpc, service, method, request, &options, on_done, &waiting, NULL, err);
	if (status)
		return status;
	while (!waiting.done)
		loop_step(cli->loop, -1);
	*err = waiting.err;
	return err->status;
}

int call(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, bool stream, reply_cb cb, void *arg)
{
	struct error err = {0};
	return call_raw(cli, service, method, request, stream, cb, arg, &err) ? report(cli, &err)
									      : EXIT_GOOD;
}
