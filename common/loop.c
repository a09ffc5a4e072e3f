/* Design.
 *
 * One epoll set, level-triggered. loop_step() fetches at most EVENTS_A_STEP events, then runs at
 * most TASKS_A_STEP posted tasks and TIMERS_A_STEP due timers: a flood of one kind cannot starve
 * the others.
 *
 * Removal. A callback may remove (and free) any loop_io while events for it are already fetched.
 * loop_io_remove() therefore blanks the not yet handled entries of the current batch that point to
 * it. An io that is removed and added again in one callback gets only fresh events.
 *
 * Posts. The queue is a linked list under one mutex. A poster writes to the eventfd only when the
 * loop declared, under that mutex, that it is about to sleep, and takes that declaration back: one
 * write per sleep, none while the loop is busy. A step takes the whole queue at once and keeps what
 * exceeds its bound in `ready`, so order is kept.
 *
 * Timers are an intrusive binary heap: a complete tree whose n-th node is found by the bits of n
 * below the highest one (0 = left, 1 = right). Arming a timer therefore cannot fail. Equal due
 * times fire in no particular order. A timer set in a callback for a time already past waits for
 * the next step, because `now` is read once a step.
 *
 * Signals are blocked and read from one signalfd. */
#include "common/loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/clock.h"

#define EVENTS_A_STEP 64
#define TASKS_A_STEP 256
#define TIMERS_A_STEP 256
#define SIGNALS_MAX 8

struct handled_signal {
	int signo;
	loop_cb cb;
	void *arg;
};

struct task_list {
	struct loop_task *first;
	struct loop_task **end;
};

struct loop {
	int epoll_fd, wake_fd, signal_fd;
	struct loop_io wake_io, signal_io;
	bool stopped;

	struct epoll_event batch[EVENTS_A_STEP];
	int batch_at, batch_count;

	struct loop_timer *soonest;
	size_t timer_count;

	struct task_list ready; /* loop thread only */

	pthread_mutex_t lock; /* what follows */
	struct task_list queue;
	bool asleep;
	bool has_thread;
	pthread_t thread;

	struct handled_signal signals[SIGNALS_MAX];
	size_t signal_count;
	sigset_t signal_set;
};

/* ---- task lists ---- */

static void list_init(struct task_list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static void list_append(struct task_list *list, struct loop_task *task)
{
	task->next = NULL;
	*list->end = task;
	list->end = &task->next;
}

static void list_take_all(struct task_list *list, struct task_list *from)
{
	if (!from->first)
		return;
	*list->end = from->first;
	list->end = from->end;
	list_init(from);
}

static struct loop_task *list_take(struct task_list *list)
{
	struct loop_task *task = list->first;

	if (task) {
		list->first = task->next;
		if (!list->first)
			list->end = &list->first;
	}
	return task;
}

/* ---- life ---- */

static void on_wake(void *arg, uint32_t events)
{
	struct loop *loop = arg;
	uint64_t ignored;

	(void)events;
	while (read(loop->wake_fd, &ignored, sizeof(ignored)) < 0 && errno == EINTR)
		;
}

enum status loop_new(struct loop **ret_loop, struct error *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	enum status status;

	if (!loop)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "loop: out of memory");
	loop->signal_fd = -1;
	list_init(&loop->queue);
	list_init(&loop->ready);
	pthread_mutex_init(&loop->lock, NULL);
	sigemptyset(&loop->signal_set);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll_fd < 0 || loop->wake_fd < 0) {
		status = error_errno(err, STATUS_RESOURCE_EXHAUSTED, errno,
			"loop: cannot create epoll and event descriptors");
		goto fail;
	}
	status = loop_io_add(loop, &loop->wake_io, loop->wake_fd, EPOLLIN, on_wake, loop);
	if (status != STATUS_OK) {
		error_set(err, status, "loop: cannot watch its event descriptor");
		goto fail;
	}
	*ret_loop = loop;
	return STATUS_OK;
fail:
	loop_free(loop);
	return status;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->signal_fd >= 0)
		close(loop->signal_fd);
	if (loop->wake_fd >= 0)
		close(loop->wake_fd);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

/* ---- descriptors ---- */

enum status loop_io_add(
	struct loop *loop, struct loop_io *io, int fd, uint32_t events, loop_io_cb cb, void *arg)
{
	struct epoll_event event = {.events = events, .data.ptr = io};

	assert(!io->added);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return errno == ENOMEM || errno == ENOSPC ? STATUS_RESOURCE_EXHAUSTED
							  : STATUS_INTERNAL;
	io->fd = fd;
	io->cb = cb;
	io->arg = arg;
	io->added = true;
	return STATUS_OK;
}

enum status loop_io_modify(struct loop *loop, struct loop_io *io, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = io};

	assert(io->added);
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &event) < 0)
		return errno == ENOMEM || errno == ENOSPC ? STATUS_RESOURCE_EXHAUSTED
							  : STATUS_INTERNAL;
	return STATUS_OK;
}

void loop_io_remove(struct loop *loop, struct loop_io *io)
{
	if (!io->added)
		return;
	io->added = false;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
	for (int i = loop->batch_at; i < loop->batch_count; i++) {
		if (loop->batch[i].data.ptr == io)
			loop->batch[i].data.ptr = NULL;
	}
}

/* ---- timers ---- */

static bool is_sooner(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->due_us < b->due_us;
}

/* The link that holds the n-th node (1 = root), and that node's parent. */
static struct loop_timer **heap_place(struct loop *loop, size_t n, struct loop_timer **ret_parent)
{
	struct loop_timer **link = &loop->soonest;
	unsigned depth = (unsigned)(sizeof(unsigned long) * CHAR_BIT - 1) -
		(unsigned)__builtin_clzl((unsigned long)n);

	*ret_parent = NULL;
	while (depth-- > 0) {
		*ret_parent = *link;
		link = &(*link)->child[(n >> depth) & 1];
	}
	return link;
}

static void adopt_children(struct loop_timer *timer)
{
	for (int side = 0; side < 2; side++) {
		if (timer->child[side])
			timer->child[side]->parent = timer;
	}
}

static void set_link(struct loop *loop, struct loop_timer *parent, const struct loop_timer *former,
	struct loop_timer *timer)
{
	if (!parent)
		loop->soonest = timer;
	else
		parent->child[parent->child[1] == former] = timer;
}

/* Exchanges a node with its child, whichever side it is on. */
static void swap_with_child(struct loop *loop, struct loop_timer *parent, struct loop_timer *child)
{
	struct loop_timer *grand = parent->parent, *below[2] = {child->child[0], child->child[1]};
	int side = parent->child[1] == child;

	child->child[side] = parent;
	child->child[!side] = parent->child[!side];
	parent->child[0] = below[0];
	parent->child[1] = below[1];
	set_link(loop, grand, parent, child);
	child->parent = grand;
	adopt_children(child);
	adopt_children(parent);
}

static void sift(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer *child;

	while (timer->parent && is_sooner(timer, timer->parent))
		swap_with_child(loop, timer->parent, timer);
	for (;;) {
		child = timer->child[0];
		if (timer->child[1] && is_sooner(timer->child[1], child))
			child = timer->child[1];
		if (!child || !is_sooner(child, timer))
			return;
		swap_with_child(loop, timer, child);
	}
}

void loop_timer_set(
	struct loop *loop, struct loop_timer *timer, int64_t due_us, loop_cb cb, void *arg)
{
	struct loop_timer **link;

	timer->due_us = due_us;
	timer->cb = cb;
	timer->arg = arg;
	if (!timer->armed) {
		timer->child[0] = timer->child[1] = NULL;
		link = heap_place(loop, ++loop->timer_count, &timer->parent);
		*link = timer;
		timer->armed = true;
	}
	sift(loop, timer);
}

void loop_timer_clear(struct loop *loop, struct loop_timer *timer)
{
	struct loop_timer *last, *parent, **link;

	if (!timer->armed)
		return;
	timer->armed = false;
	link = heap_place(loop, loop->timer_count--, &parent);
	last = *link;
	*link = NULL;
	if (last == timer)
		return;
	/* The last node takes the place of the removed one. */
	last->child[0] = timer->child[0];
	last->child[1] = timer->child[1];
	last->parent = timer->parent;
	set_link(loop, timer->parent, timer, last);
	adopt_children(last);
	sift(loop, last);
}

static void run_timers(struct loop *loop)
{
	int64_t now = clock_mono_us();
	struct loop_timer *timer;

	for (int i = 0; i < TIMERS_A_STEP; i++) {
		timer = loop->soonest;
		if (!timer || timer->due_us > now)
			return;
		loop_timer_clear(loop, timer);
		timer->cb(timer->arg);
	}
}

/* ---- posts ---- */

void loop_post(struct loop *loop, struct loop_task *task, loop_cb cb, void *arg)
{
	const uint64_t one = 1;
	bool wake;

	pthread_mutex_lock(&loop->lock);
	assert(!task->queued);
	task->cb = cb;
	task->arg = arg;
	task->queued = true;
	list_append(&loop->queue, task);
	wake = loop->asleep;
	loop->asleep = false;
	/* Inside the lock: after it the loop may already have run the task and been freed by it. */
	while (wake && write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_mutex_unlock(&loop->lock);
}

static void run_tasks(struct loop *loop)
{
	struct loop_task *task;

	pthread_mutex_lock(&loop->lock);
	loop->asleep = false;
	list_take_all(&loop->ready, &loop->queue);
	pthread_mutex_unlock(&loop->lock);
	for (int i = 0; i < TASKS_A_STEP; i++) {
		task = list_take(&loop->ready);
		if (!task)
			return;
		task->queued = false;
		task->cb(task->arg);
	}
}

/* ---- signals ---- */

static void on_signal(void *arg, uint32_t events)
{
	struct loop *loop = arg;
	struct signalfd_siginfo info;

	(void)events;
	while (read(loop->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		for (size_t i = 0; i < loop->signal_count; i++) {
			if (loop->signals[i].signo == (int)info.ssi_signo)
				loop->signals[i].cb(loop->signals[i].arg);
		}
	}
}

enum status loop_signal(struct loop *loop, int signo, loop_cb cb, void *arg, struct error *err)
{
	enum status status;
	sigset_t set;
	int fd;

	assert(loop->signal_count < SIGNALS_MAX);
	sigemptyset(&set);
	sigaddset(&set, signo);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	sigaddset(&loop->signal_set, signo);
	fd = signalfd(loop->signal_fd, &loop->signal_set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_errno(err, STATUS_RESOURCE_EXHAUSTED, errno,
			"loop: cannot watch signal %d", signo);
	loop->signal_fd = fd;
	if (!loop->signal_io.added) {
		status = loop_io_add(loop, &loop->signal_io, fd, EPOLLIN, on_signal, loop);
		if (status != STATUS_OK)
			return error_set(err, status, "loop: cannot watch signals");
	}
	loop->signals[loop->signal_count++] = (struct handled_signal){signo, cb, arg};
	return STATUS_OK;
}

/* ---- running ---- */

bool loop_is_own_thread(const struct loop *loop)
{
	struct loop *unconst = (struct loop *)loop;
	bool own;

	pthread_mutex_lock(&unconst->lock);
	own = !loop->has_thread || pthread_equal(loop->thread, pthread_self());
	pthread_mutex_unlock(&unconst->lock);
	return own;
}

/* Milliseconds to sleep, rounded up so that a timer is due when we wake. */
static int sleep_ms(const struct loop *loop, int timeout_ms)
{
	int64_t left_ms;

	if (!loop->soonest || loop->soonest->due_us == CLOCK_NEVER)
		return timeout_ms;
	left_ms = loop->soonest->due_us - clock_mono_us();
	left_ms = left_ms <= 0 ? 0 : left_ms / 1000 + (left_ms % 1000 != 0);
	if (left_ms > INT_MAX)
		left_ms = INT_MAX;
	return timeout_ms < 0 || left_ms < timeout_ms ? (int)left_ms : timeout_ms;
}

/* Zero when there is work; otherwise posters are told to wake us. */
static int prepare_sleep(struct loop *loop, int timeout_ms)
{
	pthread_mutex_lock(&loop->lock);
	loop->thread = pthread_self();
	loop->has_thread = true;
	if (loop->ready.first || loop->queue.first)
		timeout_ms = 0;
	else
		timeout_ms = sleep_ms(loop, timeout_ms);
	loop->asleep = timeout_ms != 0;
	pthread_mutex_unlock(&loop->lock);
	return timeout_ms;
}

void loop_step(struct loop *loop, int timeout_ms)
{
	struct loop_io *io;
	int count;

	timeout_ms = prepare_sleep(loop, timeout_ms);
	count = epoll_wait(loop->epoll_fd, loop->batch, EVENTS_A_STEP, timeout_ms);
	assert(count >= 0 || errno == EINTR);
	loop->batch_count = count < 0 ? 0 : count;
	loop->batch_at = 0;
	while (loop->batch_at < loop->batch_count) {
		struct epoll_event *event = &loop->batch[loop->batch_at++];

		io = event->data.ptr;
		if (io)
			io->cb(io->arg, event->events);
	}
	loop->batch_count = loop->batch_at = 0;
	run_tasks(loop);
	run_timers(loop);
}

void loop_run(struct loop *loop)
{
	while (!loop->stopped)
		loop_step(loop, -1);
	loop->stopped = false;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
