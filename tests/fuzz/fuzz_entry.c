/* link: postern_server */
/* entry_decode reads bytes from a disk that somebody may have written to: it must refuse or
 * understand, and what it understands must survive being encoded again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/journal/entry.h"

static void check(int good)
{
	if (!good)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct entry entry, again;
	struct error err;
	uint8_t *body = NULL, *second = NULL;
	size_t body_size = 0, second_size = 0;
	if (entry_decode(data, size, &entry, &err))
		return 0;
	check(entry_encode(&entry, &body, &body_size, &err) == STATUS_OK);
	check(entry_decode(body, body_size, &again, &err) == STATUS_OK);
	check(entry_encode(&again, &second, &second_size, &err) == STATUS_OK);
	check(body_size == second_size && memcmp(body, second, body_size) == 0);
	entry_clean(&again);
	free(body);
	free(second);
	entry_fini(&entry);
	entry_fini(&again);
	return 0;
}
