/* link: postern_rpc */
/* Frames from a stranger: any bytes, in any pieces, give the same frames; what is taken packs
 * again. */
#include <stdint.h>
#include <stdlib.h>

#include "proto/rpc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buffer in, out;
	buffer_init(&in, 1 << 20);
	buffer_init(&out, 1 << 20);
	if (!buffer_append(&in, data, size))
		return 0;
	for (;;) {
		Postern__V1__Frame *frame = NULL;
		size_t need = 0;
		enum frame_result result = frame_take(&in, FRAME_HELLO_BYTES, &frame, &need);
		if (result == FRAME_INCOMPLETE && need == 0)
			abort();
		if (result != FRAME_OK)
			break;
		if (frame_append(&out, frame, 1 << 20) != STATUS_OK)
			abort();
		frame_free(frame);
	}
	buffer_fini(&in);
	buffer_fini(&out);
	return 0;
}
