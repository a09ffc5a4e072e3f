/* link: postern_server */
/* Journal bodies: what decodes encodes again to something that decodes to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/journal/entry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct entry first, second;
	uint8_t *body = NULL;
	size_t body_size = 0;
	if (entry_decode(data, size, &first, NULL))
		return 0;
	if (entry_encode(&first, &body, &body_size, NULL) ||
		entry_decode(body, body_size, &second, NULL))
		abort();
	if (first.kind != second.kind || first.time_us != second.time_us ||
		strcmp(first.detail, second.detail) != 0 ||
		first.context_size != second.context_size || !id_equal(&first.grant, &second.grant))
		abort();
	free(body);
	entry_fini(&first);
	entry_fini(&second);
	return 0;
}
