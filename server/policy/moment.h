/* Moments as people write them in a document. Pure. */
#ifndef POSTERN_SERVER_POLICY_MOMENT_H
#define POSTERN_SERVER_POLICY_MOMENT_H

#include <stdbool.h>
#include <stdint.h>

/* RFC 3339 ("2026-12-31T18:00:00Z", with fractions and offsets); with `date_too` also "2026-12-31",
 * which is the end of that day in UTC. Microseconds since 1970 UTC. */
bool moment_parse(const char *text, bool date_too, int64_t *ret_us);
/* Days since 1970-01-01 of "2026-12-31" at the beginning of the text; NULL, or what follows it. */
const char *date_parse(const char *text, int64_t *ret_days);

#endif
