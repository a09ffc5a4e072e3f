/* Protocol definitions, schedules, feeds, limits of filters, tests. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "server/document/build.h"
#include "server/policy/moment.h"

#define RANGE_MAX 1024 /* ports */
#define LIFETIME_MAX_MS (366ULL * 24 * 3600 * 1000)

/* ---- protocol definitions ---- */

static bool is_name(const char *text)
{
	size_t length = strlen(text);
	return length > 0 && length < RECORD_NAME_SIZE &&
		strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._-") == length &&
		!strchr("._-", text[0]);
}

static enum status build_primary_ports(struct build *build,
	const Postern__V1__ProtocolDefinition *message, struct protocol_record *record)
{
	size_t most = sizeof record->primary_ports / sizeof *record->primary_ports;
	if (message->n_primary_ports > most)
		return build_error(build, "primary_ports", "at most %zu", most);
	for (size_t i = 0; i < message->n_primary_ports; i++) {
		if (message->primary_ports[i] == 0 || message->primary_ports[i] > UINT16_MAX)
			return build_element_error(build, "primary_ports", i, "%u is not a port",
				message->primary_ports[i]);
		record->primary_ports[record->primary_port_count++] =
			(uint16_t)message->primary_ports[i];
	}
	return STATUS_OK;
}

static enum status build_bounds(struct build *build, const Postern__V1__ProtocolDefinition *message,
	struct document_protocol *protocol)
{
	struct protocol_record *record = &protocol->record;
	if (message->remote_scope < POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_ANY ||
		message->remote_scope > POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_PEER_NETWORK)
		return build_error(build, "remote_scope", "any, peer or peer-network");
	if (message->max_ports > RANGE_MAX)
		return build_error(
			build, "max_ports", "%u: at most %d", message->max_ports, RANGE_MAX);
	record->remote_scope = (uint8_t)message->remote_scope;
	record->low_ports = message->low_ports;
	record->max_ports = (uint16_t)message->max_ports;
	enum status status = build_ports(build, "secondary_ports", message->secondary_ports,
		message->n_secondary_ports, &protocol->secondary.ports);
	if (!status)
		status = build_ranges(build, "secondary_addresses", message->secondary_addresses,
			message->n_secondary_addresses, &protocol->secondary.addresses);
	if (!status)
		status = build_texts(build, message->secondary_ports, message->n_secondary_ports,
			&protocol->secondary.port_texts);
	if (!status)
		status = build_texts(build, message->secondary_addresses,
			message->n_secondary_addresses, &protocol->secondary.address_texts);
	if (message->n_secondary_ports > 0 || message->n_secondary_addresses > 0)
		record->secondary = &protocol->secondary;
	return status;
}

/* Always the same for a name: a UUIDv8 (RFC 9562) from its BLAKE2b-128. */
static struct id guid_of_name(const char *name)
{
	static const char prefix[] = "postern protocol ";
	crypto_generichash_state state;
	struct id id;
	(void)crypto_generichash_init(&state, NULL, 0, sizeof id.bytes);
	(void)crypto_generichash_update(&state, (const uint8_t *)prefix, sizeof prefix - 1);
	(void)crypto_generichash_update(&state, (const uint8_t *)name, strlen(name));
	(void)crypto_generichash_final(&state, id.bytes, sizeof id.bytes);
	id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x80);
	id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
	return id;
}

static enum status build_guid(struct build *build, const char *text, size_t index)
{
	struct document *document = build->document;
	struct protocol_record *record = &document->protocols[index].record;
	if (text[0] == '\0')
		record->guid = guid_of_name(record->name);
	else if (!id_parse(text, &record->guid) || id_is_zero(&record->guid))
		return build_error(build, "guid", "\"%.60s\" is not a UUID", text);
	for (size_t i = 0; i < index; i++)
		if (id_equal(&document->protocols[i].record.guid, &record->guid))
			return build_error(build, "guid", "protocol \"%s\" has it already",
				document->protocols[i].record.name);
	return STATUS_OK;
}

static enum status build_protocol(
	struct build *build, const Postern__V1__ProtocolDefinition *message, size_t index)
{
	struct document_protocol *protocol = &build->document->protocols[index];
	struct protocol_record *record = &protocol->record;
	enum status status =
		build_name(build, "protocols", index, message->name, &build->protocols);
	if (status)
		return status;
	if (!is_name(message->name))
		return build_error(build, "name", "use 1 to 63 of a-z 0-9 . _ -");
	snprintf(record->name, sizeof record->name, "%s", message->name);
	record->shared = true;
	record->transport = message->transport == POSTERN__V1__TRANSPORT__TRANSPORT_UNSPECIFIED
		? (uint8_t)POSTERN__V1__TRANSPORT__TRANSPORT_TCP
		: (uint8_t)message->transport;
	if (record->transport != POSTERN__V1__TRANSPORT__TRANSPORT_TCP &&
		record->transport != POSTERN__V1__TRANSPORT__TRANSPORT_UDP)
		return build_error(build, "transport", "tcp or udp");
	status = build_guid(build, message->guid, index);
	if (!status)
		status = build_primary_ports(build, message, record);
	return status ? status : build_bounds(build, message, protocol);
}

static enum status build_protocols(struct build *build)
{
	const Postern__V1__PolicyDocument *message = build->message;
	enum status status = STATUS_OK;
	for (size_t i = 0; i < message->n_protocols && !status; i++) {
		build->document->protocol_count = i + 1;
		status = build_protocol(build, message->protocols[i], i);
	}
	return status;
}

/* ---- schedules ---- */

static enum status build_schedule(
	struct build *build, const Postern__V1__Schedule *message, size_t index)
{
	struct document_schedule *schedule = &build->document->schedules[index];
	const struct schedule_texts texts = {.time_zone = message->time_zone,
		.weekly = (const char *const *)message->weekly,
		.dates = (const char *const *)message->dates,
		.except_dates = (const char *const *)message->except_dates,
		.weekly_count = message->n_weekly,
		.date_count = message->n_dates,
		.except_count = message->n_except_dates};
	struct error cause;
	enum status status =
		build_name(build, "schedules", index, message->name, &build->schedules);
	if (status)
		return status;
	schedule->name = message->name;
	if (schedule_parse(&texts, &schedule->schedule, &cause) == STATUS_OK)
		return STATUS_OK;
	if (cause.status != STATUS_INVALID_ARGUMENT)
		return build_memory(build);
	return build_error(build, cause.field, "%s", cause.text);
}

static enum status build_schedules(struct build *build)
{
	const Postern__V1__PolicyDocument *message = build->message;
	enum status status = STATUS_OK;
	for (size_t i = 0; i < message->n_schedules && !status; i++) {
		build->document->schedule_count = i + 1;
		status = build_schedule(build, message->schedules[i], i);
	}
	return status;
}

/* ---- feeds ---- */

static enum status build_duration(struct build *build, const char *field, const char *text,
	uint64_t least_ms, uint64_t most_ms, uint64_t *duration)
{
	struct error cause;
	char least[32], most[32];
	if (text[0] == '\0')
		return STATUS_OK;
	if (parse_duration(text, duration, &cause))
		return build_error(
			build, field, "\"%.40s\" is not a duration: write 30s, 5m, 1h", text);
	if (*duration >= least_ms && *duration <= most_ms)
		return STATUS_OK;
	format_duration(least_ms, least, sizeof least);
	format_duration(most_ms, most, sizeof most);
	return build_error(build, field, "\"%.40s\": from %s to %s", text, least, most);
}

static bool is_pin(const char *text)
{
	uint8_t key[33];
	size_t size;
	return strncmp(text, "sha256//", 8) == 0 &&
		sodium_base642bin(key, sizeof key, text + 8, strlen(text + 8), NULL, &size, NULL,
			sodium_base64_VARIANT_ORIGINAL) == 0 &&
		size == 32;
}

static enum status check_url(struct build *build, const char *url)
{
	size_t length = strlen(url);
	if (strncmp(url, "https://", 8) != 0)
		return build_error(build, "url",
			"\"%.60s\": feeds are fetched from https:// only: rules rest on them", url);
	if (length > 2048 || length < 9 || strcspn(url + 8, "/") == 0)
		return build_error(build, "url", "no host, or longer than 2048 bytes");
	for (const char *at = url; *at; at++)
		if ((unsigned char)*at <= 0x20 || (unsigned char)*at >= 0x7f)
			return build_error(build, "url",
				"without blanks, and other characters percent-encoded");
	if (memchr(url + 8, '@', strcspn(url + 8, "/")))
		return build_error(build, "url", "without a password: everybody may read it");
	return STATUS_OK;
}

static enum status build_feed_limits(
	struct build *build, const Postern__V1__Feed *message, struct document_feed *feed)
{
	struct error cause;
	feed->refresh_ms = 3600 * 1000;
	feed->timeout_ms = 30 * 1000;
	feed->max_size = 16 * 1024 * 1024;
	enum status status = build_duration(
		build, "refresh", message->refresh, 60 * 1000, 30ULL * 86400000, &feed->refresh_ms);
	if (!status)
		status = build_duration(
			build, "timeout", message->timeout, 1000, 300 * 1000, &feed->timeout_ms);
	if (status)
		return status;
	if (message->max_size[0] && parse_size(message->max_size, &feed->max_size, &cause))
		return build_error(build, "max_size", "\"%.40s\" is not a size: write 500k, 10m",
			message->max_size);
	if (feed->max_size == 0 || feed->max_size > 64 * 1024 * 1024)
		return build_error(build, "max_size", "from 1 byte to 64m");
	if (message->max_shrink > 100)
		return build_error(
			build, "max_shrink", "%u percent: from 1 to 100", message->max_shrink);
	feed->max_shrink = message->max_shrink ? message->max_shrink : 50;
	return STATUS_OK;
}

static enum status build_feed(struct build *build, const Postern__V1__Feed *message, size_t index)
{
	struct document_feed *feed = &build->document->feeds[index];
	enum status status = build_name(build, "feeds", index, message->name, &build->feeds);
	if (!status)
		status = check_url(build, message->url);
	if (!status)
		status = build_feed_limits(build, message, feed);
	if (status)
		return status;
	feed->name = message->name;
	feed->url = message->url;
	feed->json_pointer = message->json_pointer;
	feed->json_key = message->json_key;
	feed->pinned_key = message->pinned_key;
	feed->is_json = message->format == POSTERN__V1__FEED_FORMAT__FEED_FORMAT_JSON;
	if (!feed->is_json && message->format != POSTERN__V1__FEED_FORMAT__FEED_FORMAT_TEXT)
		return build_error(build, "format", "text or json");
	if (!feed->is_json && (feed->json_pointer[0] || feed->json_key[0]))
		return build_error(build, feed->json_pointer[0] ? "json_pointer" : "json_key",
			"for format: json only");
	if (feed->json_pointer[0] && feed->json_pointer[0] != '/')
		return build_error(build, "json_pointer", "begins with a slash (RFC 6901)");
	if (feed->pinned_key[0] && !is_pin(feed->pinned_key))
		return build_error(build, "pinned_key",
			"\"sha256//\" and the base64 of 32 bytes: see postern-policy(5)");
	return STATUS_OK;
}

static enum status build_feeds(struct build *build)
{
	const Postern__V1__PolicyDocument *message = build->message;
	enum status status = STATUS_OK;
	for (size_t i = 0; i < message->n_feeds && !status; i++)
		status = build_feed(build, message->feeds[i], i);
	build->document->feed_count = message->n_feeds;
	return status;
}

/* ---- limits of filters ---- */

static enum status build_limits(struct build *build, struct names *names)
{
	const Postern__V1__PolicyDocument *message = build->message;
	enum status status = STATUS_OK;
	if (!names_init(names, build->arena, message->n_filters))
		return build_memory(build);
	for (size_t i = 0; i < message->n_filters && !status; i++) {
		const Postern__V1__FilterLimits *from = message->filters[i];
		struct document_limits *limits = &build->document->limits[i];
		build->kind = "filters";
		build->index = i;
		build->name = limits->filter = from->filter;
		bool memory = false;
		if (!is_name(from->filter))
			return build_error(
				build, "filter", "\"%.63s\" is not a filter's name", from->filter);
		if (names_add(names, from->filter, &memory))
			return build_error(build, "filter", "it has limits already");
		if (memory)
			return build_memory(build);
		limits->max_grants = from->max_grants;
		limits->grants_per_second = from->grants_per_second;
		status = build_duration(build, "max_lifetime", from->max_lifetime, 1000,
			LIFETIME_MAX_MS, &limits->max_lifetime_ms);
	}
	build->document->limit_count = message->n_filters;
	return status;
}

/* ---- tests ---- */

static enum status build_test(
	struct build *build, const Postern__V1__PolicyTest *message, size_t index)
{
	struct document_test *test = &build->document->tests[index];
	struct endpoint endpoint;
	struct addr addr;
	int64_t at;
	build->kind = "tests";
	build->index = index;
	build->name = message->name;
	bool inbound = message->from[0] != '\0';
	if ((message->to[0] != '\0') == inbound)
		return build_error(build, inbound ? "from" : "to",
			"say `to` for an outbound door, or `from` for an inbound one");
	if (!endpoint_parse(message->client, inbound, &endpoint) || (!inbound && endpoint.port))
		return build_error(build, "client", "\"%.60s\" is not an address%s",
			message->client, inbound ? " with a port: [fd00::1]:5060" : "");
	if (inbound && strcmp(message->from, "any") != 0 && !addr_parse(message->from, &addr))
		return build_error(
			build, "from", "\"%.60s\" is not an address, nor any", message->from);
	if (message->protocol[0] == '\0')
		return build_error(build, "protocol", "name a protocol");
	if (message->at[0] && !moment_parse(message->at, false, &at))
		return build_error(build, "at",
			"\"%.40s\" is not a time: write 2026-12-31T18:00:00Z", message->at);
	test->expect_deny = message->expect == POSTERN__V1__ACTION__ACTION_DENY;
	if (message->expect != POSTERN__V1__ACTION__ACTION_ALLOW && !test->expect_deny)
		return build_error(build, "expect", "allow or deny");
	test->name = message->name;
	test->gateway = message->gateway;
	test->client = message->client;
	test->to = message->to;
	test->from = message->from;
	test->protocol = message->protocol;
	test->user = message->user;
	test->at = message->at;
	test->rule = message->rule;
	return STATUS_OK;
}

static enum status build_tests(struct build *build)
{
	enum status status = STATUS_OK;
	for (size_t i = 0; i < build->message->n_tests && !status; i++)
		status = build_test(build, build->message->tests[i], i);
	build->document->test_count = build->message->n_tests;
	return status;
}

enum status build_parts(struct build *build)
{
	struct names filters;
	memset(&filters, 0, sizeof filters);
	enum status status = build_protocols(build);
	if (!status)
		status = build_schedules(build);
	if (!status)
		status = build_feeds(build);
	if (!status)
		status = build_limits(build, &filters);
	names_fini(&filters);
	return status ? status : build_tests(build);
}
