/* What the files behind revision.h share. */
#ifndef POSTERN_SERVER_CORE_REVISIONS_H
#define POSTERN_SERVER_CORE_REVISIONS_H

#include "server/core/draft.h"
#include "server/core/judging.h"
#include "server/core/revision.h"

enum change_stage {
	STAGE_ASKED, /* and refused at once, if it goes no further */
	STAGE_READING, /* the document of an earlier revision */
	STAGE_DRAFT,
	STAGE_LOOKING, /* dry run: live grants are judged, nothing happens to them */
	STAGE_WRITING,
	STAGE_JUDGING, /* in force */
	STAGE_OVER, /* its end is posted */
};

/* An apply, a rollback or a confirmation on its way. */
struct change {
	struct change *next; /* of those whose end is posted */
	struct core *core;
	enum change_stage stage;
	struct revision_ask ask; /* without `packed` */
	struct rule_record added;
	bool is_own; /* the server's rollback */
	revision_cb cb; /* NULL = nobody waits */
	void *arg;
	struct packed *packed;
	struct draft *draft;
	struct policy *policy;
	uint64_t world; /* what it was compiled against */
	struct revision_record record;
	struct revision_result result;
	struct error err;
	struct loop_task task;
};

struct compiled_waiter {
	struct compiled_waiter *next;
	loop_cb cb;
	void *arg;
};

struct candidate;

struct revisions {
	struct core *core;
	struct revision_record record; /* in force; its document is `packed` */
	struct packed *packed;
	struct change *change; /* the one under way */
	struct change *confirming;
	struct change *over;
	struct judging live, look;
	struct draft *recompiling;
	bool again; /* to be compiled once more after that */
	uint64_t world; /* counts what compiled policies depend on beside their documents */
	struct compiled_waiter *waiters;
	unsigned candidates;
	struct loop_timer clock, recompile;
	int64_t next_change_us; /* of a schedule, or an expiry */
	int64_t offset_us; /* between the clocks, when that was found out */
	int64_t rollback_us; /* monotonic: not tried again before */
};

/* ---- revision.c ---- */

/* Takes the hold of the policy. */
void revisions_swap(struct revisions *revisions, struct policy *policy);
/* Live grants are judged from the beginning. */
void revisions_judge(struct revisions *revisions);

/* ---- revision_change.c ---- */

void change_judged(struct change *change); /* all live grants were */
void change_roll_back(struct revisions *revisions); /* the one that nobody confirmed */
void changes_stop(struct revisions *revisions);

/* ---- revision_clock.c ---- */

void revisions_wind(struct revisions *revisions);

#endif
