#include "client/inspectors/ftp/channel.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_LEAST 1024 /* below this much room we do not read: no dribbling while blocked */
#define READ_MOST 4096

void channel_init(struct channel *channel, struct loop *loop, loop_io_cb cb, void *arg)
{
	*channel = (struct channel){.loop = loop, .fd = -1, .cb = cb, .arg = arg};
	buffer_init(&channel->in, CHANNEL_CAP);
	buffer_init(&channel->out, CHANNEL_CAP);
}

void channel_fini(struct channel *channel)
{
	loop_io_remove(channel->loop, &channel->io);
	if (channel->fd >= 0)
		close(channel->fd);
	channel->fd = -1;
	buffer_fini(&channel->in);
	buffer_fini(&channel->out);
}

static bool has_room(const struct channel *channel)
{
	return channel->in.cap - channel->in.length >= READ_LEAST;
}

size_t channel_receive(struct channel *channel)
{
	size_t room = channel->in.cap - channel->in.length;
	uint8_t *place;
	ssize_t got;

	if (channel->eof || channel->failed || !has_room(channel))
		return 0;
	room = room < READ_MOST ? room : READ_MOST;
	place = buffer_reserve(&channel->in, room);
	if (!place) {
		channel->failed = ENOMEM;
		return 0;
	}
	got = recv(channel->fd, place, room, 0);
	if (got > 0) {
		buffer_commit(&channel->in, (size_t)got);
		return (size_t)got;
	}
	if (got == 0)
		channel->eof = true;
	else if (errno != EAGAIN && errno != EINTR)
		channel->failed = errno;
	return 0;
}

size_t channel_send(struct channel *channel)
{
	size_t all = 0;

	while (channel->out.length > 0 && !channel->failed) {
		ssize_t sent = send(channel->fd, buffer_bytes(&channel->out), channel->out.length,
			MSG_NOSIGNAL);

		if (sent >= 0) {
			buffer_consume(&channel->out, (size_t)sent);
			all += (size_t)sent;
		} else if (errno == EAGAIN) {
			break;
		} else if (errno != EINTR) {
			channel->failed = errno;
		}
	}
	return all;
}

void channel_shut(struct channel *channel)
{
	if (channel->shut || channel->fd < 0 || channel->out.length > 0)
		return;
	channel->shut = true;
	shutdown(channel->fd, SHUT_WR);
}

/* A socket that waits for nothing is taken out of the set: epoll would report its end again and
 * again. */
void channel_arm(struct channel *channel, bool connecting)
{
	uint32_t wanted = 0;

	buffer_shrink(&channel->in);
	buffer_shrink(&channel->out);
	if (channel->fd < 0)
		return;
	if (connecting)
		wanted = EPOLLOUT;
	else
		wanted = (channel->out.length > 0 ? EPOLLOUT : 0u) |
			(!channel->eof && has_room(channel) ? EPOLLIN : 0u);
	if (wanted == channel->wanted)
		return;
	channel->wanted = wanted;
	if (!wanted)
		loop_io_remove(channel->loop, &channel->io);
	else if (channel->io.added
			? loop_io_modify(channel->loop, &channel->io, wanted) != STATUS_OK
			: loop_io_add(channel->loop, &channel->io, channel->fd, wanted, channel->cb,
				  channel->arg) != STATUS_OK)
		channel->failed = ENOMEM;
}
