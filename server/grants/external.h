/* The external ports of one gateway that live grants have: each belongs to one of them at a time.
 * Pure.
 *
 * A free port is looked for at random, which is O(1) expected while the range is not nearly full,
 * and then one by one; that none is left is remembered until one is released. A port that a program
 * of the gateway turned out to have is passed over for a while. */
#ifndef POSTERN_SERVER_GRANTS_EXTERNAL_H
#define POSTERN_SERVER_GRANTS_EXTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/table.h"

#define EXTERNAL_BUSY_US (60 * 1000000LL)
#define EXTERNAL_BUSY_MAX 1024

/* Embedded by its owner; zero-initialised = holds nothing. */
struct external_place {
	struct table_node node;
	struct endpoint endpoint;
	uint8_t transport;
	bool held;
};

struct busy_port;

struct externals {
	struct table held, busy;
	struct busy_port *first_busy, **busy_end; /* oldest first */
	unsigned busy_count;
	uint16_t first, last; /* of which ports are chosen; 0 = none */
	uint64_t random;
	struct addr full_addr; /* of this address none was left ... */
	uint8_t full_transport;
	bool is_full; /* ... and none has become free since */
};

void externals_init(struct externals *externals);
void externals_fini(struct externals *externals); /* every place must have been released */
/* Anything that is no range of ports is none. */
void externals_set_range(struct externals *externals, uint32_t first, uint32_t last);

/* Who has it, NULL = nobody. */
struct external_place *external_holder(
	const struct externals *externals, const struct endpoint *endpoint, uint8_t transport);
/* Nobody may have it. False: out of memory. */
bool external_claim(struct externals *externals, const struct endpoint *endpoint, uint8_t transport,
	struct external_place *place);
void external_release(struct externals *externals, struct external_place *place);

/* A free port of the range; 0: every one of them is taken, or there is no range. */
uint16_t external_choose(
	struct externals *externals, const struct addr *addr, uint8_t transport, int64_t now_us);
/* Not to be chosen until EXTERNAL_BUSY_US have passed. Forgotten when memory is out: it is a hint.
 */
void external_is_busy(struct externals *externals, const struct endpoint *endpoint,
	uint8_t transport, int64_t now_us);

#endif
