/* libyaml's events make the tree, bottom up: the children of every open sequence or mapping wait in
 * one stack (`waiting`) and move to the tree together when it closes. Nothing here recurses, so
 * depth costs nothing before it is refused.
 *
 * What libyaml says in its own words is told with a hint where people are known to stumble. Bytes
 * are checked before it sees them: it would name neither line nor column of a broken one. */
#include "client/text/yaml.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "client/text/message.h"
#include "client/text/node.h"
#include "client/text/text.h"

#define CORE_PREFIX "tag:yaml.org,2002:"

struct open_node {
	uint32_t index; /* of the node */
	size_t waiting; /* where its children begin */
};

struct reading {
	const char *name;
	struct node_tree tree;
	struct open_node open[MESSAGE_DEPTH_MAX];
	size_t depth;
	uint32_t *waiting;
	size_t waiting_count, waiting_room;
	size_t documents;
	struct error *err;
};

/* ---- errors ---- */

static __attribute__((format(printf, 4, 5))) enum status fail_at(
	struct reading *reading, size_t line, size_t column, const char *format, ...)
{
	char what[256];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	return error_set(reading->err, STATUS_INVALID_ARGUMENT, "%.120s:%zu:%zu: %s", reading->name,
		line, column, what);
}

static enum status fail_memory(struct reading *reading)
{
	return error_set(
		reading->err, STATUS_RESOURCE_EXHAUSTED, "%.120s: out of memory", reading->name);
}

struct hint {
	const char *problem; /* in libyaml's words */
	const char *text;
};

static const struct hint hints[] = {
	{"found character that cannot start any token",
		"a value cannot begin with this character; put it in quotes, and indent with "
		"spaces, not tabs"},
	{"found a tab character", "indent with spaces, not tabs"},
	{"mapping values are not allowed in this context",
		"\": \" has no place here; put text that holds it in quotes, or mend the "
		"indentation"},
	{"could not find expected ':'", "expected \"KEY: VALUE\"; is there a \":\" missing?"},
	{"block sequence entries are not allowed in this context",
		"\"- \" has no place here; begin the sequence in a line of its own"},
	{"found unexpected end of stream", "the file ends inside of a quoted text"},
	{"found unknown escape character",
		"unknown escape; write \\\\ for a backslash, or use single quotes"},
	{"found invalid Unicode character escape code",
		"this escape is no character: YAML has no surrogate pairs; write the character "
		"itself, or \\U and eight digits"},
	{"did not find expected <document start>",
		"more text behind the end of the document; one file holds one"},
	{"did not find expected key", "expected a key here; look at the indentation"},
	{"did not find expected '-' indicator", "expected \"- \" here; look at the indentation"},
	{NULL, NULL},
};

static const char *hint_for(const char *problem)
{
	for (const struct hint *hint = hints; hint->problem != NULL; hint++)
		if (strncmp(problem, hint->problem, strlen(hint->problem)) == 0)
			return hint->text;
	return NULL;
}

static enum status fail_parser(struct reading *reading, const yaml_parser_t *parser)
{
	const char *problem = parser->problem == NULL ? "not YAML" : parser->problem;
	const char *hint = hint_for(problem);
	size_t line = parser->problem_mark.line + 1, column = parser->problem_mark.column + 1;

	if (parser->error == YAML_MEMORY_ERROR)
		return fail_memory(reading);
	if (parser->context == NULL || parser->context_mark.line == parser->problem_mark.line)
		return fail_at(reading, line, column, "%s", hint != NULL ? hint : problem);
	return fail_at(reading, line, column, "%s (%s that begins in line %zu)",
		hint != NULL ? hint : problem, parser->context, parser->context_mark.line + 1);
}

/* ---- bytes ---- */

/* What a line's end is to libyaml: \n, \r, \r\n, U+0085, U+2028, U+2029. `n` is the character's
 * length. */
static bool ends_line(const uint8_t *at, size_t n, size_t left)
{
	if (n == 1)
		return at[0] == '\n' || (at[0] == '\r' && (left < 2 || at[1] != '\n'));
	if (n == 2)
		return at[0] == 0xc2 && at[1] == 0x85;
	return n == 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] == 0xa8 || at[2] == 0xa9);
}

/* Characters that no YAML text may hold. */
static bool is_control(const uint8_t *at, size_t n)
{
	if (n == 1)
		return (at[0] < 0x20 && at[0] != '\t' && at[0] != '\n' && at[0] != '\r') ||
			at[0] == 0x7f;
	if (n == 2)
		return at[0] == 0xc2 && at[1] < 0xa0 && at[1] != 0x85;
	return n == 3 && at[0] == 0xef &&
		((at[1] == 0xbf && at[2] >= 0xbe) || (at[1] == 0xbb && at[2] == 0xbf));
}

static enum status bad_character(struct reading *reading, size_t line, size_t column,
	const uint8_t *at, size_t n, size_t offset)
{
	if (n == 0)
		return fail_at(reading, line, column,
			"byte 0x%02x (byte %zu of the file) is not UTF-8; save the file as UTF-8",
			at[0], offset + 1);
	uint32_t code = n == 1 ? at[0]
		: n == 2
		? (uint32_t)(at[0] & 0x1f) << 6 | (at[1] & 0x3f)
		: (uint32_t)(at[0] & 0x0f) << 12 | (uint32_t)(at[1] & 0x3f) << 6 | (at[2] & 0x3f);
	return fail_at(reading, line, column,
		"the character U+%04X cannot stand in YAML; write it in double quotes as \\u%04X",
		code, code);
}

static enum status check_bytes(struct reading *reading, const uint8_t *bytes, size_t size)
{
	size_t line = 1, column = 1;

	for (size_t at = 0; at < size;) {
		uint8_t byte = bytes[at];

		if (byte >= 0x20 && byte < 0x7f) {
			column++;
			at++;
			continue;
		}
		size_t n = text_utf8_length(bytes + at, size - at);
		if (n == 0 || is_control(bytes + at, n))
			return bad_character(reading, line, column, bytes + at, n, at);
		column++;
		if (ends_line(bytes + at, n, size - at)) {
			line++;
			column = 1;
		}
		at += n;
	}
	return STATUS_OK;
}

/* ---- events ---- */

static bool wait(struct reading *reading, uint32_t index)
{
	if (!node_reserve((void **)&reading->waiting, reading->waiting_count,
		    &reading->waiting_room, 1, sizeof(*reading->waiting)))
		return false;
	reading->waiting[reading->waiting_count++] = index;
	return true;
}

static bool expects_key(const struct reading *reading)
{
	const struct open_node *top;

	if (reading->depth == 0)
		return false;
	top = &reading->open[reading->depth - 1];
	return reading->tree.nodes[top->index].kind == NODE_MAPPING &&
		(reading->waiting_count - top->waiting) % 2 == 0;
}

static enum status add(
	struct reading *reading, const yaml_mark_t *mark, struct node *node, uint32_t *ret_index)
{
	node->line = (uint32_t)mark->line + 1;
	node->column = (uint32_t)mark->column + 1;
	if (reading->tree.node_count >= YAML_NODES_MAX)
		return fail_at(reading, node->line, node->column,
			"more than %u keys and values; split the file", YAML_NODES_MAX);
	if (!node_add(&reading->tree, node, ret_index) ||
		(reading->depth > 0 && !wait(reading, *ret_index)))
		return fail_memory(reading);
	if (reading->depth == 0) {
		reading->tree.root = *ret_index;
		reading->tree.has_root = true;
	}
	return STATUS_OK;
}

static bool is_null(const char *text, size_t length)
{
	return length == 0 || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
		strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0;
}

/* Which kind of node a core tag allows; the others are for nobody here. */
static bool tag_fits(const char *tag, enum node_kind kind)
{
	static const char *const scalars[] = {"str", "int", "bool", "null", "float"};
	const char *name = tag + strlen(CORE_PREFIX);

	if (strcmp(tag, "!") == 0)
		return true;
	if (strncmp(tag, CORE_PREFIX, strlen(CORE_PREFIX)) != 0)
		return false;
	if (kind == NODE_SEQUENCE)
		return strcmp(name, "seq") == 0;
	if (kind == NODE_MAPPING)
		return strcmp(name, "map") == 0;
	for (size_t i = 0; i < sizeof(scalars) / sizeof(scalars[0]); i++)
		if (strcmp(name, scalars[i]) == 0)
			return true;
	return false;
}

static enum status check_marks(struct reading *reading, const yaml_event_t *event,
	const yaml_char_t *anchor, const yaml_char_t *tag, enum node_kind kind)
{
	size_t line = event->start_mark.line + 1, column = event->start_mark.column + 1;
	char shown[64];

	if (anchor != NULL) {
		text_escape(anchor, strlen((const char *)anchor), shown, sizeof(shown));
		return fail_at(reading, line, column,
			"the anchor &%s: anchors and aliases are not taken; write the value out",
			shown);
	}
	if (tag != NULL && !tag_fits((const char *)tag, kind)) {
		text_escape(tag, strlen((const char *)tag), shown, sizeof(shown));
		return fail_at(reading, line, column,
			"the tag \"%s\" does not belong to this value; remove it", shown);
	}
	return STATUS_OK;
}

static enum status on_scalar(struct reading *reading, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	const char *tag = (const char *)event->data.scalar.tag;
	size_t length = event->data.scalar.length;
	struct node node = {.kind = NODE_QUOTED};
	uint32_t index;

	enum status status = check_marks(
		reading, event, event->data.scalar.anchor, event->data.scalar.tag, NODE_PLAIN);
	if (status != STATUS_OK)
		return status;
	if (tag == NULL ? event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE
			: strcmp(tag, "!") != 0 && strcmp(tag, CORE_PREFIX "str") != 0)
		node.kind = is_null(text, length) ? NODE_NULL : NODE_PLAIN;
	if (expects_key(reading) && node.kind == NODE_NULL)
		return fail_at(reading, event->start_mark.line + 1, event->start_mark.column + 1,
			"a key is missing before \":\"");
	if (node.kind != NODE_NULL && !node_add_text(&reading->tree, text, length, &node.first))
		return fail_memory(reading);
	if (node.kind != NODE_NULL)
		node.count = (uint32_t)length;
	return add(reading, &event->start_mark, &node, &index);
}

static enum status on_open(struct reading *reading, const yaml_event_t *event, enum node_kind kind)
{
	bool is_mapping = kind == NODE_MAPPING;
	struct node node = {.kind = (uint8_t)kind};
	size_t line = event->start_mark.line + 1, column = event->start_mark.column + 1;
	uint32_t index;

	enum status status = check_marks(reading, event,
		is_mapping ? event->data.mapping_start.anchor : event->data.sequence_start.anchor,
		is_mapping ? event->data.mapping_start.tag : event->data.sequence_start.tag, kind);
	if (status != STATUS_OK)
		return status;
	if (expects_key(reading))
		return fail_at(reading, line, column, "expected a key, which is text, found a %s",
			is_mapping ? "mapping" : "sequence");
	if (reading->depth == MESSAGE_DEPTH_MAX)
		return fail_at(reading, line, column,
			"nested deeper than %d levels; nothing here is that deep",
			MESSAGE_DEPTH_MAX);
	status = add(reading, &event->start_mark, &node, &index);
	if (status != STATUS_OK)
		return status;
	reading->open[reading->depth++] =
		(struct open_node){.index = index, .waiting = reading->waiting_count};
	return STATUS_OK;
}

static enum status on_close(struct reading *reading)
{
	const struct open_node *top = &reading->open[--reading->depth];
	size_t count = reading->waiting_count - top->waiting;
	uint32_t first;

	if (!node_add_children(&reading->tree, count == 0 ? NULL : reading->waiting + top->waiting,
		    count, &first))
		return fail_memory(reading);
	reading->tree.nodes[top->index].first = first;
	reading->tree.nodes[top->index].count = (uint32_t)count;
	reading->waiting_count = top->waiting;
	return STATUS_OK;
}

static enum status on_document(struct reading *reading, const yaml_event_t *event)
{
	if (reading->documents++ == 0)
		return STATUS_OK;
	return fail_at(reading, event->start_mark.line + 1, event->start_mark.column + 1,
		"a second document begins here; one file holds one: remove the \"---\"");
}

static enum status on_alias(struct reading *reading, const yaml_event_t *event)
{
	const char *name = (const char *)event->data.alias.anchor;
	char shown[64];

	text_escape(name, strlen(name), shown, sizeof(shown));
	return fail_at(reading, event->start_mark.line + 1, event->start_mark.column + 1,
		"the alias *%s: anchors and aliases are not taken; write the value out, or put it "
		"in quotes if it is text",
		shown);
}

static enum status on_event(struct reading *reading, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		return STATUS_OK;
	case YAML_DOCUMENT_START_EVENT:
		return on_document(reading, event);
	case YAML_ALIAS_EVENT:
		return on_alias(reading, event);
	case YAML_SCALAR_EVENT:
		return on_scalar(reading, event);
	case YAML_SEQUENCE_START_EVENT:
		return on_open(reading, event, NODE_SEQUENCE);
	case YAML_MAPPING_START_EVENT:
		return on_open(reading, event, NODE_MAPPING);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return on_close(reading);
	}
	return STATUS_OK;
}

static enum status read_events(struct reading *reading, yaml_parser_t *parser)
{
	enum status status = STATUS_OK;
	bool ended = false;

	while (status == STATUS_OK && !ended) {
		yaml_event_t event;

		if (!yaml_parser_parse(parser, &event))
			return fail_parser(reading, parser);
		ended = event.type == YAML_STREAM_END_EVENT;
		status = on_event(reading, &event);
		yaml_event_delete(&event);
	}
	return status;
}

enum status yaml_read(const char *name, const char *bytes, size_t size, struct node_tree *ret_tree,
	struct error *err)
{
	struct reading reading = {.name = name, .err = err};
	yaml_parser_t parser;
	enum status status;

	/* A byte order mark would count as a column. */
	if (size >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
		bytes += 3;
		size -= 3;
	}
	status = check_bytes(&reading, (const uint8_t *)bytes, size);
	if (status != STATUS_OK)
		return status;
	if (!yaml_parser_initialize(&parser))
		return fail_memory(&reading);
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, size);
	status = read_events(&reading, &parser);
	yaml_parser_delete(&parser);
	free(reading.waiting);
	if (status != STATUS_OK) {
		node_tree_fini(&reading.tree);
		return status;
	}
	node_tree_trim(&reading.tree);
	*ret_tree = reading.tree;
	return STATUS_OK;
}
