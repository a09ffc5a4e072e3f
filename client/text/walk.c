#include "client/text/walk.h"

#include <string.h>

#include "postern/v1/types.pb-c.h"

size_t walk_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_ENUM:
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return 4;
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
		break;
	}
	return 8;
}

size_t walk_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	return *(const size_t *)(const void *)((const char *)message + field->quantifier_offset);
}

static bool is_zero(const void *at, size_t size)
{
	const char *bytes = at;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

bool walk_is_default(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	const void *at = (const char *)message + field->offset;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return walk_count(message, field) == 0;
	if (field->type == PROTOBUF_C_TYPE_STRING) {
		const char *text = *(char *const *)at;
		return text == NULL || text[0] == '\0';
	}
	if (field->type == PROTOBUF_C_TYPE_BYTES)
		return ((const ProtobufCBinaryData *)at)->len == 0;
	return is_zero(at, walk_size(field));
}

bool walk_is_secret(const ProtobufCFieldDescriptor *field)
{
	return strcmp(field->name, "token") == 0;
}

bool walk_is_flags(const ProtobufCFieldDescriptor *field)
{
	return field->type == PROTOBUF_C_TYPE_UINT32 && strcmp(field->name, "flags") == 0;
}

const ProtobufCEnumDescriptor *walk_flags_type(void)
{
	return &postern__v1__grant_flag__descriptor;
}

bool walk_is_context(const ProtobufCFieldDescriptor *field)
{
	return strcmp(field->name, "context") == 0;
}
