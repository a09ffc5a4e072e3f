/* The mapping, in the order of the questions that a field raises:
 *
 *   - `token`: left out; a token reaches files only.
 *   - repeated: an array. A message that is not there: null.
 *   - `flags` (uint32, bits of GrantFlag): an array of short names.
 *   - an enum: its short name; null for "unspecified"; the number when this program knows no name
 * for it.
 *   - bytes `context`: text when it is valid UTF-8; otherwise `context` is null and
 * `context_base64` follows it.
 *   - other bytes are hashes: hexadecimal.
 *   - numbers are JSON numbers, 64-bit ones too (jansson's integers are signed: what exceeds them
 * becomes a real).
 *
 * Functions return a new reference, or NULL when memory is out; jansson's setters take NULL as
 * failure, so that every object needs one test. */
#include "client/text/json.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "client/text/names.h"
#include "client/text/text.h"
#include "postern/v1/types.pb-c.h"

#define MAX_DEPTH 8

static json_t *from_message(const ProtobufCMessage *message, unsigned depth);

/* Peers are not trusted to send UTF-8: what is not becomes \xNN. */
static json_t *from_string(const char *text)
{
	size_t length = text == NULL ? 0 : strlen(text);

	if (text_is_utf8((const uint8_t *)text, length))
		return json_stringn(text == NULL ? "" : text, length);
	size_t size = 4 * length + 1;
	char *escaped = malloc(size);
	if (escaped == NULL)
		return NULL;
	text_escape(text, length, escaped, size);
	json_t *value = json_string(escaped);
	free(escaped);
	return value;
}

static json_t *from_unsigned(uint64_t number)
{
	return number <= INT64_MAX ? json_integer((json_int_t)number) : json_real((double)number);
}

static json_t *from_enum(const ProtobufCEnumDescriptor *type, int value)
{
	char name[NAME_SIZE];

	name_of(type, value, name);
	if (name[0] == '\0')
		return json_null();
	return isdigit((unsigned char)name[0]) || name[0] == '-' ? json_integer(value)
								 : json_string(name);
}

static json_t *from_flags(uint32_t flags)
{
	json_t *array = json_array();

	for (uint32_t bit = 1; array != NULL && bit != 0; bit <<= 1)
		if ((flags & bit) &&
			json_array_append_new(array,
				from_enum(&postern__v1__grant_flag__descriptor, (int)bit)) != 0) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static json_t *from_hash(const ProtobufCBinaryData *bytes)
{
	char *text = malloc(2 * bytes->len + 1);

	if (text == NULL)
		return NULL;
	text_hex(bytes->data, bytes->len, text);
	json_t *value = json_string(text);
	free(text);
	return value;
}

static bool set_base64(json_t *object, const char *key, const ProtobufCBinaryData *bytes)
{
	char *text = malloc(TEXT_BASE64_SIZE(bytes->len));

	if (text == NULL)
		return false;
	text_base64(bytes->data, bytes->len, text);
	bool ok = json_object_set_new(object, key, json_string(text)) == 0;
	free(text);
	return ok;
}

static bool set_context(json_t *object, const char *key, const ProtobufCBinaryData *bytes)
{
	const char *text = bytes->len == 0 ? "" : (const char *)bytes->data;

	if (text_is_utf8(bytes->data, bytes->len))
		return json_object_set_new(object, key, json_stringn(text, bytes->len)) == 0;
	return json_object_set_new(object, key, json_null()) == 0 &&
		set_base64(object, "context_base64", bytes);
}

static json_t *from_value(const ProtobufCFieldDescriptor *field, const void *at, unsigned depth)
{
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
		return json_integer(*(const int64_t *)at);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		return from_unsigned(*(const uint64_t *)at);
	case PROTOBUF_C_TYPE_FLOAT:
		return json_real((double)*(const float *)at);
	case PROTOBUF_C_TYPE_DOUBLE:
		return json_real(*(const double *)at);
	case PROTOBUF_C_TYPE_BOOL:
		return json_boolean(*(const protobuf_c_boolean *)at);
	case PROTOBUF_C_TYPE_ENUM:
		return from_enum(field->descriptor, *(const int *)at);
	case PROTOBUF_C_TYPE_STRING:
		return from_string(*(char *const *)at);
	case PROTOBUF_C_TYPE_BYTES:
		return from_hash(at);
	case PROTOBUF_C_TYPE_MESSAGE:
		return from_message(*(ProtobufCMessage *const *)at, depth + 1);
	}
	return NULL;
}

static size_t element_size(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
	case PROTOBUF_C_TYPE_ENUM:
		return 4;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	}
	return 0;
}

static json_t *from_array(const ProtobufCFieldDescriptor *field, const uint8_t *elements,
	size_t count, unsigned depth)
{
	json_t *array = json_array();
	size_t size = element_size(field->type);

	for (size_t i = 0; array != NULL && i < count; i++)
		if (json_array_append_new(array, from_value(field, elements + i * size, depth)) !=
			0) {
			json_decref(array);
			return NULL;
		}
	return array;
}

static bool set_field(json_t *object, const ProtobufCMessage *message,
	const ProtobufCFieldDescriptor *field, unsigned depth)
{
	const uint8_t *base = (const uint8_t *)message;
	const void *at = base + field->offset;

	if (strcmp(field->name, "token") == 0)
		return true;
	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
		return json_object_set_new(object, field->name,
			       from_array(field, *(uint8_t *const *)at, count, depth)) == 0;
	}
	if (field->type == PROTOBUF_C_TYPE_UINT32 && strcmp(field->name, "flags") == 0)
		return json_object_set_new(
			       object, field->name, from_flags(*(const uint32_t *)at)) == 0;
	if (field->type == PROTOBUF_C_TYPE_BYTES && strcmp(field->name, "context") == 0)
		return set_context(object, field->name, at);
	return json_object_set_new(object, field->name, from_value(field, at, depth)) == 0;
}

static json_t *from_message(const ProtobufCMessage *message, unsigned depth)
{
	if (message == NULL || depth > MAX_DEPTH)
		return json_null();
	json_t *object = json_object();
	for (unsigned i = 0; object != NULL && i < message->descriptor->n_fields; i++)
		if (!set_field(object, message, &message->descriptor->fields[i], depth)) {
			json_decref(object);
			return NULL;
		}
	return object;
}

static bool set_extras(json_t *object, const struct json_extra *extra)
{
	for (; extra != NULL && extra->key != NULL; extra++)
		if (json_object_set_new(object, extra->key,
			    extra->text == NULL ? json_null() : from_string(extra->text)) != 0)
			return false;
	return true;
}

/* Takes the reference, NULL too. */
static bool print_line(FILE *out, json_t *value)
{
	bool ok = value != NULL && json_dumpf(value, out, JSON_COMPACT) == 0 &&
		fputc('\n', out) != EOF;

	json_decref(value);
	return ok;
}

bool json_print(FILE *out, const ProtobufCMessage *message, const struct json_extra *extra)
{
	json_t *object = message == NULL ? json_object() : from_message(message, 0);

	if (object != NULL && !set_extras(object, extra)) {
		json_decref(object);
		return false;
	}
	return print_line(out, object);
}

/* "INVALID_ARGUMENT" becomes "invalid-argument"; null when there is none. */
static json_t *from_code(const char *name)
{
	char text[64];
	size_t n = 0;

	if (name[0] == '\0')
		return json_null();
	for (; n < sizeof(text) - 1 && name[n] != '\0'; n++)
		text[n] = name[n] == '_' ? '-' : (char)tolower((unsigned char)name[n]);
	text[n] = '\0';
	return json_string(text);
}

bool json_print_error(FILE *out, const struct error *err, const struct json_extra *extra)
{
	json_t *line = json_object();
	json_t *error = json_object();
	bool ok = json_object_set_new(error, "status", from_code(status_name(err->status))) == 0 &&
		json_object_set_new(error, "reason", from_code(reason_name(err->reason))) == 0 &&
		json_object_set_new(error, "rule", from_string(err->rule)) == 0 &&
		json_object_set_new(error, "grant", from_string(err->grant)) == 0 &&
		json_object_set_new(error, "field", from_string(err->field)) == 0 &&
		json_object_set_new(error, "revision", from_unsigned(err->revision)) == 0 &&
		json_object_set_new(error, "text", from_string(err->text)) == 0 &&
		set_extras(error, extra);

	if (!ok || json_object_set(line, "error", error) != 0) {
		json_decref(line);
		line = NULL;
	}
	json_decref(error);
	return print_line(out, line);
}
