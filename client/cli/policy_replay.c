#include <inttypes.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/document_source.h"
#include "client/cli/revision_text.h"
#include "client/cli/story.h"
#include "common/clock.h"

struct replaying {
	struct cli *cli;
	bool done;
};

static void print_item(struct cli *cli, const Postern__V1__ReplayItem *item)
{
	char text[400];

	if (item->entry != NULL && item->verdict != NULL) {
		story_line(cli->out, item->entry);
		verdict_tell(item->verdict, text, sizeof(text));
		cli_field(cli->out, "now", "%s", text);
	}
	if (item->done)
		fprintf(cli->out,
			"%" PRIu64 " recorded request%s judged, %" PRIu64
			" would be decided otherwise\n",
			item->judged, item->judged == 1 ? "" : "s", item->changed);
}

/* Progress is for those who watch a connection, not for the output. */
static bool on_item(void *arg, const ProtobufCMessage *message)
{
	struct replaying *replaying = arg;
	struct cli *cli = replaying->cli;
	const Postern__V1__ReplayItem *item = (const Postern__V1__ReplayItem *)message;

	replaying->done |= item->done;
	if (item->entry == NULL && !item->done)
		return true;
	if (cli_is_structured(cli) && !cli_message(cli, message, NULL))
		return false;
	if (!cli_is_structured(cli))
		print_item(cli, item);
	return cli_push(cli);
}

static enum status replay(struct cli *cli, struct document_source *source,
	Postern__V1__ReplayRequest *request, struct error *err)
{
	struct replaying replaying = {.cli = cli};
	struct client_call call = {
		.service = &postern__v1__revisions__descriptor,
		.method = "Replay",
		.request = &request->base,
		.stream = true,
		.on_message = on_item,
		.arg = &replaying,
	};

	enum status status = document_source_open(cli, source, err);
	if (status != STATUS_OK)
		return status;
	request->source = &source->message;
	call.deadline_us = cli->deadline_us;
	status = client_call(cli->client, &call, err);
	if (status != STATUS_OK)
		return document_source_name_place(source, err);
	if (!replaying.done && cli->output_errno == 0)
		return error_set(err, STATUS_INTERNAL,
			"the replay ended before all requests were judged: try again");
	return STATUS_OK;
}

enum status policy_replay(struct cli *cli, struct error *err)
{
	Postern__V1__ReplayRequest request = POSTERN__V1__REPLAY_REQUEST__INIT;
	struct document_source source;
	int64_t now_us = clock_real_us();

	enum status status = args_time(&cli->args, "since", now_us, &request.since_us, err);
	if (status == STATUS_OK)
		status = args_time(&cli->args, "until", now_us, &request.until_us, err);
	if (status != STATUS_OK)
		return status;
	if (request.until_us != 0 && request.until_us <= request.since_us)
		return error_field(err, "until", "--until lies before --since: nothing can match");
	request.gateway = cli_text(args_value(&cli->args, "gateway"));
	request.filter = cli_text(args_value(&cli->args, "filter"));
	status = replay(cli, &source, &request, err);
	document_source_fini(&source);
	return status;
}
