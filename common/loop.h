/* The one event loop of a process: epoll, one timer heap, signals, and a queue on which other
 * threads post work. */
#ifndef POSTERN_COMMON_LOOP_H
#define POSTERN_COMMON_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct loop;
struct loop_io;
struct loop_timer;
struct loop_task;

typedef void (*loop_io_cb)(void *arg, uint32_t events); /* EPOLLIN | EPOLLOUT | ... */
typedef void (*loop_cb)(void *arg);

/* Embedded by their owners; zero-initialised = idle. The owner keeps them alive while they are
 * armed. */
struct loop_io {
	int fd;
	loop_io_cb cb;
	void *arg;
	bool added;
};
struct loop_timer {
	int64_t due_us; /* clock_mono_us() */
	bool armed;
	loop_cb cb;
	void *arg;
	struct loop_timer *parent, *child[2]; /* the heap's, so that arming never allocates */
};
struct loop_task {
	struct loop_task *next;
	loop_cb cb;
	void *arg;
	bool queued;
};

enum status loop_new(struct loop **ret_loop, struct error *err);
void loop_free(struct loop *loop); /* accepts NULL; everything must be disarmed */

/* Runs until loop_stop(). Each wake-up handles a bounded number of events, tasks and timers before
 * it looks again. */
void loop_run(struct loop *loop);
/* One wake-up: waits at most timeout_ms (-1 = until something happens), then handles what is ready.
 */
void loop_step(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop); /* from the loop's thread or a signal callback */
bool loop_is_own_thread(
	const struct loop *loop); /* the thread that runs it; true before the first run */

/* Loop thread only. A failing epoll_ctl is our bug or ENOMEM/ENOSPC: reported as status. */
enum status loop_io_add(
	struct loop *loop, struct loop_io *io, int fd, uint32_t events, loop_io_cb cb, void *arg);
enum status loop_io_modify(struct loop *loop, struct loop_io *io, uint32_t events);
void loop_io_remove(struct loop *loop,
	struct loop_io *io); /* safe inside callbacks, of itself and of others; no-op when idle */

/* Loop thread only. O(log n), never allocates. Setting an armed timer moves it. Fires once, never
 * early. */
void loop_timer_set(
	struct loop *loop, struct loop_timer *timer, int64_t due_us, loop_cb cb, void *arg);
void loop_timer_clear(struct loop *loop, struct loop_timer *timer); /* no-op when idle */

/* Any thread. FIFO. The task must not be queued already (the poster owns that knowledge); after cb
 * has begun the task is idle again and may be freed or posted anew. Never allocates. */
void loop_post(struct loop *loop, struct loop_task *task, loop_cb cb, void *arg);

/* Blocks `signo` in the calling thread (call before threads start) and delivers it to cb on the
 * loop. At most 8. */
enum status loop_signal(struct loop *loop, int signo, loop_cb cb, void *arg, struct error *err);

#endif
