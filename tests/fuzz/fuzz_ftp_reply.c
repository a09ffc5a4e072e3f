/* link: postern_ftp_lib */
/* A server's lines: a reply that names something names a port within range, and only 227 and 229
 * do. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/inspectors/ftp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reply reply = {0};
	struct reply_end end;
	while (size > 0) {
		const uint8_t *newline = memchr(data, '\n', size);
		size_t length = newline ? (size_t)(newline - data) : size;
		if (reply_line(&reply, (const char *)data, length, &end)) {
			if (end.code < 100 || end.code > 699 || reply.code != 0)
				abort();
			if (end.has_endpoint && end.code != 227 && end.code != 229)
				abort();
		}
		length += newline != NULL;
		data += length;
		size -= length;
	}
	return 0;
}
