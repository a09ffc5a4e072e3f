/* Frames: a 4-byte big-endian length and a packed postern.v1.Frame. Pure; bounded before anything
 * is believed. */
#ifndef POSTERN_PROTO_RPC_FRAME_H
#define POSTERN_PROTO_RPC_FRAME_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

#include "common/buffer.h"
#include "common/error.h"
#include "postern/v1/frame.pb-c.h"

#define FRAME_HEADER_BYTES 4
#define FRAME_HELLO_BYTES 4096 /* the largest frame before hello was accepted */

enum frame_result { FRAME_OK, FRAME_INCOMPLETE, FRAME_TOO_LARGE, FRAME_MALFORMED };

/* Takes one frame off the front of `in`. FRAME_INCOMPLETE: *ret_need more bytes are wanted at
 * least. */
enum frame_result frame_take(
	struct buffer *in, size_t max_bytes, Postern__V1__Frame **ret_frame, size_t *ret_need);
void frame_free(Postern__V1__Frame *frame);

/* Appends the frame; INVALID_ARGUMENT if it is larger than max_bytes, RESOURCE_EXHAUSTED if `out`
 * is full. */
enum status frame_append(struct buffer *out, const Postern__V1__Frame *frame, size_t max_bytes);

/* Unpacks a message that a peer sent, with memory bounded in proportion to `size`: nested empty
 * messages cost a sender two bytes and a reader hundreds. NULL when malformed or over the bound;
 * free with message_free. */
ProtobufCMessage *message_unpack(
	const ProtobufCMessageDescriptor *type, const void *bytes, size_t size);
void message_free(ProtobufCMessage *message);

#endif
