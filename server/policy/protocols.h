/* The protocol definitions that filters and administrators registered. The policy document's take
 * their place by name (core/question.c). Pure; loop thread only. */
#ifndef POSTERN_SERVER_POLICY_PROTOCOLS_H
#define POSTERN_SERVER_POLICY_PROTOCOLS_H

#include "common/error.h"
#include "common/table.h"
#include "server/store/record.h"

struct protocols {
	struct table by_name, by_guid;
	struct registered *first, **end; /* in order of registration */
	size_t count;
};

struct registered {
	struct table_node by_name, by_guid;
	struct registered *next;
	struct protocol_record record;
};

void protocols_init(struct protocols *protocols);
void protocols_fini(struct protocols *protocols);
/* Name and GUID must be free. False: out of memory. */
bool protocols_add(struct protocols *protocols, const struct protocol_record *protocol);
/* By name, or by GUID text. NULL when unknown. */
const struct protocol_record *protocols_find(
	const struct protocols *protocols, const char *name_or_guid);

/* May this filter use the definition? Its own, and those that are shared. */
bool protocol_is_open_to(const struct protocol_record *protocol, const char *filter);
/* The refusal of one that is not. */
enum status protocol_not_shared(const struct protocol_record *protocol, struct error *err);

#endif
