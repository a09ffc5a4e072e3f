#include "server/worker.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>

#include "common/clock.h"
#include "common/loop.h"

#define JOBS 200

struct piece {
	unsigned number, runs, dones;
	bool ran;
	pthread_t runner;
};

static struct loop *loop;
static struct worker *worker;
static unsigned next_to_run, next_done; /* the first is the worker's thread's alone */
static struct piece pieces[JOBS];

static void setup(void)
{
	struct error err;
	cr_assert_eq(loop_new(&loop, &err), STATUS_OK);
	cr_assert_eq(worker_new(loop, &worker, &err), STATUS_OK, "%s", err.text);
}

static void teardown(void)
{
	worker_free(worker);
	loop_free(loop);
}

TestSuite(worker, .init = setup, .fini = teardown);

static void run(void *arg)
{
	struct piece *piece = arg;
	piece->runs += piece->number == next_to_run++;
	piece->runner = pthread_self();
}

static void done(void *arg, bool ran)
{
	struct piece *piece = arg;
	piece->dones++;
	piece->ran = ran;
	cr_expect(!ran || !pthread_equal(piece->runner, pthread_self()), "beside the loop");
	next_done++;
}

Test(worker, runs_jobs_in_order_beside_the_loop)
{
	for (unsigned i = 0; i < JOBS; i++) {
		pieces[i].number = i;
		cr_assert(worker_submit(worker, run, done, &pieces[i]));
	}
	int64_t deadline = clock_mono_us() + 20000000;
	while (next_done < JOBS && clock_mono_us() < deadline)
		loop_step(loop, 100);
	for (unsigned i = 0; i < JOBS; i++)
		cr_expect(pieces[i].runs == 1 && pieces[i].dones == 1 && pieces[i].ran, "%u", i);
}

/* ---- the end ---- */

static atomic_bool begun, may_end;

static void run_long(void *arg)
{
	(void)arg;
	atomic_store(&begun, true);
	while (!atomic_load(&may_end))
		;
}

static void done_long(void *arg, bool ran)
{
	*(int *)arg = ran ? 1 : 2;
}

Test(worker, tells_of_every_job_before_it_is_gone)
{
	int first = 0, second = 0;
	cr_assert(worker_submit(worker, run_long, done_long, &first));
	cr_assert(worker_submit(worker, run_long, done_long, &second));
	while (!atomic_load(&begun))
		;
	atomic_store(&may_end, true); /* the second may or may not have its turn */
	worker_free(worker);
	worker = NULL;
	cr_expect_eq(first, 1);
	cr_expect_neq(second, 0, "it was told, whether it ran or not");
}
