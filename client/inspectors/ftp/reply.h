/* FTP replies (server to client), line by line: finds 227 and 229 and the address they name. Pure.
 */
#ifndef POSTERN_FTP_REPLY_H
#define POSTERN_FTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/addr.h"

/* State over the lines of one reply (RFC 959 4.2: "227-" opens a reply of several lines, "227 "
 * ends it). Zero = between replies. */
struct reply {
	int code; /* of the reply under way, 0 = none */
	bool has_endpoint; /* a line of it named an address or a port */
	struct endpoint named; /* 229: family ADDR_NONE, port only */
};

struct reply_end {
	int code;
	bool has_endpoint;
	struct endpoint named;
};

/* One line without its CR LF. True when it ends a reply: *ret_end is filled. Lines that are no
 * reply at all are passed over. */
bool reply_line(struct reply *reply, const char *line, size_t length, struct reply_end *ret_end);

#endif
