#include "proto/rpc/frame.h"

#include <stdlib.h>
#include <string.h>

/* A message of n bytes may take n * 32 + 64 KiB of memory to unpack: more than any honest one of
 * ours. */
#define UNPACK_FACTOR 32
#define UNPACK_BASE (64 * 1024)

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
	return protobuf_c_message_unpack(type, &allocator, size, bytes);
}

void message_free(ProtobufCMessage *message)
{
	if (message)
		protobuf_c_message_free_unpacked(message, NULL);
}

enum frame_result frame_take(
	struct buffer *in, size_t max_bytes, Postern__V1__Frame **ret_frame, size_t *ret_need)
{
	const uint8_t *bytes = buffer_bytes(in);
	if (in->length < FRAME_HEADER_BYTES) {
		*ret_need = FRAME_HEADER_BYTES - in->length;
		return FRAME_INCOMPLETE;
	}
	size_t size =
		(size_t)bytes[0] << 24 | (size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3];
	if (size > max_bytes)
		return FRAME_TOO_LARGE;
	if (size == 0)
		return FRAME_MALFORMED;
	if (size > in->length - FRAME_HEADER_BYTES) {
		*ret_need = size - (in->length - FRAME_HEADER_BYTES);
		return FRAME_INCOMPLETE;
	}
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

enum status frame_append(struct buffer *out, const Postern__V1__Frame *frame, size_t max_bytes)
{
	size_t size = protobuf_c_message_get_packed_size(&frame->base);
	if (size > max_bytes)
		return STATUS_INVALID_ARGUMENT;
	uint8_t *place = buffer_reserve(out, FRAME_HEADER_BYTES + size);
	if (!place)
		return STATUS_RESOURCE_EXHAUSTED;
	place[0] = (uint8_t)(size >> 24);
	place[1] = (uint8_t)(size >> 16);
	place[2] = (uint8_t)(size >> 8);
	place[3] = (uint8_t)size;
	protobuf_c_message_pack(&frame->base, place + FRAME_HEADER_BYTES);
	buffer_commit(out, FRAME_HEADER_BYTES + size);
	return STATUS_OK;
}
