/* A connection as conntrack tells of it. Plain values. */
#ifndef POSTERN_AGENT_TRACKED_H
#define POSTERN_AGENT_TRACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/id.h"

struct tracked {
	uint64_t id;
	struct id grant; /* from the label; zero when the message carries none (UPDATE, DESTROY) */
	struct endpoint client, remote; /* the original direction: who opened it, and whom to */
	/* The other direction, when addresses are translated; else of family ADDR_NONE. */
	struct endpoint reply_from, reply_to;
	uint8_t transport;
	bool is_granted; /* it bears the mark of granted flows */
	bool is_primary; /* it bears the mark of sessions' primary connections; may be both */
	bool is_over; /* TCP has reached TIME_WAIT or CLOSE */
	bool accounted;
	uint64_t packets_sent, bytes_sent, packets_received, bytes_received, duration_us;
};

enum track_event { TRACK_NEW = 1, TRACK_UPDATE = 2, TRACK_DESTROY = 3 };

/* What tells one entry from all others: ids are hashes, two that live at once may share one. */
struct tracked_key {
	uint64_t id;
	uint8_t client[16], remote[16];
	uint16_t client_port, remote_port;
	uint8_t transport, family;
	uint8_t none[2];
};

void tracked_key(const struct tracked *tracked, struct tracked_key *ret_key);
bool tracked_is_translated(const struct tracked *tracked);

#endif
