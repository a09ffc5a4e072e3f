/* From a packed message to a document.
 *
 * The bytes are counted before they are unpacked, because an empty element of two bytes becomes a
 * struct of hundreds. Everything that the message and the document consist of lies in one arena,
 * but for ranges and ports, which grow. */
#include "server/document/document.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/document/build.h"
#include "server/policy/zone.h"

#define ELEMENTS_MAX (2 * (size_t)DOCUMENT_ADDRESSES_MAX) /* of all lists of all parts */

/* Whole and shortest sequences, no surrogates, and no zero byte, which would end the text early. */
static bool utf8_is_valid(const uint8_t *at, size_t size)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	const uint8_t *end = at + size;
	while (at < end) {
		uint8_t lead = *at++;
		if (lead == 0)
			return false;
		if (lead < 0x80)
			continue;
		unsigned more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
		if (lead < 0xc2 || lead > 0xf4 || (size_t)(end - at) < more)
			return false;
		uint32_t value = lead & (0x3fU >> more);
		for (unsigned i = 0; i < more; i++, at++) {
			if ((*at & 0xc0) != 0x80)
				return false;
			value = value << 6 | (*at & 0x3fU);
		}
		if (value < least[more] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
			return false;
	}
	return true;
}

/* ---- counting ---- */

static bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret_value)
{
	uint64_t value = 0;
	for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
		uint8_t byte = *(*at)++;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

/* Over one field; *ret_body is NULL unless it has a length. False: not a message. */
static bool read_field(const uint8_t **at, const uint8_t *end, uint32_t *ret_number,
	const uint8_t **ret_body, size_t *ret_size)
{
	uint64_t tag, value;
	*ret_body = NULL;
	if (!read_varint(at, end, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
		return false;
	*ret_number = (uint32_t)(tag >> 3);
	switch (tag & 7) {
	case 0:
		return read_varint(at, end, &value);
	case 1:
	case 5: {
		size_t size = (tag & 7) == 1 ? 8 : 4;
		if ((size_t)(end - *at) < size)
			return false;
		*at += size;
		return true;
	}
	case 2:
		if (!read_varint(at, end, &value) || value > (size_t)(end - *at))
			return false;
		*ret_body = *at;
		*ret_size = (size_t)value;
		*at += value;
		return true;
	}
	return false;
}

/* How many of each part may be, and the highest field of its message: they are numbered from 1
 * without gaps. By the numbers of document.proto's fields. */
static const struct {
	const char *kind;
	size_t most;
	uint32_t last_field;
} parts[] = {
	[2] = {"protocols", 10000, 10},
	[3] = {"client_sets", DOCUMENT_SETS_MAX, 6},
	[4] = {"destination_sets", DOCUMENT_SETS_MAX, 6},
	[5] = {"user_sets", DOCUMENT_SETS_MAX, 4},
	[6] = {"schedules", DOCUMENT_SCHEDULES_MAX, 6},
	[7] = {"feeds", DOCUMENT_FEEDS_MAX, 11},
	[8] = {"protocol_rules", DOCUMENT_RULES_MAX, 14},
	[9] = {"site_and_content_rules", DOCUMENT_RULES_MAX, 15},
	[10] = {"filters", 10000, 4},
	[11] = {"tests", DOCUMENT_TESTS_MAX, 10},
};
#define PARTS (sizeof parts / sizeof *parts)

static enum status not_a_document(struct error *err)
{
	return error_field(
		err, "document", "document: these bytes are not a packed PolicyDocument");
}

/* The only field with a length that is not text: packed numbers. */
static bool is_text(uint32_t part, uint32_t field)
{
	return !(part == 2 && field == 5); /* ProtocolDefinition.primary_ports */
}

/* One element of a list of parts: how many values it has, and whether they can be what they are
 * for. A field that is not known is refused, because it may be one that narrows a rule. */
static enum status check_part(uint32_t part, size_t index, const uint8_t *at, size_t size,
	size_t *elements, struct error *err)
{
	const uint8_t *end = at + size, *body;
	const char *kind = parts[part].kind;
	uint32_t field;
	char path[64];
	snprintf(path, sizeof path, "%s[%zu]", kind, index);
	while (at < end) {
		if (!read_field(&at, end, &field, &body, &size))
			return not_a_document(err);
		if (field > parts[part].last_field)
			return error_field(err, path,
				"%s: this server does not know field %u of it: it is older than "
				"what made the document",
				path, field);
		if (body && is_text(part, field) && !utf8_is_valid(body, size))
			return error_field(
				err, path, "%s: its field %u is not UTF-8 text", path, field);
		if (++*elements > ELEMENTS_MAX)
			return error_field(err, kind, "%s: the document has more than %zu values",
				kind, ELEMENTS_MAX);
	}
	return STATUS_OK;
}

static enum status check_counts(const uint8_t *at, size_t size, struct error *err)
{
	const uint8_t *end = at + size, *body;
	size_t counts[PARTS] = {0}, elements = 0, body_size;
	uint32_t number;
	while (at < end) {
		if (!read_field(&at, end, &number, &body, &body_size))
			return not_a_document(err);
		if (number >= PARTS)
			return error_field(err, "document",
				"document: this server does not know field %u of it: it is older "
				"than what made the document",
				number);
		if (!body || !parts[number].kind)
			continue;
		if (counts[number] >= parts[number].most)
			return error_field(err, parts[number].kind, "%s: more than %zu",
				parts[number].kind, parts[number].most);
		enum status status =
			check_part(number, counts[number]++, body, body_size, &elements, err);
		if (status)
			return status;
	}
	return STATUS_OK;
}

/* ---- unpacking ---- */

static void *take(void *arena, size_t size)
{
	return arena_take(arena, size);
}

static void keep(void *arena, void *memory)
{
	(void)arena;
	(void)memory;
}

static bool reserve(struct build *build)
{
	const Postern__V1__PolicyDocument *m = build->message;
	struct document *d = build->document;
	struct arena *arena = build->arena;
	return (d->protocols = arena_array(arena, m->n_protocols, sizeof *d->protocols)) &&
		(d->client_sets = arena_array(arena, m->n_client_sets, sizeof *d->client_sets)) &&
		(d->destination_sets = arena_array(
			 arena, m->n_destination_sets, sizeof *d->destination_sets)) &&
		(d->user_sets = arena_array(arena, m->n_user_sets, sizeof *d->user_sets)) &&
		(d->schedules = arena_array(arena, m->n_schedules, sizeof *d->schedules)) &&
		(d->feeds = arena_array(arena, m->n_feeds, sizeof *d->feeds)) &&
		(d->rules = arena_array(arena, m->n_protocol_rules + m->n_site_and_content_rules,
			 sizeof *d->rules)) &&
		(d->limits = arena_array(arena, m->n_filters, sizeof *d->limits)) &&
		(d->tests = arena_array(arena, m->n_tests, sizeof *d->tests)) &&
		names_init(&build->protocols, arena, m->n_protocols) &&
		names_init(&build->client_sets, arena, m->n_client_sets) &&
		names_init(&build->destination_sets, arena, m->n_destination_sets) &&
		names_init(&build->user_sets, arena, m->n_user_sets) &&
		names_init(&build->schedules, arena, m->n_schedules) &&
		names_init(&build->feeds, arena, m->n_feeds) &&
		names_init(&build->dns, arena, DOCUMENT_NAMES_MAX + 1);
}

static enum status build_all(struct build *build)
{
	const Postern__V1__PolicyDocument *message = build->message;
	if (!reserve(build))
		return build_memory(build);
	if (message->on_change < POSTERN__V1__ON_CHANGE__ON_CHANGE_CANCEL ||
		message->on_change > POSTERN__V1__ON_CHANGE__ON_CHANGE_CUT)
		return error_field(build->err, "on_change", "on_change: cancel, keep or cut");
	build->document->on_change = (enum on_change)message->on_change;
	enum status status = build_parts(build);
	if (!status)
		status = build_sets(build);
	return status ? status : build_rules(build);
}

static void build_fini(struct build *build)
{
	names_fini(&build->protocols);
	names_fini(&build->client_sets);
	names_fini(&build->destination_sets);
	names_fini(&build->user_sets);
	names_fini(&build->schedules);
	names_fini(&build->feeds);
	names_fini(&build->dns);
}

static struct document *document_new(void)
{
	struct document *document = calloc(1, sizeof *document);
	if (!document)
		return NULL;
	document->memory = calloc(1, sizeof(struct document_memory));
	if (document->memory)
		return document;
	free(document);
	return NULL;
}

enum status document_unpack(
	const uint8_t *packed, size_t size, struct document **ret_document, struct error *err)
{
	if (size > DOCUMENT_SIZE_MAX)
		return error_field(err, "document", "document: %zu bytes, at most %u", size,
			DOCUMENT_SIZE_MAX);
	enum status status = check_counts(packed, size, err);
	if (status)
		return status;
	struct build build;
	memset(&build, 0, sizeof build);
	build.err = err;
	build.document = document_new();
	if (!build.document)
		return build_memory(&build);
	build.arena = &((struct document_memory *)build.document->memory)->arena;
	ProtobufCAllocator allocator = {take, keep, build.arena};
	build.message = postern__v1__policy_document__unpack(&allocator, size, packed);
	/* Its shape is right as far as it was counted: what is left is memory, or text in the wrong
	 * place. */
	status = build.message        ? build_all(&build)
		: build.arena->failed ? build_memory(&build)
				      : not_a_document(err);
	build_fini(&build);
	if (status)
		document_free(build.document);
	else
		*ret_document = build.document;
	return status;
}

static void free_sets(struct document_set *sets, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ranges_fini(&sets[i].addresses);
}

void document_free(struct document *document)
{
	if (!document)
		return;
	for (size_t i = 0; i < document->protocol_count; i++) {
		ports_fini(&document->protocols[i].secondary.ports);
		ranges_fini(&document->protocols[i].secondary.addresses);
	}
	free_sets(document->client_sets, document->client_set_count);
	free_sets(document->destination_sets, document->destination_set_count);
	for (size_t i = 0; i < document->schedule_count; i++)
		schedule_fini(&document->schedules[i].schedule);
	for (size_t i = 0; i < document->rule_count; i++) {
		struct document_rule *rule = &document->rules[i];
		ranges_fini(&rule->destinations.addresses);
		ranges_fini(&rule->destinations_except.addresses);
		ranges_fini(&rule->clients.addresses);
		ranges_fini(&rule->clients_except.addresses);
		ports_fini(&rule->ports);
	}
	arena_fini(&((struct document_memory *)document->memory)->arena);
	free(document->memory);
	free(document);
}
