/* Lines of grants with the same key on one gateway: the kernel holds one door a key, so only the
 * first of a line is armed. The key is what the gateway sees of a flow's first packet: from whom,
 * to where, and the transport. Pure. */
#ifndef POSTERN_SERVER_GRANTS_LINE_H
#define POSTERN_SERVER_GRANTS_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/table.h"

struct grant_record;
struct line;

/* Embedded by its owner; zero-initialised = in no line. */
struct line_place {
	struct line *line;
	struct line_place *next, *previous;
};

struct line_key {
	struct addr from; /* family ADDR_NONE: several, or anybody */
	struct endpoint to;
	uint16_t to_port_last; /* of a range, 0 = one port */
	uint8_t transport;
};

/* As the gateway sees the first packet of a flow. */
struct line_key grant_line_key(const struct grant_record *grant);
/* Of the same line? */
bool line_key_equal(const struct line_key *a, const struct line_key *b);

struct lines {
	struct table table;
};

void lines_init(struct lines *lines);
void lines_fini(struct lines *lines); /* every place must have left */
/* Joins the end of the key's line. False: out of memory. */
bool line_join(struct lines *lines, const struct line_key *key, struct line_place *place);
bool line_is_first(const struct line_place *place);
/* Before all others: it has the door already. */
void line_promote(struct line_place *place);
/* Leaves the line, if it is in one; returns who is first now and was not before, or NULL. */
struct line_place *line_leave(struct lines *lines, struct line_place *place);

#endif
