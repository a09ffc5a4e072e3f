/* Conntrack: events of flows that carry our mark (filtered in the kernel), dumps of them, single
 * reads. Knows libnetfilter_conntrack. */
#ifndef POSTERN_AGENT_DATAPATH_CONNTRACK_H
#define POSTERN_AGENT_DATAPATH_CONNTRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/error.h"
#include "common/id.h"

struct conntrack;

struct tracked {
	uint64_t id;
	struct id grant; /* from the label; zero when the message carries none (UPDATE, DESTROY) */
	struct endpoint client, remote;
	uint8_t transport;
	bool is_over; /* TCP has reached TIME_WAIT or CLOSE */
	bool accounted;
	uint64_t packets_sent, bytes_sent, packets_received, bytes_received, duration_us;
};

enum track_event { TRACK_NEW, TRACK_UPDATE, TRACK_DESTROY };

typedef void (*track_cb)(void *arg, enum track_event event, const struct tracked *flow);

/* Sets nf_conntrack_acct, nf_conntrack_timestamp and nf_conntrack_events to 1 in this network
 * namespace; what was refused is told in `problems`, one line each. */
void conntrack_prepare(char *problems, size_t size);
enum status conntrack_open(uint32_t mark, struct conntrack **ret_conntrack, struct error *err);
void conntrack_close(struct conntrack *conntrack); /* accepts NULL */
int conntrack_fd(const struct conntrack *conntrack);
/* Handles at most 256 waiting events. True: events were lost, a dump is due. */
bool conntrack_read(struct conntrack *conntrack, track_cb cb, void *arg);
/* Every live flow with our mark, labels and counters included. */
enum status conntrack_dump(struct conntrack *conntrack, track_cb cb, void *arg, struct error *err);
/* Fills the figures of a flow that is still in the table; false if it is gone. */
bool conntrack_figures(struct conntrack *conntrack, struct tracked *flow);

#endif
