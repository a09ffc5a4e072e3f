/* Weekly blocks and date ranges in an IANA time zone. Pure but for the time zone's file, which is
 * read when a schedule is parsed. Immutable afterwards; any thread. */
#ifndef POSTERN_SERVER_POLICY_SCHEDULE_H
#define POSTERN_SERVER_POLICY_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SCHEDULE_BLOCKS_MAX 256
#define SCHEDULE_DATES_MAX 1024

struct schedule {
	struct schedule_zone *zone; /* NULL = UTC */
	struct schedule_block *blocks; /* minutes of the week, local time */
	struct schedule_dates *dates, *except;
	size_t block_count, date_count, except_count;
};

/* Texts as in document.proto's Schedule. The error's field is the piece: "time_zone", "weekly[2]",
 * "dates[0]", "except_dates[1]". An impossible schedule (never active at any time) is refused. */
struct schedule_texts {
	const char *time_zone;
	const char *const *weekly, *const *dates, *const *except_dates;
	size_t weekly_count, date_count, except_count;
};
enum status schedule_parse(
	const struct schedule_texts *texts, struct schedule *ret_schedule, struct error *err);
void schedule_fini(struct schedule *schedule);

/* Microseconds since 1970 UTC. Local time that a clock change skips or repeats is as the zone's
 * rules say at that moment: a block "02:00-03:00" is empty on the night that has no 02:30, and
 * twice as long on the night that has two. */
bool schedule_is_active(const struct schedule *schedule, int64_t at_us);
/* The first moment after at_us at which schedule_is_active() may differ; INT64_MAX = never. */
int64_t schedule_next_change(const struct schedule *schedule, int64_t at_us);

#endif
