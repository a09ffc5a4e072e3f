/* Sets of ports. Pure. */
#ifndef POSTERN_SERVER_POLICY_PORTS_H
#define POSTERN_SERVER_POLICY_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct port_range {
	uint16_t first, last;
};
struct ports { /* sorted, disjoint, not adjacent */
	struct port_range *items;
	size_t count;
};

/* "21", "1024-65535"; port 0 is refused. Errors as ranges_add_text(). */
enum status ports_parse(const char *const *texts, size_t count, struct ports *ret_ports,
	size_t *ret_bad, struct error *err);
void ports_fini(struct ports *ports);
bool ports_cover(const struct ports *ports, uint16_t first, uint16_t last);
bool ports_touch(const struct ports *ports, uint16_t first, uint16_t last);

#endif
