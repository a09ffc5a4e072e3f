/* Live grants judged by a policy, a bounded number a turn of the loop: to end those that it no
 * longer allows, or to see what it would end. Loop thread only. */
#ifndef POSTERN_SERVER_CORE_JUDGING_H
#define POSTERN_SERVER_CORE_JUDGING_H

#include "server/core/revision.h"

#define JUDGED_A_TURN 1000

struct gateway;
struct grant;

/* Zero-initialised = does not run. */
struct judging {
	struct core *core;
	struct policy *policy; /* held while it runs */
	bool is_dry; /* only looks */
	struct gateway *gateway; /* the one that it is at */
	struct grant *next; /* of that gateway; moves on when that grant ends */
	struct effects *effects; /* added to; NULL = nobody wants them */
	bool is_short; /* memory was out: not all effects are listed */
	struct loop_task task;
	void (*done)(void *arg);
	void *arg;
};

/* From the beginning, whatever it was at. `done` comes when every live grant was judged, never
 * inside the call. */
void judging_start(struct judging *judging, struct core *core, struct policy *policy, bool is_dry);
bool judging_runs(const struct judging *judging);
/* `done` is not called. */
void judging_stop(struct judging *judging);
/* This grant leaves its gateway's list of live ones. */
void judging_skip(struct judging *judging, struct grant *grant);

void effects_fini(struct effects *effects);

#endif
