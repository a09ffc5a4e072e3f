#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/clock.h"
#include "common/config.h"
#include "postern/v1/events.pb-c.h"

#define KINDS_MAX 64

static void print_flow(const Postern__V1__Entry *entry)
{
	const Postern__V1__Flow *flow = entry->flow;
	char from[80], to[80];
	print_endpoint(flow->client, flow->client_port, from, sizeof from);
	print_endpoint(flow->remote, flow->remote_port, to, sizeof to);
	printf("  %s -> %s", from, to);
	if (flow->accounted)
		printf("  %llu bytes sent, %llu received, %.3f s",
			(unsigned long long)flow->bytes_sent,
			(unsigned long long)flow->bytes_received, (double)flow->duration_us / 1e6);
}

void print_entry(const struct cli *cli, const Postern__V1__Entry *entry)
{
	char when[40], kind[48], reason[48], to[80];
	if (cli->json) {
		print_json(&entry->base);
		return;
	}
	print_time(entry->time_us, when, sizeof when);
	printf("%6llu  %s  %-19s", (unsigned long long)entry->sequence, when,
		enum_text(&postern__v1__entry_kind__descriptor, entry->kind, kind, sizeof kind));
	if (entry->gateway[0])
		printf(" %s", entry->gateway);
	if (entry->flow) {
		print_flow(entry);
	} else if (entry->remote[0]) {
		print_endpoint(entry->remote, entry->remote_port, to, sizeof to);
		printf("  %s -> %s", entry->client, to);
	}
	if (entry->reason)
		printf("  %s",
			enum_text(&postern__v1__end_reason__descriptor, entry->reason, reason,
				sizeof reason));
	if (entry->rule[0])
		printf("  rule \"%s\"", entry->rule);
	if (entry->detail[0])
		printf("  %s", entry->detail);
	if (entry->grant[0])
		printf("  grant %s", entry->grant);
	puts("");
	fflush(stdout);
}

struct watching {
	uint64_t cursor, seen, wanted; /* wanted 0 = for ever */
	bool over;
};

static void on_batch(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__EventBatch *batch = (const Postern__V1__EventBatch *)message;
	struct watching *watching = arg;
	for (size_t i = 0; i < batch->n_entries && !watching->over; i++) {
		print_entry(cli, batch->entries[i]);
		watching->cursor = batch->entries[i]->sequence;
		watching->over = ++watching->seen == watching->wanted;
	}
	if (!watching->over)
		watching->cursor = batch->cursor;
	if (watching->over)
		exit(EXIT_GOOD); /* all is printed and flushed; the server sees the connection end
				  */
}

static int parse_kinds(struct cli *cli, Postern__V1__EntryKind *kinds, size_t *ret_count)
{
	const char *kind;
	*ret_count = 0;
	for (size_t i = 0; i < KINDS_MAX && (kind = args_nth(cli, "kind", i)); i++) {
		int value;
		if (!enum_parse(&postern__v1__entry_kind__descriptor, kind, &value))
			return unknown_enum(
				cli, "kind", &postern__v1__entry_kind__descriptor, kind);
		kinds[(*ret_count)++] = (Postern__V1__EntryKind)value;
	}
	return EXIT_GOOD;
}

static int parse_watch(struct cli *cli, Postern__V1__WatchRequest *request,
	Postern__V1__EntryKind *kinds, struct watching *watching, uint64_t *ret_timeout_ms)
{
	const char *cursor = args_get(cli, "cursor"), *count = args_get(cli, "count"),
		   *timeout = args_get(cli, "timeout");
	struct error err;
	int code = parse_kinds(cli, kinds, &request->n_kinds);
	if (code)
		return code;
	request->kinds = kinds;
	request->from_now = !cursor || strcmp(cursor, "now") == 0;
	if (cursor && !request->from_now && strcmp(cursor, "start") != 0 &&
		parse_number(cursor, 0, INT64_MAX, &request->cursor, &err))
		return usage_error(cli, "--cursor: now, start, or %s", err.text);
	if (count && parse_number(count, 1, INT64_MAX, &watching->wanted, &err))
		return usage_error(cli, "--count: %s", err.text);
	if (timeout && (parse_duration(timeout, ret_timeout_ms, &err) || *ret_timeout_ms == 0))
		return usage_error(cli, "--timeout %s: a duration like 5s", timeout);
	request->gateway =
		(char *)(uintptr_t)(args_get(cli, "gateway") ? args_get(cli, "gateway") : "");
	request->grant = (char *)(uintptr_t)(args_get(cli, "grant") ? args_get(cli, "grant") : "");
	return EXIT_GOOD;
}

int events_watch(struct cli *cli)
{
	Postern__V1__WatchRequest request = POSTERN__V1__WATCH_REQUEST__INIT;
	Postern__V1__EntryKind kinds[KINDS_MAX];
	struct watching watching = {0};
	struct error err = {0};
	uint64_t timeout_ms = 0;
	int code = parse_watch(cli, &request, kinds, &watching, &timeout_ms);
	if (code)
		return code;
	int64_t until = timeout_ms ? clock_mono_us() + (int64_t)timeout_ms * 1000 : CLOCK_NEVER;
	do {
		cli->deadline_ms = 0;
		if (until != CLOCK_NEVER) {
			int64_t left = (until - clock_mono_us()) / 1000;
			cli->deadline_ms = left > 1 ? (uint64_t)left : 1;
		}
		(void)call_raw(cli, &postern__v1__events__descriptor, "Watch", &request.base, true,
			on_batch, &watching, &err);
		/* A lost connection: go on behind what was seen (I8). Before anything was seen,
		 * "now" is a new now. */
		if (watching.cursor) {
			request.from_now = false;
			request.cursor = watching.cursor;
		}
	} while (err.status == STATUS_UNAVAILABLE && cli->was_ready && clock_mono_us() < until);
	return report(cli, &err);
}
