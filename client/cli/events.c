/* A watch outlives its connection: every batch moves the cursor, and after a loss the stream is
 * asked for again behind it, so that no event is missed and none printed twice (I8). "now" is a
 * place too: until the first batch has told which, a loss would make a gap, and only then is a new
 * "now" taken. */
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/story.h"
#include "client/text/names.h"
#include "common/clock.h"
#include "common/config.h"
#include "postern/v1/events.pb-c.h"

struct watch {
	struct cli *cli;
	Postern__V1__WatchRequest request;
	Postern__V1__EntryKind kinds[ARGS_MAX_VALUES];
	uint64_t count; /* events wanted, 0 = no end */
	uint64_t seen;
};

static bool is_over(const struct watch *watch)
{
	return watch->count != 0 && watch->seen >= watch->count;
}

static bool on_batch(void *arg, const ProtobufCMessage *message)
{
	struct watch *watch = arg;
	const Postern__V1__EventBatch *batch = (const Postern__V1__EventBatch *)message;

	for (size_t i = 0; i < batch->n_entries && !is_over(watch); i++) {
		const Postern__V1__Entry *entry = batch->entries[i];

		if (entry->sequence <= watch->request.cursor)
			continue; /* told before */
		if (cli_is_structured(watch->cli) && !cli_message(watch->cli, &entry->base, NULL))
			return false;
		if (!cli_is_structured(watch->cli))
			story_line(watch->cli->out, entry);
		watch->request.cursor = entry->sequence;
		watch->seen++;
	}
	if (!is_over(watch) && batch->cursor > watch->request.cursor)
		watch->request.cursor = batch->cursor;
	if (watch->request.cursor != 0)
		watch->request.from_now = false;
	return cli_push(watch->cli) && !is_over(watch);
}

static enum status read_cursor(
	const struct args *args, Postern__V1__WatchRequest *request, struct error *err)
{
	const char *cursor = args_value(args, "cursor");

	if (cursor == NULL || strcmp(cursor, "now") == 0) {
		request->from_now = true;
		return STATUS_OK;
	}
	if (strcmp(cursor, "start") == 0 ||
		parse_number(cursor, 0, INT64_MAX, &request->cursor, NULL) == STATUS_OK)
		return STATUS_OK;
	return error_field(err, "cursor",
		"--cursor: '%.64s' is no place: write now, start, or the number of the last event "
		"you have",
		cursor);
}

static enum status read_watch(struct watch *watch, struct error *err)
{
	const struct args *args = &watch->cli->args;
	const char *kind, *grant = NULL;
	uint64_t timeout_ms = 0;

	enum status status = read_cursor(args, &watch->request, err);
	if (status == STATUS_OK)
		status = args_id(args, "grant", &grant, err);
	if (status == STATUS_OK)
		status = args_number(args, "count", INT64_MAX, &watch->count, err);
	if (status == STATUS_OK)
		status = args_duration(args, "timeout", CLI_MAX_DEADLINE_MS, &timeout_ms, err);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; (kind = args_nth(args, "kind", i)) != NULL; i++) {
		int value = 0;
		name_parse(&postern__v1__entry_kind__descriptor, kind, &value);
		watch->kinds[watch->request.n_kinds++] = (Postern__V1__EntryKind)value;
	}
	watch->request.kinds = watch->kinds;
	watch->request.gateway = cli_text(args_value(args, "gateway"));
	watch->request.grant = cli_text(grant);
	int64_t end_us =
		timeout_ms == 0 ? CLOCK_NEVER : clock_mono_us() + (int64_t)timeout_ms * 1000;
	if (end_us < watch->cli->deadline_us)
		watch->cli->deadline_us = end_us;
	return STATUS_OK;
}

/* The end that --timeout (or --deadline) makes. */
static enum status time_is_over(const struct watch *watch, struct error *err)
{
	if (watch->count != 0)
		return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"time is over: %llu of %llu events came", (unsigned long long)watch->seen,
			(unsigned long long)watch->count);
	return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
		"time is over: %llu event%s came", (unsigned long long)watch->seen,
		watch->seen == 1 ? "" : "s");
}

static enum status watch_until_over(struct watch *watch, struct error *err)
{
	struct cli *cli = watch->cli;
	struct client_call call = {
		.service = &postern__v1__events__descriptor,
		.method = "Watch",
		.request = &watch->request.base,
		.stream = true,
		.deadline_us = cli->deadline_us,
		.on_message = on_batch,
		.arg = watch,
	};

	for (;;) {
		struct error why = {0};
		enum status status = client_call(cli->client, &call, &why);

		if (is_over(watch) || cli->output_errno != 0)
			return STATUS_OK;
		if (status == STATUS_DEADLINE_EXCEEDED)
			return time_is_over(watch, err);
		/* A server that ends the stream by itself is being stopped. */
		if (status != STATUS_OK && !client_was_lost(cli->client, &why)) {
			*err = why;
			return status;
		}
		if (!cli_is_structured(cli))
			fprintf(cli->err, "postern: events watch: %s: connecting again\n",
				why.text[0] != '\0' ? why.text : "the server ended the stream");
		status = client_reconnect(cli->client, cli->deadline_us, &why);
		if (status == STATUS_UNAVAILABLE)
			return time_is_over(watch, err);
		if (status != STATUS_OK) {
			*err = why;
			return status;
		}
	}
}

enum status events_watch(struct cli *cli, struct error *err)
{
	struct watch watch = {.cli = cli};

	postern__v1__watch_request__init(&watch.request);
	enum status status = read_watch(&watch, err);
	if (status == STATUS_OK)
		status = cli_connect(cli, err);
	return status != STATUS_OK ? status : watch_until_over(&watch, err);
}
