#include "client/cli/story.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/names.h"
#include "client/cli/text.h"
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

void story_door(const char *client, const char *remote, uint32_t port,
	Postern__V1__Transport transport, char *text, size_t size)
{
	char to[80], name[NAME_SIZE];

	cli_address(remote, port, to, sizeof(to));
	name_of(&postern__v1__transport__descriptor, (int)transport, name);
	snprintf(text, size, "%s -> %s %s", client, to, name);
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

static void tell_flow(const Postern__V1__Flow *flow, char *what)
{
	char client[80], remote[80], name[NAME_SIZE];

	cli_address(flow->client, flow->client_port, client, sizeof(client));
	cli_address(flow->remote, flow->remote_port, remote, sizeof(remote));
	name_of(&postern__v1__transport__descriptor, (int)flow->transport, name);
	add(what, "%s -> %s %s", client, remote, name);
}

static void tell_figures(const Postern__V1__Flow *flow, char *what)
{
	char sent[TEXT_AMOUNT_SIZE], received[TEXT_AMOUNT_SIZE], span[TEXT_AMOUNT_SIZE];

	if (!flow->accounted) {
		add(what, "ended unseen, figures unknown");
		return;
	}
	text_bytes(flow->bytes_sent, sent);
	text_bytes(flow->bytes_received, received);
	text_span(flow->duration_us > INT64_MAX ? INT64_MAX : (int64_t)flow->duration_us, span);
	add(what, "sent %s in %" PRIu64 " packets", sent, flow->packets_sent);
	add(what, "received %s in %" PRIu64 " packets", received, flow->packets_received);
	add(what, "lasted %s", span);
}

static void tell_terms(const Postern__V1__Entry *entry, char *what)
{
	char text[128];

	story_flags(entry->flags, text, sizeof(text));
	if (text[0] != '\0')
		add(what, "%s", text);
	if (entry->kind != POSTERN__V1__ENTRY_KIND__ENTRY_KIND_GRANTED)
		return;
	if (entry->lifetime_ms != 0) {
		format_duration(entry->lifetime_ms, text, sizeof(text));
		add(what, "for %s", text);
	}
	if (entry->max_connections == 0)
		add(what, "any number of connections");
	else
		add(what, "%" PRIu64 " connection%s", entry->max_connections,
			entry->max_connections == 1 ? "" : "s");
}

/* What `count` counts. */
static const char *counted(Postern__V1__EntryKind kind)
{
	if (kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_EVENTS_OVERRUN)
		return "overrun";
	return kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_TABLE_REBUILT ? "time" : "connection";
}

/* What this entry says beyond its kind. `alone`: no line before it has told of its grant. */
static void tell(const Postern__V1__Entry *entry, bool alone, char what[WHAT_SIZE])
{
	char text[256], reason[NAME_SIZE];

	what[0] = '\0';
	if (entry->flow != NULL)
		tell_flow(entry->flow, what);
	else if (alone && entry->remote[0] != '\0') {
		story_door(entry->client, entry->remote, entry->remote_port, entry->transport, text,
			sizeof(text));
		add(what, "%s", text);
	} else if (alone && entry->client[0] != '\0')
		add(what, "client %s", entry->client);
	if (entry->protocol[0] != '\0' &&
		(alone || entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_GRANTED))
		add(what, "protocol %s", entry->protocol);
	if (entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_GRANTED ||
		entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_DENIED)
		tell_terms(entry, what);
	if (entry->flow != NULL && entry->kind == POSTERN__V1__ENTRY_KIND__ENTRY_KIND_CLOSED)
		tell_figures(entry->flow, what);
	name_of(&postern__v1__end_reason__descriptor, (int)entry->reason, reason);
	if (reason[0] != '\0')
		add(what, "%s", reason);
	if (entry->rule[0] != '\0')
		add(what, "rule %s", entry->rule);
	if (entry->count != 0)
		add(what, "%" PRIu64 " %s%s", entry->count, counted(entry->kind),
			entry->count == 1 ? "" : "s");
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
