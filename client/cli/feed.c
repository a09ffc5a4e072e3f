#include <inttypes.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "postern/v1/feeds.pb-c.h"

static const ProtobufCServiceDescriptor *const service = &postern__v1__feeds__descriptor;

static void tell_time(int64_t time_us, char text[static TEXT_TIME_SIZE])
{
	text_time(time_us, false, text);
	if (time_us == 0)
		text[0] = '\0';
}

/* "works", "never answered", "held back: 3 networks", "failing: why" */
static void tell_state(const Postern__V1__FeedState *state, char *text, size_t size)
{
	if (state->held)
		snprintf(text, size, "held back: a copy of %" PRIu64 " networks",
			state->held_addresses);
	else if (state->error[0] != '\0')
		snprintf(text, size, "failing: %s", state->error);
	else
		snprintf(text, size, state->fetched_us == 0 ? "never answered" : "works");
}

static void print_state(struct cli *cli, const Postern__V1__FeedState *state)
{
	char text[400], kind[NAME_SIZE], time[TEXT_TIME_SIZE];

	tell_state(state, text, sizeof(text));
	name_of(&postern__v1__feed_kind__descriptor, (int)state->kind, kind);
	cli_field(cli->out, kind, "%s", state->name);
	cli_field(cli->out, "state", "%s", text);
	cli_field(cli->out, "url", "%s", state->url);
	cli_field(cli->out, "networks", "%" PRIu64, state->addresses);
	tell_time(state->fetched_us, time);
	cli_field(cli->out, "fetched", "%s", time);
	tell_time(state->checked_us, time);
	cli_field(cli->out, "last try", "%s", time);
	tell_time(state->next_us, time);
	cli_field(cli->out, "next try", "%s", time);
	cli_field(cli->out, "etag", "%s", state->etag);
	if (state->held)
		cli_field(cli->out, "confirm",
			"see it with 'postern feed show --held %s', take it with 'postern feed "
			"confirm %s'",
			state->name, state->name);
}

/* ---- list ---- */

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__FeedState *state = (const Postern__V1__FeedState *)message;
	char text[400], kind[NAME_SIZE], time[TEXT_TIME_SIZE];

	tell_state(state, text, sizeof(text));
	name_of(&postern__v1__feed_kind__descriptor, (int)state->kind, kind);
	grid_cell(grid, "%s", state->name);
	grid_cell(grid, "%s", kind);
	grid_cell(grid, "%" PRIu64, state->addresses);
	tell_time(state->fetched_us, time);
	grid_cell(grid, "%s", time);
	tell_time(state->next_us, time);
	grid_cell(grid, "%s", time);
	grid_cell(grid, "%s", text);
	grid_cell(grid, "%s", state->url);
}

enum status feed_list(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {
		"FEED", "KIND", "NETWORKS", "FETCHED", "NEXT TRY", "STATE", "URL", NULL};
	Postern__V1__FeedListRequest request = POSTERN__V1__FEED_LIST_REQUEST__INIT;

	return cli_list(cli, service, "List", &request.base, headers, list_row,
		"the policy document names no feed and no DNS name", err);
}

/* ---- show ---- */

static bool on_piece(void *arg, const ProtobufCMessage *message)
{
	struct cli *cli = arg;
	const Postern__V1__FeedPiece *piece = (const Postern__V1__FeedPiece *)message;
	char safe[256];

	if (cli_is_structured(cli))
		return cli_message(cli, message, NULL);
	if (piece->state != NULL)
		print_state(cli, piece->state);
	for (size_t i = 0; i < piece->n_networks; i++) {
		text_escape(piece->networks[i], strlen(piece->networks[i]), safe, sizeof(safe));
		fprintf(cli->out, "%s\n", safe);
	}
	return cli_push(cli);
}

enum status feed_show(struct cli *cli, struct error *err)
{
	Postern__V1__FeedShowRequest request = POSTERN__V1__FEED_SHOW_REQUEST__INIT;
	struct client_call call = {
		.service = service,
		.method = "Show",
		.request = &request.base,
		.stream = true,
		.deadline_us = cli->deadline_us,
		.on_message = on_piece,
		.arg = cli,
	};

	request.name = cli_text(cli->args.operands[0]);
	request.held = args_has(&cli->args, "held");
	enum status status = cli_connect(cli, err);
	return status != STATUS_OK ? status : client_call(cli->client, &call, err);
}

/* ---- refresh, confirm ---- */

struct changing {
	struct cli *cli;
	struct error failure; /* of a refresh that the source did not answer */
};

static bool on_state(void *arg, const ProtobufCMessage *message)
{
	struct changing *changing = arg;
	const Postern__V1__FeedState *state = (const Postern__V1__FeedState *)message;

	if (state->error[0] != '\0')
		error_reason(&changing->failure, STATUS_UNAVAILABLE, REASON_SOURCE_UNAVAILABLE,
			"%.64s: %.200s; the copy before stays in use", state->name, state->error);
	if (cli_is_structured(changing->cli))
		return cli_message(changing->cli, message, NULL);
	print_state(changing->cli, state);
	return true;
}

static enum status change(struct cli *cli, const char *method, const ProtobufCMessage *request,
	bool try, struct error *err)
{
	struct changing changing = {.cli = cli};
	struct client_call call = {
		.service = service,
		.method = method,
		.request = request,
		.deadline_us = cli->deadline_us,
		.on_message = on_state,
		.arg = &changing,
	};

	enum status status = cli_connect(cli, err);
	if (status == STATUS_OK)
		status = client_call(cli->client, &call, err);
	if (status != STATUS_OK || !try || changing.failure.status == STATUS_OK)
		return status;
	cli->told = cli_is_structured(cli);
	*err = changing.failure;
	return err->status;
}

enum status feed_refresh(struct cli *cli, struct error *err)
{
	Postern__V1__FeedRefreshRequest request = POSTERN__V1__FEED_REFRESH_REQUEST__INIT;

	request.name = cli_text(cli->args.operands[0]);
	return change(cli, "Refresh", &request.base, true, err);
}

enum status feed_confirm(struct cli *cli, struct error *err)
{
	Postern__V1__FeedConfirmRequest request = POSTERN__V1__FEED_CONFIRM_REQUEST__INIT;

	request.name = cli_text(cli->args.operands[0]);
	return change(cli, "Confirm", &request.base, false, err);
}
