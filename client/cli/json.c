/* Messages as JSON by their generated descriptors: field names are the protocol's, enums their
 * short names, bytes hex but for `context`, which is text when it is UTF-8 and base64 otherwise
 * (then named context_base64). */
#include <ctype.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/config.h"

/* The common part of an enum's names: "END_REASON_" of END_REASON_USED_UP. */
static size_t prefix_of(const ProtobufCEnumDescriptor *type)
{
	const char *first = type->values[0].name;
	size_t length = strlen(first);
	for (unsigned i = 1; i < type->n_values; i++) {
		size_t same = 0;
		while (same < length && type->values[i].name[same] == first[same])
			same++;
		length = same;
	}
	while (length > 0 && first[length - 1] != '_')
		length--;
	return length;
}

const char *enum_text(const ProtobufCEnumDescriptor *type, unsigned value, char *text, size_t size)
{
	const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(type, (int)value);
	if (!found) {
		snprintf(text, size, "%u", value);
		return text;
	}
	const char *name = found->name + prefix_of(type);
	size_t i = 0;
	for (; name[i] && i + 1 < size; i++)
		text[i] = name[i] == '_' ? '-' : (char)tolower((unsigned char)name[i]);
	text[i] = '\0';
	return text;
}

bool enum_parse(const ProtobufCEnumDescriptor *type, const char *text, int *ret_value)
{
	char name[64];
	for (unsigned i = 0; i < type->n_values; i++) {
		if (type->values[i].value != 0 &&
			strcmp(enum_text(type, (unsigned)type->values[i].value, name, sizeof name),
				text) == 0) {
			*ret_value = type->values[i].value;
			return true;
		}
	}
	return false;
}

int unknown_enum(const struct cli *cli, const char *option, const ProtobufCEnumDescriptor *type,
	const char *text)
{
	char names[64][48];
	const char *words[65];
	unsigned count = 0;
	for (unsigned i = 0; i < type->n_values && count < 64; i++) {
		if (type->values[i].value == 0)
			continue;
		words[count] = enum_text(
			type, (unsigned)type->values[i].value, names[count], sizeof names[count]);
		count++;
	}
	words[count] = NULL;
	const char *near = nearest_word(text, words);
	return usage_error(
		cli, "--%s %s: unknown: did you mean %s?", option, text, near ? near : words[0]);
}

static json_t *message_json(const ProtobufCMessage *message);

static json_t *bytes_json(const ProtobufCBinaryData *data, bool is_context, bool *ret_base64)
{
	size_t size = data->len;
	char *text;
	json_t *value = is_context ? json_stringn((const char *)data->data, size) : NULL;
	if (value || (is_context && size == 0))
		return value ? value : json_string("");
	*ret_base64 = is_context;
	text = calloc(1, size * 2 + 8);
	if (!text)
		return json_null();
	if (is_context)
		sodium_bin2base64(
			text, size * 2 + 8, data->data, size, sodium_base64_VARIANT_ORIGINAL);
	else if (size > 0)
		sodium_bin2hex(text, size * 2 + 8, data->data, size);
	value = json_string(text);
	free(text);
	return value;
}

static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at, bool *ret_base64)
{
	char text[64];
	switch (field->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		return json_integer(*(const int32_t *)at);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		return json_integer(*(const uint32_t *)at);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return json_integer((json_int_t) * (const int64_t *)at);
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)at);
	case PROTOBUF_C_TYPE_FLOAT:
		return json_real((double)*(const float *)at);
	case PROTOBUF_C_TYPE_DOUBLE:
		return json_real(*(const double *)at);
	case PROTOBUF_C_TYPE_ENUM:
		return json_string(
			enum_text(field->descriptor, *(const unsigned *)at, text, sizeof text));
	case PROTOBUF_C_TYPE_STRING:
		return json_string(*(char *const *)at ? *(char *const *)at : "");
	case PROTOBUF_C_TYPE_BYTES:
		return bytes_json(at, strcmp(field->name, "context") == 0, ret_base64);
	case PROTOBUF_C_TYPE_MESSAGE:
		return *(ProtobufCMessage *const *)at ? message_json(*(ProtobufCMessage *const *)at)
						      : NULL;
	}
	return NULL;
}

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_ENUM:
		break;
	}
	return 4;
}

static json_t *message_json(const ProtobufCMessage *message)
{
	json_t *object = json_object();
	for (unsigned i = 0; object && i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
		const char *at = (const char *)message + field->offset;
		bool base64 = false;
		char name[80];
		json_t *value;
		if (strcmp(field->name, "token") == 0)
			continue; /* secrets never */
		if (field->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t count =
				*(const size_t *)((const char *)message + field->quantifier_offset);
			const char *array = *(const char *const *)at;
			value = json_array();
			for (size_t k = 0; k < count; k++)
				json_array_append_new(value,
					value_json(
						field, array + k * element_size(field), &base64));
		} else {
			value = value_json(field, at, &base64);
		}
		snprintf(name, sizeof name, "%s%s", field->name, base64 ? "_base64" : "");
		if (value)
			json_object_set_new(object, name, value);
	}
	return object;
}

static void print(json_t *object)
{
	char *text = object ? json_dumps(object, JSON_PRESERVE_ORDER) : NULL;
	puts(text ? text : "{}");
	fflush(stdout);
	free(text);
	json_decref(object);
}

void print_json(const ProtobufCMessage *message)
{
	print(message_json(message));
}

void print_json_error(const struct error *err)
{
	print(json_pack("{s:{s:s,s:s,s:s,s:s,s:s,s:s}}", "error", "status",
		status_name(err->status), "reason", reason_name(err->reason), "rule", err->rule,
		"grant", err->grant, "field", err->field, "text", err->text));
}
