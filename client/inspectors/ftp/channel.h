/* One of the two sockets of a control connection with its input and output buffers. */
#ifndef POSTERN_FTP_CHANNEL_H
#define POSTERN_FTP_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buffer.h"
#include "common/loop.h"

#define CHANNEL_CAP 16384 /* bytes that may wait in each direction */

struct channel {
	struct loop *loop;
	int fd; /* owned; -1 = none */
	struct loop_io io;
	uint32_t wanted; /* what io waits for */
	loop_io_cb cb;
	void *arg;
	struct buffer in, out;
	bool eof; /* the peer sent its FIN */
	bool shut; /* we sent ours */
	int failed; /* errno of a dead connection */
};

void channel_init(struct channel *channel, struct loop *loop, loop_io_cb cb, void *arg);
void channel_fini(struct channel *channel); /* closes */
/* Reads once, as much as there is room for. Returns the number of bytes. */
size_t channel_receive(struct channel *channel);
/* Sends what the socket takes. Returns the number of bytes. */
size_t channel_send(struct channel *channel);
/* FIN behind what was sent; no-op the second time and while bytes wait. */
void channel_shut(struct channel *channel);
/* Waits for what can be done now: input if there is room, output if there is some. */
void channel_arm(struct channel *channel, bool connecting);

#endif
