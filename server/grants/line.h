/* Lines of grants with the same key (client, transport, remote) on one gateway: the kernel holds
 * one door a key, so only the first of a line is armed. Pure. */
#ifndef POSTERN_SERVER_GRANTS_LINE_H
#define POSTERN_SERVER_GRANTS_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/table.h"

struct line;

/* Embedded by its owner; zero-initialised = in no line. */
struct line_place {
	struct line *line;
	struct line_place *next, *previous;
};

struct lines {
	struct table table;
};

void lines_init(struct lines *lines);
void lines_fini(struct lines *lines); /* every place must have left */
/* Joins the end of the key's line. False: out of memory. */
bool line_join(struct lines *lines, const struct addr *client, const struct endpoint *remote,
	uint8_t transport, struct line_place *place);
bool line_is_first(const struct line_place *place);
/* Leaves the line, if it is in one; returns who is first now and was not before, or NULL. */
struct line_place *line_leave(struct lines *lines, struct line_place *place);

#endif
