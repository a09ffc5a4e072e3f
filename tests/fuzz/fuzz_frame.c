/* link: postern_rpc */
/* Frames from a stranger: any bytes, in any pieces, give the same frames; what is taken packs once
 * more; bodies of every kind of message are read without harm. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "postern/v1/agents.pb-c.h"
#include "postern/v1/grants.pb-c.h"
#include "proto/rpc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const bodies[] = {
	&postern__v1__hello__descriptor,
	&postern__v1__welcome__descriptor,
	&postern__v1__grant_request__descriptor,
	&postern__v1__report_request__descriptor,
	&postern__v1__sync_item__descriptor,
};

static void check(bool truth)
{
	if (!truth)
		abort();
}

static bool take_all(struct buffer *in, struct buffer *out)
{
	for (;;) {
		Postern__V1__Frame *frame = NULL;
		size_t before = in->length;
		enum frame_result result = frame_take(in, FRAME_HELLO_BYTES, &frame);
		if (result != FRAME_OK) {
			check(in->length == before && !frame);
			return result == FRAME_INCOMPLETE;
		}
		check(in->length < before);
		check(frame_append(out, frame, NULL, SIZE_MAX / 4) == STATUS_OK);
		for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
			ProtobufCMessage *body =
				message_unpack(bodies[i], frame->body.data, frame->body.len);
			struct buffer packed;
			buffer_init(&packed, SIZE_MAX / 4);
			Postern__V1__Frame head = POSTERN__V1__FRAME__INIT;
			head.call = frame->call;
			if (body)
				check(frame_append(&packed, &head, body, SIZE_MAX / 4) ==
					STATUS_OK);
			buffer_fini(&packed);
			message_free(body);
		}
		frame_clean_text(frame->message);
		frame_free(frame);
	}
}

static void feed(const uint8_t *data, size_t size, size_t piece, struct buffer *out)
{
	struct buffer in;
	buffer_init(&in, SIZE_MAX / 4);
	for (size_t at = 0; at < size;) {
		size_t step = piece < size - at ? piece : size - at;
		check(buffer_append(&in, data + at, step));
		at += step;
		if (!take_all(&in, out))
			break;
	}
	buffer_fini(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer whole, pieces;
	buffer_init(&whole, SIZE_MAX / 4);
	buffer_init(&pieces, SIZE_MAX / 4);
	feed(data, size, size ? size : 1, &whole);
	feed(data, size, size % 7 + 1, &pieces);
	check(whole.length == pieces.length);
	if (whole.length > 0)
		check(memcmp(buffer_bytes(&whole), buffer_bytes(&pieces), whole.length) == 0);
	buffer_fini(&whole);
	buffer_fini(&pieces);
	return 0;
}
