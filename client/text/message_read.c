/* From a tree of nodes to a message: each key is a field, each value what the field's type takes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/mapping.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "client/text/walk.h"
#include "common/config.h"

#define FIELDS_MAX 64 /* of one message */

struct reading {
	const struct node_tree *tree;
	const char *file;
	char path[96];
	struct error *err;
};

/* ---- errors ---- */

static __attribute__((format(printf, 3, 4))) enum status fail(
	struct reading *reading, const struct node *node, const char *format, ...)
{
	char what[200];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	error_field(reading->err, reading->path, "%.100s:%u:%u: %s%s%s", reading->file, node->line,
		node->column, reading->path, reading->path[0] != '\0' ? ": " : "", what);
	return STATUS_INVALID_ARGUMENT;
}

static enum status fail_memory(struct reading *reading)
{
	return error_set(
		reading->err, STATUS_RESOURCE_EXHAUSTED, "%.100s: out of memory", reading->file);
}

/* "text ("yes")", "a mapping" */
static void describe(
	const struct reading *reading, const struct node *node, char *text, size_t size)
{
	char shown[48];

	switch ((enum node_kind)node->kind) {
	case NODE_NULL:
		snprintf(text, size, "nothing");
		return;
	case NODE_PLAIN:
	case NODE_QUOTED:
		text_escape(node_text(reading->tree, node), node->count, shown, sizeof(shown));
		snprintf(text, size, "\"%s\"", shown);
		return;
	case NODE_SEQUENCE:
		snprintf(text, size, "a sequence");
		return;
	case NODE_MAPPING:
		snprintf(text, size, "a mapping");
		return;
	}
}

static enum status fail_type(
	struct reading *reading, const struct node *node, const char *expected, const char *hint)
{
	char found[64];

	describe(reading, node, found, sizeof(found));
	return fail(reading, node, "expected %s, found %s%s", expected, found, hint);
}

/* ---- the path ---- */

/* One step down; returns what cuts it off again. */
static size_t push_field(struct reading *reading, const char *name)
{
	size_t length = strlen(reading->path);

	snprintf(reading->path + length, sizeof(reading->path) - length, "%s%s",
		length > 0 ? "." : "", name);
	return length;
}

static size_t push_index(struct reading *reading, size_t index)
{
	size_t length = strlen(reading->path);

	snprintf(reading->path + length, sizeof(reading->path) - length, "[%zu]", index);
	return length;
}

/* ---- scalars ---- */

static enum status read_number(struct reading *reading, const struct node *node, uint64_t most,
	bool is_signed, uint64_t *ret_number)
{
	const char *text = node_text(reading->tree, node);
	char expected[64], *end;

	errno = 0;
	if (is_signed)
		snprintf(expected, sizeof(expected), "a whole number");
	else
		snprintf(expected, sizeof(expected), "a number from 0 to %" PRIu64, most);
	if (node->kind != NODE_PLAIN || strlen(text) != node->count || text[0] == '+' ||
		text[0] == ' ' || (!is_signed && text[0] == '-'))
		return fail_type(reading, node, expected, "");
	*ret_number = is_signed ? (uint64_t)strtoll(text, &end, 10) : strtoull(text, &end, 10);
	if (end == text || *end != '\0' || errno == ERANGE || (!is_signed && *ret_number > most))
		return fail_type(reading, node, expected, "");
	return STATUS_OK;
}

static enum status read_bool(
	struct reading *reading, const struct node *node, protobuf_c_boolean *at)
{
	static const char *const others[] = {
		"yes", "no", "on", "off", "True", "False", "TRUE", "FALSE", "y", "n", NULL};
	const char *text = node_text(reading->tree, node);

	if (node->kind == NODE_PLAIN && strcmp(text, "true") == 0) {
		*at = 1;
		return STATUS_OK;
	}
	if (node->kind == NODE_PLAIN && strcmp(text, "false") == 0) {
		*at = 0;
		return STATUS_OK;
	}
	for (size_t i = 0; others[i] != NULL; i++)
		if (strcmp(text, others[i]) == 0)
			return fail_type(reading, node, "true or false",
				": YAML's other words for them are not taken");
	return fail_type(reading, node, "true or false", "");
}

static enum status read_enum(struct reading *reading, const struct node *node,
	const ProtobufCEnumDescriptor *type, int *at)
{
	const char *text = node_text(reading->tree, node);
	char list[120], nearest[NAME_SIZE], hint[NAME_SIZE + 32] = "";

	if ((node->kind == NODE_PLAIN || node->kind == NODE_QUOTED) && name_parse(type, text, at))
		return STATUS_OK;
	name_list(type, ", ", list, sizeof(list));
	if (name_nearest(type, text, nearest))
		snprintf(hint, sizeof(hint), ": did you mean \"%s\"?", nearest);
	return fail_type(reading, node, list, hint);
}

static enum status read_string(struct reading *reading, const struct node *node, char **at)
{
	const char *text = node_text(reading->tree, node);

	if (node->kind != NODE_PLAIN && node->kind != NODE_QUOTED)
		return fail_type(reading, node, "text", "");
	if (strlen(text) != node->count)
		return fail(reading, node, "a NUL byte is in this text");
	*at = strdup(text);
	return *at != NULL ? STATUS_OK : fail_memory(reading);
}

static enum status read_bytes(
	struct reading *reading, const struct node *node, ProtobufCBinaryData *at)
{
	const char *text = node_text(reading->tree, node);

	if (node->kind != NODE_PLAIN && node->kind != NODE_QUOTED)
		return fail_type(reading, node, "text", "");
	at->data = malloc(node->count + 1U);
	if (at->data == NULL)
		return fail_memory(reading);
	memcpy(at->data, text, node->count);
	at->len = node->count;
	return STATUS_OK;
}

static enum status read_message(struct reading *reading, const struct node *node,
	const ProtobufCMessageDescriptor *type, ProtobufCMessage *message);

static enum status read_value(struct reading *reading, const struct node *node,
	const ProtobufCFieldDescriptor *field, void *at)
{
	uint64_t number = 0;
	enum status status;

	switch (field->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return read_bool(reading, node, at);
	case PROTOBUF_C_TYPE_ENUM:
		return read_enum(reading, node, field->descriptor, at);
	case PROTOBUF_C_TYPE_STRING:
		return read_string(reading, node, at);
	case PROTOBUF_C_TYPE_BYTES:
		return read_bytes(reading, node, at);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		status = read_number(reading, node, UINT32_MAX, false, &number);
		*(uint32_t *)at = (uint32_t)number;
		return status;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		status = read_number(reading, node, UINT64_MAX, false, &number);
		*(uint64_t *)at = number;
		return status;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		status = read_number(reading, node, UINT64_MAX, true, &number);
		*(int64_t *)at = (int64_t)number;
		return status;
	case PROTOBUF_C_TYPE_MESSAGE: {
		const ProtobufCMessageDescriptor *type = field->descriptor;
		ProtobufCMessage *made;
		if (node->kind != NODE_MAPPING)
			return fail_type(reading, node, "a mapping", "");
		made = malloc(type->sizeof_message);
		if (made == NULL)
			return fail_memory(reading);
		protobuf_c_message_init(type, made);
		*(ProtobufCMessage **)at = made;
		return read_message(reading, node, type, made);
	}
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_DOUBLE:
		break;
	}
	return fail(reading, node, "values of this type are not read from text");
}

/* ---- lists ---- */

/* Appends: an earlier file may have begun the list. */
static enum status read_list(struct reading *reading, const struct node *node,
	const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
	size_t *count = (size_t *)(void *)((char *)message + field->quantifier_offset);
	void **list = (void **)(void *)((char *)message + field->offset);
	bool is_sequence = node->kind == NODE_SEQUENCE;
	size_t more = is_sequence ? node->count : 1, size = walk_size(field);
	void *grown = more > 0 ? reallocarray(*list, *count + more, size) : *list;
	enum status status = STATUS_OK;

	if (more > 0 && grown == NULL)
		return fail_memory(reading);
	*list = grown;
	for (size_t i = 0; i < more && status == STATUS_OK; i++) {
		const struct node *element =
			is_sequence ? node_child(reading->tree, node, i) : node;
		char *at = (char *)*list + *count * size;
		size_t length = push_index(reading, *count);
		memset(at, 0, size);
		status = read_value(reading, element, field, at);
		/* A string or message that was not made is not the list's. */
		if (status == STATUS_OK ||
			(size == sizeof(void *) && *(void **)(void *)at != NULL &&
				field->type != PROTOBUF_C_TYPE_UINT64))
			(*count)++;
		reading->path[length] = '\0';
	}
	return status;
}

/* ---- messages ---- */

static enum status unknown_key(
	struct reading *reading, const struct node *key, const ProtobufCMessageDescriptor *type)
{
	const char *names[FIELDS_MAX + 1], *text = node_text(reading->tree, key), *nearest;
	char list[130] = "", shown[48];
	size_t used = 0;

	for (unsigned i = 0; i < type->n_fields && i < FIELDS_MAX; i++) {
		names[i] = type->fields[i].name;
		names[i + 1] = NULL;
		used += (size_t)snprintf(
			list + used, sizeof(list) - used, "%s%s", i ? ", " : "", names[i]);
		if (used >= sizeof(list))
			used = sizeof(list) - 1;
	}
	text_escape(text, key->count, shown, sizeof(shown));
	nearest = nearest_word(text, names);
	if (nearest != NULL)
		return fail(
			reading, key, "unknown key \"%s\": did you mean \"%s\"?", shown, nearest);
	return fail(reading, key, "unknown key \"%s\": expected one of %s%s", shown, list,
		used >= sizeof(list) - 1 ? "..." : "");
}

static enum status read_field(struct reading *reading, const struct node *value,
	const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
	size_t length = push_field(reading, field->name);
	enum status status = STATUS_OK;

	if (value->kind == NODE_NULL)
		status = STATUS_OK; /* as if it were not there */
	else if (field->label == PROTOBUF_C_LABEL_REPEATED)
		status = read_list(reading, value, field, message);
	else
		status = read_value(reading, value, field, (char *)message + field->offset);
	reading->path[length] = '\0';
	return status;
}

static enum status read_message(struct reading *reading, const struct node *node,
	const ProtobufCMessageDescriptor *type, ProtobufCMessage *message)
{
	const struct node *seen[FIELDS_MAX] = {NULL};

	for (size_t i = 0; i + 1 < node->count; i += 2) {
		const struct node *key = node_child(reading->tree, node, i);
		const ProtobufCFieldDescriptor *field =
			protobuf_c_message_descriptor_get_field_by_name(
				type, node_text(reading->tree, key));
		if (field == NULL || strlen(field->name) != key->count)
			return unknown_key(reading, key, type);
		size_t number = (size_t)(field - type->fields);
		if (number < FIELDS_MAX && seen[number] != NULL)
			return fail(reading, key,
				"the key \"%s\" stands here twice: first in line %u", field->name,
				seen[number]->line);
		if (number < FIELDS_MAX)
			seen[number] = key;
		enum status status =
			read_field(reading, node_child(reading->tree, node, i + 1), field, message);
		if (status != STATUS_OK)
			return status;
	}
	return STATUS_OK;
}

enum status mapping_read(const struct node_tree *tree, const char *file, ProtobufCMessage *message,
	struct error *err)
{
	struct reading reading = {.tree = tree, .file = file, .err = err};
	const struct node *root = node_root(tree);

	if (root == NULL || root->kind == NODE_NULL)
		return STATUS_OK;
	if (root->kind != NODE_MAPPING)
		return fail_type(&reading, root, "a mapping of keys and values", "");
	return read_message(&reading, root, message->descriptor, message);
}
