#include "common/loop.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/clock.h"

static struct loop *loop;

static void setup(void)
{
	cr_assert_eq(loop_new(&loop, NULL), STATUS_OK);
}

static void teardown(void)
{
	loop_free(loop);
}

TestSuite(loop, .init = setup, .fini = teardown, .timeout = 60);

static void count(void *arg)
{
	++*(int *)arg;
}

static void stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

/* ---- descriptors ---- */

struct pair {
	struct loop_io io;
	struct pair *other;
	int calls;
	uint32_t events;
};

static void remove_both(void *arg, uint32_t events)
{
	struct pair *pair = arg;

	pair->calls++;
	pair->events = events;
	loop_io_remove(loop, &pair->io);
	loop_io_remove(loop, &pair->other->io);
	memset(&pair->other->io, 0xff, sizeof(pair->other->io)); /* as freed memory would be */
}

/* Both events are fetched in one batch; the first callback removes (and "frees") the second io. */
Test(loop, removed_io_gets_no_fetched_event)
{
	struct pair a = {0}, b = {.other = &a};
	int fds[2] = {eventfd(1, 0), eventfd(1, 0)};

	a.other = &b;
	loop_io_add(loop, &a.io, fds[0], EPOLLIN, remove_both, &a);
	loop_io_add(loop, &b.io, fds[1], EPOLLIN, remove_both, &b);
	loop_step(loop, 0);
	loop_step(loop, 0);
	cr_assert_eq(a.calls + b.calls, 1);
	close(fds[0]);
	close(fds[1]);
}

static void note(void *arg, uint32_t events)
{
	struct pair *pair = arg;

	pair->calls++;
	pair->events = events;
}

static void replace_other(void *arg, uint32_t events)
{
	struct pair *pair = arg;

	(void)events;
	loop_io_remove(loop, &pair->io);
	loop_io_remove(loop, &pair->other->io);
	loop_io_add(loop, &pair->other->io, eventfd(0, 0), EPOLLIN, note, pair->other);
}

Test(loop, io_added_again_gets_only_fresh_events)
{
	struct pair pairs[2] = {0};

	for (int i = 0; i < 2; i++) {
		pairs[i].other = &pairs[!i];
		loop_io_add(loop, &pairs[i].io, eventfd(1, 0), EPOLLIN, replace_other, &pairs[i]);
	}
	loop_step(loop, 0);
	loop_step(loop, 0);
	cr_assert_eq(pairs[0].calls + pairs[1].calls, 0);
	cr_assert(pairs[0].io.added != pairs[1].io.added);
}

Test(loop, events_and_modify)
{
	struct pair pair = {0};
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(loop_io_add(loop, &pair.io, fds[0], EPOLLIN, note, &pair), STATUS_OK);
	loop_step(loop, 0);
	cr_assert_eq(pair.calls, 0);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	loop_step(loop, -1);
	cr_assert_eq(pair.calls, 1);
	cr_assert(pair.events & EPOLLIN);
	loop_io_modify(loop, &pair.io, 0);
	loop_step(loop, 0);
	cr_assert_eq(pair.calls, 1);
	close(fds[1]);
	loop_step(loop, -1); /* EPOLLHUP cannot be masked */
	cr_assert(pair.events & EPOLLHUP);
	loop_io_remove(loop, &pair.io);
	loop_io_remove(loop, &pair.io);
	loop_step(loop, 0);
	cr_assert_eq(pair.calls, 2);
	close(fds[0]);
}

Test(loop, bad_descriptor_is_a_status)
{
	struct loop_io io = {0};

	cr_assert_eq(loop_io_add(loop, &io, -1, EPOLLIN, note, NULL), STATUS_INTERNAL);
	cr_assert_not(io.added);
}

/* ---- timers ---- */

#define TIMERS 2000

static struct loop_timer timers[TIMERS];
static int64_t last_due, fired;

static void in_order(void *arg)
{
	struct loop_timer *timer = arg;

	cr_assert_not(timer->armed);
	cr_assert_geq(timer->due_us, last_due);
	cr_assert_geq(clock_mono_us(), timer->due_us);
	last_due = timer->due_us;
	fired++;
}

/* I3 leans on timers: they fire in order, never early, whatever was set, moved and cleared in
 * between. */
Test(loop, timers_fire_in_order_after_random_moves)
{
	int64_t now = clock_mono_us();
	unsigned state = 7, expected = 0;

	for (int round = 0; round < 20000; round++) {
		state = state * 1103515245 + 12345;
		struct loop_timer *timer = &timers[(state >> 10) % TIMERS];

		if ((state >> 8) % 4 == 0)
			loop_timer_clear(loop, timer);
		else
			loop_timer_set(loop, timer, now - 1000000 + (state >> 4) % 1000000,
				in_order, timer);
	}
	for (int i = 0; i < TIMERS; i++)
		expected += timers[i].armed;
	last_due = 0;
	for (int i = 0; i < TIMERS / 256 + 1; i++)
		loop_step(loop, 0);
	cr_assert_eq(fired, expected);
}

Test(loop, timer_is_never_early_and_moves)
{
	struct loop_timer timer = {0}, never = {0};
	int calls = 0;
	int64_t due = clock_mono_us() + 20000;

	loop_timer_set(loop, &never, CLOCK_NEVER, count, &calls);
	loop_timer_set(loop, &timer, due + 3600 * INT64_C(1000000), count, &calls);
	loop_timer_set(loop, &timer, due, count, &calls);
	while (!calls)
		loop_step(loop, -1);
	cr_assert_geq(clock_mono_us(), due);
	cr_assert_eq(calls, 1);
	loop_timer_clear(loop, &never);
	loop_timer_clear(loop, &never);
}

static void set_again(void *arg)
{
	struct loop_timer *timer = arg;

	fired++;
	loop_timer_set(loop, timer, clock_mono_us() - 1, set_again, timer);
}

/* A timer that is always due cannot keep a step from returning. */
Test(loop, due_timers_are_bounded)
{
	struct loop_timer timer = {0};

	fired = 0;
	set_again(&timer);
	loop_step(loop, 0);
	cr_assert_geq(fired, 2);
	cr_assert_leq(fired, 1000);
	loop_timer_clear(loop, &timer);
}

static void clear_other(void *arg)
{
	loop_timer_clear(loop, arg);
	fired++;
}

Test(loop, timer_cleared_by_another_of_the_same_step_is_silent)
{
	struct loop_timer a = {0}, b = {0};

	fired = 0;
	loop_timer_set(loop, &a, 1, clear_other, &b);
	loop_timer_set(loop, &b, 2, clear_other, &a);
	loop_step(loop, 0);
	cr_assert_eq(fired, 1);
}

/* ---- posts ---- */

struct post {
	struct loop_task task;
	int number;
	int thread;
};

#define THREADS 4
#define POSTS 20000

static struct post posts[THREADS][POSTS];
static int next_number[THREADS], posts_seen;

static void on_post(void *arg)
{
	struct post *post = arg;

	cr_assert(loop_is_own_thread(loop));
	cr_assert_not(post->task.queued);
	cr_assert_eq(post->number, next_number[post->thread]++);
	if (++posts_seen == THREADS * POSTS)
		loop_stop(loop);
}

static void *post_all(void *arg)
{
	int thread = (int)(intptr_t)arg;

	for (int i = 0; i < POSTS; i++) {
		posts[thread][i].number = i;
		posts[thread][i].thread = thread;
		loop_post(loop, &posts[thread][i].task, on_post, &posts[thread][i]);
	}
	return NULL;
}

Test(loop, posts_of_many_threads_arrive_once_and_in_order)
{
	pthread_t threads[THREADS];

	for (int t = 0; t < THREADS; t++)
		pthread_create(&threads[t], NULL, post_all, (void *)(intptr_t)t);
	loop_run(loop);
	for (int t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
	cr_assert_eq(posts_seen, THREADS * POSTS);
}

struct ping {
	struct loop *to;
	struct loop_task task;
	struct ping *back;
	int left;
};

static void bounce(void *arg)
{
	struct ping *ping = arg;

	if (ping->left-- == 0) {
		loop_stop(ping->to);
		return;
	}
	loop_post(ping->back->to, &ping->back->task, bounce, ping->back);
}

static void *run_loop(void *arg)
{
	loop_run(arg);
	return NULL;
}

/* Two sleeping loops wake each other 10,000 times each: a lost wake-up would hang here. */
Test(loop, no_wake_up_is_lost)
{
	struct loop *other;
	struct ping here = {.to = loop, .left = 10001}, there = {.back = &here, .left = 10000};
	pthread_t thread;

	cr_assert_eq(loop_new(&other, NULL), STATUS_OK);
	there.to = other;
	here.back = &there;
	pthread_create(&thread, NULL, run_loop, other);
	loop_post(loop, &here.task, bounce, &here);
	while (here.left > 0)
		loop_step(loop, -1);
	pthread_join(thread, NULL);
	cr_assert_eq(there.left, -1);
	loop_free(other);
}

static void post_again(void *arg)
{
	struct post *post = arg;

	post->number++;
	loop_post(loop, &post->task, post_again, post);
}

Test(loop, a_task_that_posts_itself_starves_nobody)
{
	struct post post = {0};
	struct loop_timer timer = {0};
	struct pair pair = {0};
	int calls = 0, fd = eventfd(1, 0);

	loop_io_add(loop, &pair.io, fd, EPOLLIN, note, &pair);
	loop_timer_set(loop, &timer, 1, count, &calls);
	loop_post(loop, &post.task, post_again, &post);
	loop_step(loop, -1);
	cr_assert_eq(calls, 1);
	cr_assert_eq(pair.calls, 1);
	cr_assert_geq(post.number, 1);
	cr_assert_leq(post.number, 1000);
	loop_io_remove(loop, &pair.io);
	close(fd);
}

static void free_post(void *arg)
{
	free(arg);
}

Test(loop, a_task_may_be_freed_by_its_callback)
{
	for (int i = 0; i < 1000; i++) {
		struct post *post = calloc(1, sizeof(*post));

		loop_post(loop, &post->task, free_post, post);
	}
	for (int i = 0; i < 10; i++)
		loop_step(loop, 0);
}

static void *ask_thread(void *arg)
{
	*(bool *)arg = loop_is_own_thread(loop);
	return NULL;
}

Test(loop, knows_its_thread)
{
	pthread_t thread;
	bool own = true;

	cr_assert(loop_is_own_thread(loop));
	loop_step(loop, 0);
	cr_assert(loop_is_own_thread(loop));
	pthread_create(&thread, NULL, ask_thread, &own);
	pthread_join(thread, NULL);
	cr_assert_not(own);
}

Test(loop, stop_before_run_returns_at_once_and_run_works_again)
{
	struct loop_timer timer = {0};

	loop_stop(loop);
	loop_run(loop);
	loop_timer_set(loop, &timer, clock_mono_us() + 1000, stop, NULL);
	loop_run(loop);
	cr_assert_not(timer.armed);
}

/* ---- signals ---- */

Test(loop, signals)
{
	int hups = 0, users = 0;

	cr_assert_eq(loop_signal(loop, SIGHUP, count, &hups, NULL), STATUS_OK);
	cr_assert_eq(loop_signal(loop, SIGUSR1, count, &users, NULL), STATUS_OK);
	kill(getpid(), SIGHUP);
	kill(getpid(), SIGUSR1);
	while (!hups || !users)
		loop_step(loop, -1);
	cr_assert_eq(hups, 1);
	cr_assert_eq(users, 1);
}
