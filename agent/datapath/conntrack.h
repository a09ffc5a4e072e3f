/* Conntrack: events of flows that carry one of our marks (filtered in the kernel), dumps, single
 * reads and changes. Knows libnetfilter_conntrack. */
#ifndef POSTERN_AGENT_DATAPATH_CONNTRACK_H
#define POSTERN_AGENT_DATAPATH_CONNTRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/tracked.h"
#include "common/error.h"

struct conntrack;

/* Sets nf_conntrack_acct, nf_conntrack_timestamp and nf_conntrack_events to 1 in this network
 * namespace; what was refused is told in `problems`, one line each, "" = nothing. Values that are
 * right already are left alone. */
void conntrack_prepare(char *problems, size_t size);

struct conntrack_config {
	uint32_t mark, mark_session; /* one bit each: of granted flows, of sessions' primaries */
	/* Of the event socket's buffer: at first, and how far it may grow when events are lost. */
	size_t buffer_bytes, buffer_most_bytes;
};
enum status conntrack_open(
	const struct conntrack_config *config, struct conntrack **ret_conntrack, struct error *err);
void conntrack_close(struct conntrack *conntrack); /* accepts NULL */
int conntrack_fd(const struct conntrack *conntrack);

enum conntrack_read {
	CONNTRACK_DRAINED = 0,
	CONNTRACK_MORE, /* the bound of one call was reached */
	CONNTRACK_LOST /* events were lost and the buffer has grown: a dump is due */
};
typedef void (*track_cb)(void *arg, enum track_event event, const struct tracked *flow);
/* Handles at most 256 waiting events. */
enum conntrack_read conntrack_read(struct conntrack *conntrack, track_cb cb, void *arg);
/* Every granted flow, labels and counters included, as TRACK_NEW. */
enum status conntrack_dump(struct conntrack *conntrack, track_cb cb, void *arg, struct error *err);
/* Reads the entry of flow->id and its tuple: its label, marks, counters and state. False: it is
 * gone. */
bool conntrack_get(struct conntrack *conntrack, struct tracked *flow);
/* Looks for the entry that wanted->client opened to wanted->remote, as either side of a translation
 * sees them. False: there is none; one that was opened by the remote does not count. */
bool conntrack_find(
	struct conntrack *conntrack, const struct tracked *wanted, struct tracked *ret_flow);
/* Sets or clears mark_session on the entry, leaving its other bits. NOT_FOUND: it is gone. */
enum status conntrack_mark_session(
	struct conntrack *conntrack, const struct tracked *flow, bool set, struct error *err);
/* Deletes the entry of flow->id and its tuple; one that is gone already is fine. */
enum status conntrack_delete(
	struct conntrack *conntrack, const struct tracked *flow, struct error *err);

/* One netlink message of the kernel's as the agent understands it; false: no flow with one of these
 * marks, or not a whole message of conntrack. For tests. */
bool conntrack_parse(const void *message, size_t size, uint32_t mark, uint32_t mark_session,
	enum track_event *ret_event, struct tracked *ret_flow);

#endif
