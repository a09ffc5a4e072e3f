/* Who may speak to the server: principals in memory, found by the hash of their token or by name.
 */
#ifndef POSTERN_SERVER_AUTH_PRINCIPALS_H
#define POSTERN_SERVER_AUTH_PRINCIPALS_H

#include "common/table.h"
#include "server/auth/scope.h"
#include "server/store/record.h"

struct principal {
	struct table_node by_hash, by_name;
	struct principal *next;
	struct principal_record record;
	struct scope scope; /* of `record`, compiled */
	uint64_t live_grants, open_sessions;
};

struct principals {
	struct table by_hash, by_name;
	struct principal *first, **end; /* in order of addition */
};

void principals_init(struct principals *principals);
void principals_fini(struct principals *principals);
/* NULL: out of memory. The name must be free. */
struct principal *principals_add(
	struct principals *principals, const struct principal_record *record);
struct principal *principals_find(const struct principals *principals, const char *name);
struct principal *principals_by_token(const struct principals *principals, const char *token);

#endif
