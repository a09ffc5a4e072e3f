#include "proto/rpc/frame.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A message of n bytes may take n * 32 + 64 KiB of memory to unpack: more than any honest one of
 * ours. */
#define UNPACK_FACTOR 32
#define UNPACK_BASE (64 * 1024)
#define BODY_TAG (9 << 3 | 2) /* Frame.body, length-delimited */

/* ---- text ---- */

/* Bytes of the well-formed UTF-8 character at `text` (RFC 3629); 0 if there is none. */
static size_t character_bytes(const unsigned char *text)
{
	unsigned char first = text[0], low = 0x80, high = 0xbf;
	size_t size;
	if (first < 0x80)
		return 1;
	if (first < 0xc2 || first > 0xf4)
		return 0;
	size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	if (first == 0xe0)
		low = 0xa0; /* shorter forms exist */
	else if (first == 0xed)
		high = 0x9f; /* surrogates */
	else if (first == 0xf0)
		low = 0x90;
	else if (first == 0xf4)
		high = 0x8f; /* past U+10FFFF */
	if (text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < size; i++)
		if (text[i] < 0x80 || text[i] > 0xbf) /* also stops at the end of the text */
			return 0;
	return size;
}

static bool is_utf8(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	while (*at) {
		size_t size = character_bytes(at);
		if (size == 0)
			return false;
		at += size;
	}
	return true;
}

void frame_clean_text(char *text)
{
	while (*text) {
		size_t size = character_bytes((const unsigned char *)text);
		if (size == 0)
			*text++ = '?';
		else
			text += size;
	}
}

static bool has_clean_texts(const ProtobufCMessage *message);

static bool is_clean(const ProtobufCFieldDescriptor *field, const void *value)
{
	if (field->type == PROTOBUF_C_TYPE_STRING) {
		const char *text = *(char *const *)value;
		return !text || is_utf8(text);
	}
	const ProtobufCMessage *inner = *(ProtobufCMessage *const *)value;
	return !inner || has_clean_texts(inner);
}

static const void *member(const ProtobufCMessage *message, unsigned offset)
{
	return (const char *)message + offset;
}

static bool is_field_clean(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	const char *values = member(message, field->offset);
	size_t count = 1;
	if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
		return true;
	if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
		*(const uint32_t *)member(message, field->quantifier_offset) != field->id)
		return true;
	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		count = *(const size_t *)member(message, field->quantifier_offset);
		values = *(const char *const *)member(message, field->offset);
	}
	for (size_t i = 0; i < count; i++)
		if (!is_clean(field, values + i * sizeof(void *)))
			return false;
	return true;
}

/* Recursion is as deep as the types are: none of ours contains itself. */
static bool has_clean_texts(const ProtobufCMessage *message)
{
	for (unsigned i = 0; i < message->descriptor->n_fields; i++)
		if (!is_field_clean(message, &message->descriptor->fields[i]))
			return false;
	return true;
}

/* ---- messages ---- */

struct budget {
	size_t left;
};

static void *budget_alloc(void *arg, size_t size)
{
	struct budget *budget = arg;
	if (size > budget->left)
		return NULL;
	budget->left -= size;
	return malloc(size);
}

static void budget_free(void *arg, void *memory)
{
	(void)arg;
	free(memory);
}

ProtobufCMessage *message_unpack(
	const ProtobufCMessageDescriptor *type, const void *bytes, size_t size)
{
	struct budget budget = {.left = size * UNPACK_FACTOR + UNPACK_BASE};
	ProtobufCAllocator allocator = {
		.alloc = budget_alloc, .free = budget_free, .allocator_data = &budget};
	ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, size, bytes);
	if (message && !has_clean_texts(message)) {
		message_free(message);
		return NULL;
	}
	return message;
}

void message_free(ProtobufCMessage *message)
{
	if (message)
		protobuf_c_message_free_unpacked(message, NULL);
}

/* ---- frames ---- */

enum frame_result frame_take(struct buffer *in, size_t max_bytes, Postern__V1__Frame **ret_frame)
{
	const uint8_t *bytes = buffer_bytes(in);
	if (in->length < FRAME_HEADER_BYTES)
		return FRAME_INCOMPLETE;
	size_t size =
		(size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
	if (size > max_bytes)
		return FRAME_TOO_LARGE;
	if (size == 0)
		return FRAME_MALFORMED;
	if (size > in->length - FRAME_HEADER_BYTES)
		return FRAME_INCOMPLETE;
	ProtobufCMessage *message =
		message_unpack(&postern__v1__frame__descriptor, bytes + FRAME_HEADER_BYTES, size);
	if (!message)
		return FRAME_MALFORMED;
	buffer_consume(in, FRAME_HEADER_BYTES + size);
	*ret_frame = (Postern__V1__Frame *)message;
	return FRAME_OK;
}

void frame_free(Postern__V1__Frame *frame)
{
	message_free((ProtobufCMessage *)frame);
}

static size_t put_varint(uint8_t *out, size_t value)
{
	size_t size = 0;
	while (value >= 0x80) {
		out[size++] = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	out[size++] = (uint8_t)value;
	return size;
}

enum status frame_append(struct buffer *out, const Postern__V1__Frame *frame,
	const ProtobufCMessage *body, size_t max_bytes)
{
	uint8_t prefix[1 + 10] = {BODY_TAG}; /* tag and length of the field `body` */
	size_t frame_size = protobuf_c_message_get_packed_size(&frame->base);
	size_t body_size = body ? protobuf_c_message_get_packed_size(body) : 0;
	size_t prefix_size = body_size > 0 ? 1 + put_varint(prefix + 1, body_size) : 0;
	size_t size = frame_size + prefix_size + body_size;
	if (frame_size > max_bytes || body_size > max_bytes || size > max_bytes)
		return STATUS_INVALID_ARGUMENT;
	uint8_t *place = buffer_reserve(out, FRAME_HEADER_BYTES + size);
	if (!place)
		return STATUS_RESOURCE_EXHAUSTED;
	place[0] = (uint8_t)(size >> 24);
	place[1] = (uint8_t)(size >> 16);
	place[2] = (uint8_t)(size >> 8);
	place[3] = (uint8_t)size;
	place += FRAME_HEADER_BYTES;
	protobuf_c_message_pack(&frame->base, place);
	if (body_size > 0) {
		memcpy(place + frame_size, prefix, prefix_size);
		protobuf_c_message_pack(body, place + frame_size + prefix_size);
	}
	buffer_commit(out, FRAME_HEADER_BYTES + size);
	return STATUS_OK;
}
