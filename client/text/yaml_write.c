/* Messages as YAML, by libyaml's emitter. What has its default value is left out. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "client/text/message.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "client/text/walk.h"

#define WIDTH 100
#define SHORT_LIST 8 /* so many scalars stand in one line */

struct writing {
	yaml_emitter_t emitter;
	FILE *out;
	bool failed;
};

static void emit(struct writing *writing, int made, yaml_event_t *event)
{
	if (!made)
		writing->failed = true;
	else if (writing->failed)
		yaml_event_delete(event);
	else
		writing->failed = !yaml_emitter_emit(&writing->emitter, event);
}

/* Text that would be read as nothing at all is quoted; the emitter quotes what YAML cannot hold
 * plainly. */
static void scalar(struct writing *writing, const char *text, bool is_text)
{
	static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
	yaml_scalar_style_t style = YAML_ANY_SCALAR_STYLE;
	yaml_event_t event;

	for (size_t i = 0; is_text && nothing[i] != NULL; i++)
		if (strcmp(text, nothing[i]) == 0)
			style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
	emit(writing,
		yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text,
			(int)strlen(text), 1, 1, style),
		&event);
}

static void begin_mapping(struct writing *writing)
{
	yaml_event_t event;

	emit(writing,
		yaml_mapping_start_event_initialize(
			&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE),
		&event);
}

static void end_mapping(struct writing *writing)
{
	yaml_event_t event;

	emit(writing, yaml_mapping_end_event_initialize(&event), &event);
}

static void begin_sequence(struct writing *writing, bool is_flow)
{
	yaml_event_t event;

	emit(writing,
		yaml_sequence_start_event_initialize(&event, NULL, NULL, 1,
			is_flow ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE),
		&event);
}

static void end_sequence(struct writing *writing)
{
	yaml_event_t event;

	emit(writing, yaml_sequence_end_event_initialize(&event), &event);
}

static void write_message(struct writing *writing, const ProtobufCMessage *message);

/* Peers are not trusted to send UTF-8: what is not becomes \xNN. */
static void write_string(struct writing *writing, const char *text)
{
	size_t length = text == NULL ? 0 : strlen(text);

	if (text_is_utf8((const uint8_t *)text, length)) {
		scalar(writing, text == NULL ? "" : text, true);
		return;
	}
	char *escaped = malloc(4 * length + 1);
	if (escaped == NULL) {
		writing->failed = true;
		return;
	}
	text_escape(text, length, escaped, 4 * length + 1);
	scalar(writing, escaped, true);
	free(escaped);
}

static void write_bytes(struct writing *writing, const ProtobufCBinaryData *bytes, bool is_context)
{
	size_t size = is_context ? TEXT_BASE64_SIZE(bytes->len) : 2 * bytes->len + 1;
	char *text = malloc(size + bytes->len);

	if (text == NULL) {
		writing->failed = true;
		return;
	}
	if (is_context && text_is_utf8(bytes->data, bytes->len) &&
		memchr(bytes->data, '\0', bytes->len) == NULL) {
		memcpy(text, bytes->data, bytes->len);
		text[bytes->len] = '\0';
	} else if (is_context) {
		text_base64(bytes->data, bytes->len, text);
	} else {
		text_hex(bytes->data, bytes->len, text);
	}
	scalar(writing, text, true);
	free(text);
}

static void write_enum(struct writing *writing, const ProtobufCEnumDescriptor *type, int value)
{
	char name[NAME_SIZE];

	name_of(type, value, name);
	scalar(writing, name[0] != '\0' ? name : "none", false);
}

static void write_value(
	struct writing *writing, const ProtobufCFieldDescriptor *field, const void *at)
{
	char number[32] = "";

	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		write_string(writing, *(char *const *)at);
		return;
	case PROTOBUF_C_TYPE_BYTES:
		write_bytes(writing, at, walk_is_context(field));
		return;
	case PROTOBUF_C_TYPE_MESSAGE:
		write_message(writing, *(ProtobufCMessage *const *)at);
		return;
	case PROTOBUF_C_TYPE_ENUM:
		write_enum(writing, field->descriptor, *(const int *)at);
		return;
	case PROTOBUF_C_TYPE_BOOL:
		scalar(writing, *(const protobuf_c_boolean *)at ? "true" : "false", false);
		return;
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		snprintf(number, sizeof(number), "%" PRId32, *(const int32_t *)at);
		break;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		snprintf(number, sizeof(number), "%" PRIu32, *(const uint32_t *)at);
		break;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		snprintf(number, sizeof(number), "%" PRId64, *(const int64_t *)at);
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		snprintf(number, sizeof(number), "%" PRIu64, *(const uint64_t *)at);
		break;
	case PROTOBUF_C_TYPE_FLOAT:
		snprintf(number, sizeof(number), "%g", (double)*(const float *)at);
		break;
	case PROTOBUF_C_TYPE_DOUBLE:
		snprintf(number, sizeof(number), "%g", *(const double *)at);
		break;
	}
	scalar(writing, number, false);
}

static void write_flags(struct writing *writing, uint32_t flags)
{
	begin_sequence(writing, true);
	for (uint32_t bit = 1; bit != 0; bit <<= 1)
		if (flags & bit)
			write_enum(writing, walk_flags_type(), (int)bit);
	end_sequence(writing);
}

static void write_list(struct writing *writing, const ProtobufCFieldDescriptor *field,
	const void *list, size_t count)
{
	bool is_message = field->type == PROTOBUF_C_TYPE_MESSAGE;

	begin_sequence(writing, !is_message && count <= SHORT_LIST);
	for (size_t i = 0; i < count && !writing->failed; i++)
		write_value(writing, field, (const char *)list + i * walk_size(field));
	end_sequence(writing);
}

static void write_message(struct writing *writing, const ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;

	begin_mapping(writing);
	for (unsigned i = 0; i < type->n_fields && !writing->failed; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];
		const void *at = (const char *)message + field->offset;
		if (walk_is_default(message, field) || walk_is_secret(field))
			continue;
		scalar(writing, field->name, false);
		if (field->label == PROTOBUF_C_LABEL_REPEATED)
			write_list(writing, field, *(void *const *)at, walk_count(message, field));
		else if (walk_is_flags(field))
			write_flags(writing, *(const uint32_t *)at);
		else
			write_value(writing, field, at);
	}
	end_mapping(writing);
}

static int to_file(void *arg, unsigned char *bytes, size_t size)
{
	return fwrite(bytes, 1, size, arg) == size;
}

bool message_write_yaml(FILE *out, const ProtobufCMessage *message)
{
	struct writing writing = {.out = out};
	yaml_event_t event;

	if (!yaml_emitter_initialize(&writing.emitter))
		return false;
	yaml_emitter_set_output(&writing.emitter, to_file, out);
	yaml_emitter_set_unicode(&writing.emitter, 1);
	yaml_emitter_set_width(&writing.emitter, WIDTH);
	emit(&writing, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING), &event);
	emit(&writing, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1), &event);
	write_message(&writing, message);
	emit(&writing, yaml_document_end_event_initialize(&event, 1), &event);
	emit(&writing, yaml_stream_end_event_initialize(&event), &event);
	yaml_emitter_delete(&writing.emitter);
	return !writing.failed;
}
