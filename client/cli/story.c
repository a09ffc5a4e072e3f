#include "client/cli/story.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "common/config.h"

#define WHAT_SIZE 1024

/* Appends ", text" (without the comma at the beginning); cut at the end. */
static void add(char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(char *what, const char *format, ...)
{
	size_t used = strlen(what);
	va_list args;

	if (used > 0 && used + 3 < WHAT_SIZE) {
		memcpy(what + used, ", ", 3);
		used += 2;
	}
	va_start(args, format);
	vsnprintf(what + used, WHAT_SIZE - used, format, args);
	va_end(args);
}

#define DOOR_OF(message)                                                                           \
	{                                                                                          \
		.inbound = (message)->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND,      \
		.client = (message)->client, .remote = (message)->remote,                          \
		.external = (message)->external, .remotes = (message)->remotes,                    \
		.remote_count = (message)->n_remotes, .client_port = (message)->client_port,       \
		.remote_port = (message)->remote_port,                                             \
		.remote_port_last = (message)->remote_port_last,                                   \
		.external_port = (message)->external_port, .transport = (message)->transport,      \
	}

struct story_door story_door_of_grant(const Postern__V1__Grant *grant)
{
	return (struct story_door)DOOR_OF(grant);
}

struct story_door story_door_of_entry(const Postern__V1__Entry *entry)
{
	return (struct story_door)DOOR_OF(entry);
}

/* Whom an inbound door lets in. */
static void tell_remotes(const struct story_door *door, char *text, size_t size)
{
	size_t more = door->remote_count > 1 ? door->remote_count - 1 : 0;
	const char *first = door->remote_count != 0 ? door->remotes[0] : door->remote;

	if (first[0] == '\0')
		snprintf(text, size, "anybody");
	else if (more == 0)
		snprintf(text, size, "%s", first);
	else
		snprintf(text, size, "%s (+%zu other%s)", first, more, more == 1 ? "" : "s");
}

static void tell_inbound(const struct story_door *door, const char *name, char *text, size_t size)
{
	char from[96], to[80], external[80];

	tell_remotes(door, from, sizeof(from));
	cli_address(door->client, door->client_port, to, sizeof(to));
	cli_address(door->external, door->external_port, external, sizeof(external));
	snprintf(text, size, "%s -> %s%s%s %s", from, external, external[0] == '\0' ? "" : " -> ",
		to, name);
}

static void tell_outbound(const struct story_door *door, const char *name, char *text, size_t size)
{
	char to[80], range[16] = "", external[80];

	cli_address(door->remote, door->remote_port, to, sizeof(to));
	cli_address(door->external, door->external_port, external, sizeof(external));
	if (door->remote_port_last != 0)
		snprintf(range, sizeof(range), "-%u", door->remote_port_last);
	snprintf(text, size, "%s -> %s%s %s%s%s", door->client, to, range, name,
		external[0] == '\0' ? "" : ", seen as ", external);
}

void story_door(const struct story_door *door, char *text, size_t size)
{
	char name[NAME_SIZE];

	name_of(&postern__v1__transport__descriptor, (int)door->transport, name);
	if (door->inbound)
		tell_inbound(door, name, text, size);
	else
		tell_outbound(door, name, text, size);
}

void story_flags(uint32_t flags, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t bit = 1; bit != 0; bit <<= 1) {
		char name[NAME_SIZE];
		if (!(flags & bit))
			continue;
		name_of(&postern__v1__grant_flag__descriptor, (int)bit, name);
		int n = snprintf(text + used, size - used, "%s%s", used == 0 ? "" : ",", name);
		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

/* In the order in which it was opened. */
static void tell_flow(const Postern__V1__Flow *flow, bool inbound, char *what)
{
	char client[80], remote[80], external[80], name[NAME_SIZE];
	bool translated = flow->external[0] != '\0';

	cli_address(flow->client, flow->client_port, client, sizeof(client));
	cli_address(flow->remote, flow->remote_port, remote, sizeof(remote));
	cli_address(flow->external, flow->external_port, external, sizeof(external));
	name_of(&postern__v1__transport__descriptor, (int)flow->transport, name);
	if (inbound)
		add(what, "%s -> %s%s%s %s", remote, external, translated ? " -> " : "", client,
			name);
	else
		add(what, "%s -> %s %s%s%s", client, remote, name, translated ? ", seen as " : "",
			external);
}

/* Sent and received by the client, whoever opened the flow. */
static void tell_figures(const Postern__V1__Flow *flow, bool inbound, char *what)
{
	char sent[TEXT_AMOUNT_SIZE], received[TEXT_AMOUNT_SIZE], span[TEXT_AMOUNT_SIZE];

	if (!flow->accounted) {
		add(what, "ended unseen, figures unknown");
		return;
	}
	text_bytes(flow->bytes_sent, sent);
	text_bytes(flow->bytes_received, received);
	text_span(flow->duration_us > INT64_MAX ? INT64_MAX : (int64_t)flow->duration_us, span);
	add(what, "%ssent %s in %" PRIu64 " packets", inbound ? "client " : "", sent,
		flow->packets_sent);
	add(what, "received %s in %" PRIu64 " packets", received, flow->packets_received);
	add(what, "lasted %s", span);
}

static bool has_terms(Postern__V1__EntryKind kind)
{
	return kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_GRANTED ||
		kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_RESERVED;
}

static bool begins_time(Postern__V1__EntryKind kind)
{
	return has_terms(kind) || kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_COMMITTED ||
		kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_RENEWED;
}

static void tell_terms(const Postern__V1__Entry *entry, char *what)
{
	char text[128];

	if (has_terms(entry->kind) || entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_DENIED) {
		story_flags(entry->flags, text, sizeof(text));
		if (text[0] != '\0')
			add(what, "%s", text);
	}
	if (begins_time(entry->kind) && entry->lifetime_ms != 0) {
		format_duration(entry->lifetime_ms, text, sizeof(text));
		add(what, "for %s", text);
	}
	if (!has_terms(entry->kind))
		return;
	if (entry->max_connections == 0)
		add(what, "any number of connections");
	else
		add(what, "%" PRIu64 " connection%s", entry->max_connections,
			entry->max_connections == 1 ? "" : "s");
	if (entry->bundle[0] != '\0')
		add(what, "bundle %s", entry->bundle);
}

/* What it is about; `alone`: no line before it has told of its grant. */
static void tell_subject(const Postern__V1__Entry *entry, bool alone, char *what)
{
	struct story_door door = story_door_of_entry(entry);
	char text[512];

	if (entry->flow != NULL) {
		tell_flow(entry->flow, door.inbound, what);
	} else if (entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_EXTERNAL_CHANGED ||
		(alone && (entry->remote[0] != '\0' || entry->client_port != 0))) {
		story_door(&door, text, sizeof(text));
		add(what, "%s", text);
	} else if (alone && entry->client[0] != '\0') {
		add(what, "client %s", entry->client);
	}
	if (entry->protocol[0] != '\0' && (alone || has_terms(entry->kind)))
		add(what, "protocol %s", entry->protocol);
}

/* What `count` counts. */
static const char *counted(Postern__V1__EntryKind kind)
{
	if (kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_EVENTS_OVERRUN)
		return "overrun";
	if (kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_FEED_CHANGED ||
		kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_FEED_HELD ||
		kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_FEED_FAILED)
		return "network";
	return kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_TABLE_REBUILT ? "time" : "connection";
}

static void tell_count(const Postern__V1__Entry *entry, char *what)
{
	if (entry->count == 0)
		return;
	if (entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_POLICY_ROLLED_BACK)
		add(what, "the document of revision %" PRIu64, entry->count);
	else
		add(what, "%" PRIu64 " %s%s", entry->count, counted(entry->kind),
			entry->count == 1 ? "" : "s");
}

/* By which rules, of which revision, and for which user it was decided. */
static void tell_decision(const Postern__V1__Entry *entry, char *what)
{
	if (entry->rule[0] != '\0')
		add(what, "rule %s", entry->rule);
	if (entry->site_rule[0] != '\0')
		add(what, "site rule %s", entry->site_rule);
	if (entry->staged_rule[0] != '\0')
		add(what, "staged rule %s would turn it", entry->staged_rule);
	if (entry->revision != 0)
		add(what, "revision %" PRIu64, entry->revision);
	if (entry->user[0] != '\0')
		add(what, "user %s", entry->user);
}

/* What this entry says beyond its kind. `alone`: no line before it has told of its grant. */
static void tell(const Postern__V1__Entry *entry, bool alone, char what[WHAT_SIZE])
{
	char reason[NAME_SIZE];

	what[0] = '\0';
	tell_subject(entry, alone, what);
	tell_terms(entry, what);
	if (entry->flow != NULL && entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_CLOSED)
		tell_figures(entry->flow,
			entry->direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND, what);
	name_of(&postern__v1__end_reason__descriptor, (int)entry->reason, reason);
	if (reason[0] != '\0')
		add(what, "%s", reason);
	tell_decision(entry, what);
	tell_count(entry, what);
	if (entry->detail[0] != '\0')
		add(what, "%s", entry->detail);
	if (entry->actor[0] != '\0')
		add(what, "by %s", entry->actor);
}

void story_line(FILE *out, const Postern__V1__Entry *entry)
{
	char time[TEXT_TIME_SIZE], kind[NAME_SIZE], what[WHAT_SIZE], raw[WHAT_SIZE + 512],
		line[WHAT_SIZE + 512];

	text_time(entry->time_us, true, time);
	name_of(&postern__v1__entry_kind__descriptor, (int)entry->kind, kind);
	tell(entry, true, what);
	int n = snprintf(raw, sizeof(raw), "%s  #%-6" PRIu64 " %-8s %-19s %s%s%s", time,
		entry->sequence, entry->gateway[0] != '\0' ? entry->gateway : "-", kind, what,
		entry->grant[0] != '\0' ? ", grant " : "", entry->grant);
	text_escape(raw, n < 0 ? 0 : strlen(raw), line, sizeof(line));
	fprintf(out, "%s\n", line);
}

void story_chapter(FILE *out, const Postern__V1__Entry *entry, int64_t start_us)
{
	char time[TEXT_TIME_SIZE], since[TEXT_AMOUNT_SIZE], kind[NAME_SIZE], what[WHAT_SIZE],
		line[WHAT_SIZE];
	int64_t past_us = entry->time_us - start_us;

	text_time(entry->time_us, true, time);
	text_span(past_us > 0 ? past_us : 0, since);
	name_of(&postern__v1__entry_kind__descriptor, (int)entry->kind, kind);
	tell(entry, false, what);
	text_escape(what, strlen(what), line, sizeof(line));
	/* The unit's µ is two bytes wide and one column. */
	int pad = 9 + (int)(strlen(since) - text_width(since));
	if (line[0] == '\0')
		fprintf(out, "    %s  +%-*s %s\n", time, pad, since, kind);
	else
		fprintf(out, "    %s  +%-*s %-15s %s\n", time, pad, since, kind, line);
}
