/* IANA time zones, from the system's database. */
#ifndef POSTERN_SERVER_POLICY_ZONE_H
#define POSTERN_SERVER_POLICY_ZONE_H

#include <stdint.h>

struct schedule_zone;

struct schedule_zone *zone_new(const char *name); /* NULL: unknown */
void zone_free(struct schedule_zone *zone); /* accepts NULL */
/* Seconds east of UTC at a moment (seconds since 1970 UTC). Any thread. */
int64_t zone_offset(const struct schedule_zone *zone, int64_t at_s);

#endif
