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

/* Takes one frame off the front of `in`; leaves `in` alone unless the result is FRAME_OK. */
enum frame_result frame_take(struct buffer *in, size_t max_bytes, Postern__V1__Frame **ret_frame);
void frame_free(Postern__V1__Frame *frame);

/* Appends the frame, with `body` (may be NULL) packed straight into it in place of frame->body.
 * INVALID_ARGUMENT if it is larger than max_bytes, RESOURCE_EXHAUSTED if `out` is full or memory is
 * out; nothing is appended then. */
enum status frame_append(struct buffer *out, const Postern__V1__Frame *frame,
	const ProtobufCMessage *body, size_t max_bytes);

/* Unpacks a message that a peer sent. NULL when it is malformed, when one of its strings is not
 * UTF-8 (other languages' libraries could not read what we store of it), or when it would take more
 * memory than a fixed multiple of `size`: nested empty messages cost a sender two bytes and a
 * reader hundreds. Free with message_free. */
ProtobufCMessage *message_unpack(
	const ProtobufCMessageDescriptor *type, const void *bytes, size_t size);
void message_free(ProtobufCMessage *message);

/* Puts '?' for every byte that is not part of a UTF-8 character: for texts that quote a peer or
 * were cut to fit. */
void frame_clean_text(char *text);

#endif
