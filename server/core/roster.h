/* What the server knows beside a policy document (gateways with their labels, registered protocol
 * definitions, filters), copied so that another thread can check and compile the document. */
#ifndef POSTERN_SERVER_CORE_ROSTER_H
#define POSTERN_SERVER_CORE_ROSTER_H

#include "server/document/document.h"
#include "server/policy/policy.h"

struct core;

struct roster {
	struct gateway_record *gateways; /* each array is sorted by name */
	struct policy_gateway *policy_gateways; /* point into `gateways` */
	struct protocol_record *protocols;
	char (*filters)[RECORD_NAME_SIZE];
	size_t gateway_count, protocol_count, filter_count;
};

struct roster *roster_new(const struct core *core); /* NULL: out of memory */
void roster_free(struct roster *roster); /* accepts NULL */
/* Its references, and the GUIDs of its definitions. */
enum status roster_check(
	const struct roster *roster, const struct document *document, struct error *err);
/* As policy_query_parse() asks: `arg` is the roster. */
const struct protocol_record *roster_find_protocol(void *arg, const char *name);

#endif
