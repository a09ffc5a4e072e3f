/* link: postern_server */
/* The body of a feed, from a stranger's server: what is taken is kept and read again as it was. The
 * first byte chooses the format. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "server/feeds/copy.h"

static void must(bool hold)
{
	if (!hold)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void keep(const struct ranges *ranges)
{
	struct ranges again = {0};
	size_t size;
	uint8_t *packed = copy_pack(ranges, &size);
	bool done = copy_unpack(packed, size, &again);
	must(done && again.v4_count == ranges->v4_count && again.v6_count == ranges->v6_count);
	for (size_t i = 1; i < ranges->v4_count; i++)
		must(ranges->v4[i - 1].last < ranges->v4[i].first);
	for (size_t i = 1; i < ranges->v6_count; i++)
		must(ranges->v6[i - 1].last < ranges->v6[i].first);
	free(packed);
	ranges_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const pointers[] = {"", "/a", "/a~1b/0"};
	struct ranges ranges = {0};
	struct error err = {0};
	if (size == 0)
		return 0;
	const char *body = (const char *)data + 1;
	enum status status = data[0] % 4 == 0
		? copy_parse_text(body, size - 1, &ranges, &err)
		: copy_parse_json(body, size - 1, pointers[data[0] % 4 - 1],
			  data[0] & 8 ? "ip" : "", &ranges, &err);
	if (status == STATUS_OK)
		keep(&ranges);
	else
		must(err.text[0] != '\0');
	ranges_fini(&ranges);
	if (copy_unpack(data, size, &ranges))
		ranges_fini(&ranges);
	return 0;
}
